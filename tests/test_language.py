"""Every plot can be drawn in Portuguese: its words are in nbs/pt/plots.po, and no others are."""
import ast
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polib
import pytest
from matplotlib.text import Text

from cola_nbdev.basics import ColaError, set_language, translate
from cola_nbdev.calibration import calibrate
from cola_nbdev.comparison import compare
from cola_nbdev.data import Corpus, load_corpus
from cola_nbdev.evaluation import (
    Report,
    length_of,
    mcc_by,
    plot_batch_mcc,
    plot_confusion,
    plot_mcc,
)
from cola_nbdev.experiments import Seeds
from cola_nbdev.inspection import Attention, LayerProbe, MinimalPair, plot_probes
from cola_nbdev.search import SPACE, Search
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import (
    load_tokenizer,
    plot_token_lengths,
)
from cola_nbdev.training import plot_history

ROOT = Path(__file__).resolve().parent.parent
PATHS = [path for path in sorted((ROOT/"cola_nbdev").glob("*.py")) if path.stem[0] != "_"]
MODULES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in PATHS}
CATALOGUE = {each.msgid: each.msgstr for each in polib.pofile(str(ROOT/"nbs/pt/plots.po"))}

def strings(tree):
    return {node.value for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}

def calls(tree, *names):
    "(name, call) of every call of one of these functions or methods"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call): continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in names: yield name, node

# The catalogue and the code

@pytest.mark.parametrize("module", MODULES)
def test_what_is_translated_is_in_the_catalogue(module):
    texts = set()
    for _, call in calls(MODULES[module], "translate"):
        text = call.args[0]
        if isinstance(text, ast.Constant): texts.add(text.value)
        if isinstance(text, ast.IfExp): texts |= strings(text.body) | strings(text.orelse)
    assert not sorted(texts - CATALOGUE.keys()), "add them to nbs/pt/plots.po, then `make export`"

def test_nothing_in_the_catalogue_is_dead():
    used = [strings(tree) for tree in MODULES.values() if any(calls(tree, "translate"))]
    dead = sorted(CATALOGUE.keys() - set().union(*used))
    assert not dead, f"no plot has these words any more; take them out of nbs/pt/plots.po: {dead}"

def test_every_text_is_translated():
    assert not [text for text, translation in CATALOGUE.items() if not translation.strip()]

PLACES = {"title", "xlabel", "ylabel", "label", "text"}
WRITE = {"text", "suptitle", "set_title", "set_xlabel", "set_ylabel"}  # take it as an argument
DRAW = {"set", "plot", "bar", "barh", "axhline", "axvline", "axvspan", "errorbar", "colorbar"}

def plain_texts(tree):
    "Words on a plot that are plain strings: English in every language"
    for name, call in calls(tree, *WRITE, *DRAW):
        values = [each.value for each in call.keywords if each.arg in PLACES]
        if name in WRITE: values += call.args
        parts = [part for value in values for part in getattr(value, "values", [value])]
        for part in parts:
            text = part.value if isinstance(part, ast.Constant) else None
            if isinstance(text, str) and re.search(r"[^\W\d_]{2}", text): yield text

@pytest.mark.parametrize("module", MODULES)
def test_no_plot_is_labelled_past_the_catalogue(module):
    names = {"MCC", "[CLS]", "max_length = "}  # the same everywhere
    left = [text for text in plain_texts(MODULES[module]) if text not in names]
    assert not left, f"{module}: write translate(…) around {left}, and add it to nbs/pt/plots.po"

# Every plot, drawn on small data

def judged(corpus, seed):
    "Predictions that are made up"
    parts = [part.assign(split=split) for split, part in corpus.dev.items()]
    frame = pd.concat(parts, ignore_index=True)
    logit = np.random.default_rng(seed).normal(2 * frame.label - 1, 2)
    probability = 1 / (1 + np.exp(-logit))
    return frame.assign(logit=logit, probability=probability, predicted=(logit > 0).astype(int))

