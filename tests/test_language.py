"""Every plot speaks Portuguese: nothing that is drawn stays English, nothing is said that the catalogue does not hold, and nothing waits there for a plot that is gone."""
import ast
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from cola_nbdev.anatomy import measure_step,plot_forward,plot_step,trace_forward
from cola_nbdev.calibration import calibrate
from cola_nbdev.experiments import plot_cartography
from cola_nbdev.comparison import compare
from cola_nbdev.basics import ColaError
from cola_nbdev.data import Corpus,load_corpus,plot_labels,plot_lengths
from cola_nbdev.evaluation import Report,length_of,mcc_by,plot_batch_mcc,plot_confusion,plot_mcc
from cola_nbdev.experiments import Seeds
from cola_nbdev.inspection import Attention,LayerProbe,MinimalPair,plot_probes
from cola_nbdev.basics import PORTUGUESE
from cola_nbdev.model import load_model
from cola_nbdev.vocabulary import plot_pieces_per_word,plot_rarest
from cola_nbdev.search import SPACE,Search
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import encode,load_tokenizer,make_batches,plot_batches,plot_token_lengths
from cola_nbdev.training import plot_history

PACKAGE = Path(__file__).resolve().parent.parent/"cola_nbdev"
MODULES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob("*.py")) if not path.stem.startswith("_")}

def strings(tree): return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}

def calls(tree, name): return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name]

# The catalogue and the code

def test_what_is_said_is_in_the_catalogue():
    missing = sorted({(module, text) for module, tree in MODULES.items() if module != "language" for call in calls(tree, "say") for argument in call.args[:1]
                      for text in ([argument.value] if isinstance(argument, ast.Constant) else strings(argument.body) | strings(argument.orelse) if isinstance(argument, ast.IfExp) else [])} - {(module, text) for module in MODULES for text in PORTUGUESE})
    assert not missing, f"not in PORTUGUESE, nbs/00_basics.ipynb: {missing}"

def test_nothing_in_the_catalogue_is_dead():
    used = set().union(*(strings(tree) for module, tree in MODULES.items() if module != "language" and calls(tree, "say")))
    dead = sorted(set(PORTUGUESE) - used)
    assert not dead, f"no plot says these any more; take them out of PORTUGUESE, nbs/00_basics.ipynb: {dead}"

@pytest.mark.parametrize("module", MODULES)
def test_no_plot_is_labelled_past_the_catalogue(module):
    "A title, axis or legend that is a plain string with a word in it would be English in every language; what is a name everywhere may stay"
    places = {"title", "xlabel", "ylabel", "label"}
    said = [(keyword.arg, text) for name in ("set", "plot", "bar", "barh", "axhline", "axvline", "axvspan", "errorbar", "colorbar", "text", "suptitle", "set_title", "set_xlabel", "set_ylabel") for call in calls(MODULES[module], name)
            for keyword in [*call.keywords, *(ast.keyword("text", argument) for argument in call.args if name in ("text", "suptitle", "set_title", "set_xlabel", "set_ylabel"))] if keyword.arg in places | {"text"}
            for part in ([keyword.value] if isinstance(keyword.value, ast.Constant) else keyword.value.values if isinstance(keyword.value, ast.JoinedStr) else [])
            if isinstance(text := getattr(part, "value", None), str) and re.search(r"[^\W\d_]{2}", text)]
    left = [each for each in said if each[1] not in ("MCC", "[CLS]", "max_length = ")]
    assert not left, f"{module}: write translate(…, language) around {left}, and add the template to PORTUGUESE"

# Every plot, drawn on small data