def made_up_trial(number):
    value = .1 * number
    return SimpleNamespace(
        number=number, state=SimpleNamespace(name="COMPLETE"), value=value, duration=None,
        intermediate_values={}, params=dict.fromkeys(SPACE, value + .01), user_attrs={})

def made_up_probe():
    rows = [(layer, vector, .25 * layer, .1, .5)
            for layer in range(3) for vector in ("cls", "mean")]
    columns = ["layer", "vector", "mcc", "low", "high"]
    return LayerProbe(pd.DataFrame(rows, columns=columns), 20, 5)

@cache
def small():
    "What the plots are drawn from: the tiny model and a slice of the demo corpus"
    demo, tokenizer = load_corpus("demo"), load_tokenizer("tiny")
    corpus = Corpus("demo", {split: frame[:64] for split, frame in demo.splits.items()})
    runs = [judged(corpus, 1), judged(corpus, 2)]
    first = runs[0].index < 32
    mixed = runs[0].assign(label=runs[0].label.where(~first, 1))  # a first batch of one class
    history = [{"epoch": epoch, "training_loss": .7 / epoch, "validation_loss": .75 / epoch,
                "validation_accuracy": .5, "validation_mcc": .1 * epoch} for epoch in (1, 2)]
    trials = [made_up_trial(number) for number in range(3)]
    study = SimpleNamespace(get_trials=lambda deepcopy: trials)
    tokens, rng = ["[CLS]", "he", "left", "[SEP]"], np.random.default_rng(0)
    weights = pd.DataFrame(rng.dirichlet(np.ones(4), 4), index=tokens, columns=tokens)
    return SimpleNamespace(
        demo=demo, corpus=corpus, tokenizer=tokenizer, runs=runs,
        reports=[Report(run) for run in runs], mixed=mixed, history=history,
        degenerate=Report(runs[0].assign(predicted=1)), search=Search(study, Config(model="tiny")),
        by_length=mcc_by(mixed.assign(length=length_of(mixed.sentence)), "length"),
        by_half=mcc_by(mixed.assign(half=first), "half"), weights=weights,
        probe=made_up_probe(),
        layers=pd.DataFrame({"cls": [0, .5, 1.25], "mean": [.25, .75, 1.5]}))

def halves(frame): return [part for _, part in frame.groupby("split")]

def by_source(s):
    frame = s.runs[0].drop(columns="phenomenon")
    sources = [f"s{number % 2}" for number in range(len(frame))]
    return Report(frame.assign(sentence_source=sources)).figures()["mcc_by_sentence_source"]

def attention(s, head):
    return Attention("He left", 1, head, .5, s.weights, pd.DataFrame()).plot()

def pair(s, size): return MinimalPair(None, None, pd.DataFrame(), s.layers[:size]).plot()

# module.function or module.Class.method → what draws it
DRAWN = {
    "tokenization.plot_token_lengths": [lambda s: plot_token_lengths([5, 9] * 600)],
    "training.plot_history": [lambda s: plot_history(s.history)],
    "calibration.Calibration.plot": [lambda s: calibrate(*halves(s.runs[0])).plot()],
    "comparison.Comparison.plot": [lambda s: compare(*s.runs, draws=200).plot()],
    "evaluation.plot_confusion": [lambda s: plot_confusion(s.runs[0])],
    "evaluation.plot_batch_mcc": [lambda s: plot_batch_mcc(s.mixed)],
    "evaluation.plot_mcc": [lambda s: plot_mcc(s.by_length.rename(index=translate)),
                            lambda s: plot_mcc(s.by_half)],
    "evaluation.Report.figures": [lambda s: s.reports[0].figures(), by_source],
    "experiments.Seeds.plot": [lambda s: Seeds(dict(enumerate(s.reports))).plot(),
                               lambda s: Seeds({1: s.reports[0], 2: s.degenerate}).plot()],
    "search.Search.plot": [lambda s: s.search.plot()],
    "inspection.Attention.plot": [lambda s: attention(s, 2), lambda s: attention(s, None)],
    "inspection.MinimalPair.plot": [lambda s: pair(s, 3), lambda s: pair(s, 2)],
    "inspection.LayerProbe.plot": [lambda s: s.probe.plot()],
    "inspection.plot_probes": [lambda s: plot_probes({"A": s.probe})],
}
CASES = [pytest.param(draw, id=f"{name}-{number}")
         for name, draws in DRAWN.items() for number, draw in enumerate(draws)]

def functions(tree, prefix):
    for node in tree.body:
        if isinstance(node, ast.ClassDef): yield from functions(node, f"{prefix}.{node.name}")
        elif isinstance(node, ast.FunctionDef): yield f"{prefix}.{node.name}", node.name

def test_every_plot_is_tried():
    found = {full for module, tree in MODULES.items() for full, name in functions(tree, module)
             if name == "figures" or name.startswith("plot")}
    assert found == set(DRAWN), "a function that draws and is not drawn here, or the reverse"

def texts(drawn):
    "Every text in the figure, or the figures, as it is seen"
    if isinstance(drawn, dict): return [text for each in drawn.values() for text in texts(each)]
    figure = drawn if hasattr(drawn, "savefig") else np.ravel(drawn)[0].figure
    figure.canvas.draw()
    seen = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
    plt.close(figure)
    return [text for text in seen if text.strip()]

WORD = re.compile(r"[^\W\d_]+(?:[_-][^\W\d_]+)*")

def words(templates):
    bare = [re.sub(r"{.*?}|\[CLS\]|\[SEP\]", " ", text.replace("_", " ")) for text in templates]
    return {word.lower() for text in bare for word in WORD.findall(text)}

ENGLISH_ONLY = words(CATALOGUE) - words(CATALOGUE.values()) - {"a"}

@pytest.fixture(autouse=True)
def english(monkeypatch): monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "")

@pytest.mark.parametrize("draw", CASES)
def test_nothing_is_left_in_english(draw):
    english = texts(draw(small()))
    set_language("pt")
    seen = texts(draw(small()))
    left = [text for text in seen if {word.lower() for word in WORD.findall(text)} & ENGLISH_ONLY]
    assert not left, f"still English: {left}"
    points = [text for text in seen if re.search(r"\d\.\d(?!\d\d(?!\d))", text)]
    assert not points, f"a decimal point where Portuguese has a comma: {points}"
    assert set(english) - set(seen), "the two languages look the same"

def test_the_english_titles_are_those_of_always():
    title = plot_token_lengths([5, 9] * 600).get_title()
    assert title == "1,200 sentences, the longest has 9 tokens"
    assert plot_batch_mcc(small().mixed).get_title() == "MCC of every batch of 32"
    loss, scores = plot_history(small().history)
    assert (loss.get_title(), scores.get_title()) == ("Loss", "Validation scores")
    assert [line.get_label() for line in loss.lines] == ["training loss", "validation loss"]
    plt.close("all")

def test_the_report_is_translated_too(tmp_path, monkeypatch):
    report = small().reports[0]
    english = report.save(tmp_path/"en").read_text(encoding="utf-8")
    for text in ('<html lang="en">', "Where the errors live", 'alt="Confusion matrix"'):
        assert text in english
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt")
    portuguese = report.save(tmp_path/"pt").read_text(encoding="utf-8")
    for text in ('<html lang="pt">', "Onde moram os erros", 'alt="Matriz de confusão"'):
        assert text in portuguese

def test_an_unknown_language_is_refused(monkeypatch):
    with pytest.raises(ColaError, match="the language is 'xx'; plots are in en or pt"):
        set_language("xx")
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "brazil")
    with pytest.raises(ColaError, match="COLA_NBDEV_LANGUAGE"): plot_confusion(small().runs[0])
    plt.close("all")