@cache
def small():
    "What the plots are drawn from: the tiny network, a slice of the demo corpus, and predictions that are made up"
    demo, tokenizer, model = load_corpus("demo"), load_tokenizer("tiny"), load_model("tiny")
    corpus = Corpus("demo", {split: frame[:64] for split, frame in demo.splits.items()})
    rng = np.random.default_rng(0)
    def judged(seed):
        frame = pd.concat([part.assign(split=split) for split, part in corpus.dev.items()], ignore_index=True)
        logit = np.random.default_rng(seed).normal(2 * frame.label - 1, 2)
        return frame.assign(logit=logit, probability=1 / (1 + np.exp(-logit)), predicted=(logit > 0).astype(int))
    examples = encode(corpus.train.sentence[:8], tokenizer)
    batch = next(iter(make_batches(examples, [[*range(8)]], corpus.train.label[:8])))
    model.eval()
    trace, times = trace_forward(model, batch), measure_step(model, batch, steps=1)
    runs = [judged(1), judged(2)]
    degenerate = Report(runs[0].assign(predicted=1))
    mixed = runs[0].assign(label=runs[0].label.where(runs[0].index >= 32, 1)) # its first batch is of one class
    by_length = lambda language: mcc_by(mixed.assign(length=length_of(mixed.sentence)).sort_values("length"), "length")
    history = [{"epoch": epoch, "training_loss": .7 / epoch, "validation_loss": .75 / epoch, "validation_accuracy": .5, "validation_mcc": .1 * epoch} for epoch in (1, 2)]
    trials = [SimpleNamespace(number=number, state=SimpleNamespace(name="COMPLETE"), value=.1 * number, intermediate_values={}, duration=None, params=dict.fromkeys(SPACE, .1 * number + .01), user_attrs={}) for number in range(3)]
    pieces = ["[CLS]", "he", "left", "[SEP]"]
    weights = pd.DataFrame(rng.dirichlet(np.ones(4), 4), index=pieces, columns=pieces)
    layers = pd.DataFrame({"cls": [0, .5, 1.25], "mean": [.25, .75, 1.5]})
    probe = LayerProbe(pd.DataFrame([(layer, vector, .25 * layer, .1, .5) for layer in range(3) for vector in ("cls", "mean")], columns=["layer", "vector", "mcc", "low", "high"]), 20, 5)
    last = trace.table.part == "layer 2" # taken for a layer of another make, without attention and drawn alone
    odd = trace.table[~last | (trace.table.kind != "attention")].assign(kind=trace.table.kind.where(~last, "other"), calls=2)
    odd = type(trace)(trace.name, odd, trace.shape, None)
    return SimpleNamespace(**locals())

def halves(frame): return [part for _, part in frame.groupby("split")]

# module.function or module.Class.method → what draws it, given a language
DRAWN = {
    "data.plot_labels": [lambda s, language: plot_labels(s.corpus)],
    "data.plot_lengths": [lambda s, language: plot_lengths(s.corpus.train)],
    "tokenization.plot_token_lengths": [lambda s, language: plot_token_lengths([5, 9] * 600)],
    "tokenization.plot_batches": [lambda s, language: plot_batches([2, 4], [[0, 1]])],
    "pieces.plot_pieces_per_word": [lambda s, language: plot_pieces_per_word(s.corpus.train, s.tokenizer)],
    "pieces.plot_rarest": [lambda s, language: plot_rarest(s.demo.train, s.tokenizer)],
    "anatomy.plot_forward": [lambda s, language: plot_forward(s.trace), lambda s, language: plot_forward(s.odd)],
    "anatomy.plot_step": [lambda s, language: plot_step(s.times)],
    "training.plot_history": [lambda s, language: plot_history(s.history)],
    "calibration.Calibration.plot": [lambda s, language: calibrate(*halves(s.runs[0])).plot()],
    "comparison.Comparison.plot": [lambda s, language: compare(*s.runs, draws=200).plot()],
    "evaluation.plot_confusion": [lambda s, language: plot_confusion(s.runs[0])],
    "evaluation.plot_batch_mcc": [lambda s, language: plot_batch_mcc(s.mixed)],
    "evaluation.plot_mcc": [lambda s, language: plot_mcc(s.by_length(language)), lambda s, language: plot_mcc(mcc_by(s.mixed.assign(half=s.mixed.index < 32), "half"))],
    "evaluation.Report.figures": [lambda s, language: Report(s.runs[0]).figures(language),
        lambda s, language: Report(s.runs[0].drop(columns="phenomenon").assign(sentence_source=[f"s{number % 2}" for number in range(len(s.runs[0]))])).figures(language)["mcc_by_sentence_source"]],
    "experiments.Seeds.plot": [lambda s, language: Seeds({seed: Report(run) for seed, run in enumerate(s.runs)}).plot(), lambda s, language: Seeds({1: Report(s.runs[0]), 2: s.degenerate}).plot()],
    "cartography.plot_cartography": [lambda s, language: plot_cartography(pd.DataFrame({"confidence": s.rng.random(1043), "variability": s.rng.random(1043) / 2, "correctness": 1.}))],
    "search.Search.plot": [lambda s, language: Search(SimpleNamespace(get_trials=lambda deepcopy: s.trials), Config(model="tiny")).plot()],
    "inspection.Attention.plot": [lambda s, head=head: Attention("He left", 1, head, .5, s.weights, pd.DataFrame()).plot() for head in (2, None)],
    "inspection.MinimalPair.plot": [lambda s, size=size: MinimalPair(None, None, pd.DataFrame(), s.layers[:size]).plot() for size in (3, 2)],
    "inspection.LayerProbe.plot": [lambda s, language: s.probe.plot()],
    "inspection.plot_probes": [lambda s, language: plot_probes({"A": s.probe})],
}
each_plot = pytest.mark.parametrize("draw", [pytest.param(draw, id=f"{name}-{number}" if number else name) for name, draws in DRAWN.items() for number, draw in enumerate(draws)])

def functions(tree, prefix):
    for node in tree.body:
        if isinstance(node, ast.ClassDef): yield from functions(node, f"{prefix}.{node.name}")
        elif isinstance(node, ast.FunctionDef): yield f"{prefix}.{node.name}", node

def test_every_plot_is_tried_and_takes_a_language():
    found = {name: node for module, tree in MODULES.items() for name, node in functions(tree, module) if node.name == "figures" or node.name.startswith("plot")}
    assert set(found) == set(DRAWN), "a function that draws and is not drawn here, or the other way around"
    deaf = [name for name, node in found.items() if "language" not in [argument.arg for argument in node.args.args]]
    assert not deaf, f"{deaf}: give them language:str|None=None"

def texts(drawn):
    "Every text in the figure, or the figures, as it is seen"
    if isinstance(drawn, dict): return [text for figure in drawn.values() for text in texts(figure)]
    figure = drawn if hasattr(drawn, "savefig") else np.ravel(drawn)[0].figure
    figure.canvas.draw()
    found = [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    plt.close(figure)
    return found

@cache
def asked_for(draw): return texts(draw(small()))

WORD = re.compile(r"[^\W\d_]+(?:[_-][^\W\d_]+)*")
def words(templates): return {word.lower() for template in templates for word in WORD.findall(re.sub(r"{.*?}|\[CLS\]|\[SEP\]", " ", template.replace("_", " ")))}
ENGLISH_ONLY = words(PORTUGUESE) - words(PORTUGUESE.values()) - {"a"}

@each_plot
def test_nothing_is_left_in_english(draw):
    seen = asked_for(draw, "pt")
    left = [text for text in seen if {word.lower() for word in WORD.findall(text)} & ENGLISH_ONLY]
    assert not left, f"still English: {left}"
    points = [text for text in seen if re.search(r"\d\.\d(?!\d\d(?!\d))", text)]
    assert not points, f"a decimal point where Portuguese has a comma: {points}"
    assert set(asked_for(draw, "en")) - set(seen), "the two languages look the same"

@each_plot
def test_english_unless_asked(draw, monkeypatch):
    monkeypatch.delenv("COLA_NBDEV_LANGUAGE", raising=False)
    assert texts(draw(small(), None)) == asked_for(draw, "en")
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt")
    assert texts(draw(small(), None)) == asked_for(draw, "pt")

def test_the_english_titles_are_those_of_always(monkeypatch):
    monkeypatch.delenv("COLA_NBDEV_LANGUAGE", raising=False)
    title = lambda ax: ax.get_title()
    assert title(plot_token_lengths([5, 9] * 600)) == "1,200 sentences, the longest has 9 pieces"
    assert title(plot_batch_mcc(small().mixed)) == "MCC of every batch of 32"
    assert title(plot_forward(small().trace)) == "BertForSequenceClassification: the shapes of one batch"
    assert plot_batches([2, 4], [[0, 1]], title="Two").get_title(loc="left") == "Two: 1.33 positions per real piece"
    assert [(ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), [line.get_label() for line in ax.lines]) for ax in plot_history(small().history)] == [
        ("Loss", "epoch", "nats per sentence", ["training loss", "validation loss"]), ("Validation scores", "epoch", "score", ["validation accuracy", "validation MCC"])]
    assert Attention("He left", 6, 10, .5, pd.DataFrame(), pd.DataFrame()).title() == "Attention in layer 6, head 10"
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt") # the argument is stronger than the variable
    assert title(plot_batch_mcc(small().mixed, language="en")) == "MCC of every batch of 32"
    plt.close("all")

def test_the_report_speaks_too(tmp_path, monkeypatch):
    report = Report(small().runs[0])
    monkeypatch.delenv("COLA_NBDEV_LANGUAGE", raising=False)
    english = report.save(tmp_path/"en").read_text(encoding="utf-8")
    assert '<html lang="en">' in english and "Where the errors live" in english and 'alt="Confusion matrix"' in english
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt")
    portuguese = report.save(tmp_path/"pt").read_text(encoding="utf-8")
    assert '<html lang="pt">' in portuguese and "Onde moram os erros" in portuguese and 'alt="Matriz de confusão"' in portuguese

def test_a_language_that_plots_do_not_speak_is_refused(monkeypatch):
    with pytest.raises(ColaError, match="the language is 'xx'; plots speak en and pt"): plot_history(small().history, language="xx")
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "brazil")
    with pytest.raises(ColaError, match="COLA_NBDEV_LANGUAGE"): plot_confusion(small().runs[0])
    plt.close("all")
