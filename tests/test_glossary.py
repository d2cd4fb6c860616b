"""The glossary: whole in both languages, linked where the tutorial first uses a word, and true.

A word of the glossary counts as explained at its first place in the tutorial if it stands there in
emphasis (*tokens*: the course's sign for "defined here"), or as a link to its entry, or if such a
link came before. Headings, code blocks and addresses are not read.
"""
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from cola_nbdev.data import load_corpus

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import portuguese

# a heading is its own anchor, but where the anchor is a word of the other language
ENTRY = re.compile(r'^(?:<a id="([\w-]+)"></a>\n)?### (.+)\n\n(.+)$', re.MULTILINE)
SKIPPED = re.compile(r"^```.*?^```|^#.*?$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"en": portuguese.read, "pt": portuguese.in_portuguese}

FORMS = {  # what a heading and its plural don't say: anchor → English, Portuguese
    "acceptability": (r"acceptability", r"aceitabilidade"),
    "attention": (r"attention", r"atenção"),
    "attention-head": (r"attention heads?", r"cabeças? de atenção"),
    "attention-mask": (r"(?:attention )?masks?", r"máscaras?"),
    "batch": (r"batch(?:es)?", r"batch(?:es)?|lotes?"),
    "bootstrap": (r"bootstrap", r"bootstrap"),
    "classification-head": (r"(?:classification )?heads?", r"cabeças?(?! de atenção)"),
    "confidence-interval": (r"(?:confidence )?intervals?", r"intervalos?"),
    "dev-set": (r"dev sets?|development sets?", r"conjuntos? (?:dev|de desenvolvimento)"),
    "held-out": (r"held[- ]out|holds? out|keep a tenth", r"separ(?:a|ar|em|adas?)|escondemos"),
    "in-domain": (r"in[-_ ]domain|out[-_ ]of[-_ ]domain", r"in_domain|out_of_domain|no domínio"),
    "learning-rate": (r"learning rates?", r"taxas? de aprendizagem"),
    "mcc": (r"MCC|Matthews correlation coefficient", r"MCC|coeficiente de correlação de Matthews"),
    "minimal-pair": (r"minimal pairs?", r"pares mínimos|par mínimo"),
    "parameter": (r"parameters?", r"parâmetros?"),
    "pretrained": (r"pretrain(?:ed|ing)", r"pré-treina\w+"),
    "probability": (r"probability|probabilities", r"probabilidades?"),
    "query-key-value": (r"query", r"query|consulta"),
    "schedule": (r"schedule", r"agendamento|agendador"),
    "shape": (r"shapes?", r"shapes?"),  # forma is an everyday word
    "softmax": (r"softmax", r"softmax"),
    "tensor": (r"tensors?", r"tensor(?:es)?"),
    "tokenizer": (r"tokenizers?", r"tokenizador(?:es)?"),
    "wordpiece": (r"wordpieces?|subwords?|pieces of words",
                  r"wordpieces?|subpalavras?|pedaços de palavras"),
}
EVERYDAY = {("step", "what-you-will-do"),  # the plain word, not the term
            ("probability", "read-the-batches"),  # of a mistake, not of being acceptable
            ("calibration", "exercises"),  # the names of the pages they link to
            ("recipe", "the-optimizer"), ("recipe", "your-turn"),
            ("acceptability", "what-you-will-do")}  # in the name of CoLA
IN_CODE = {  # where a page says a term in code alone: anchor → what the code calls it
    "attention-head": r"heads?", "backpropagation": r"backward", "encoder": r"encoder",
    "hidden-size": r"hidden_size", "warm-up": r"warmup", "weight-decay": r"weight_decay"}

def slug(heading):
    "The anchor of a heading, as the site and JupyterLab make it"
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")

def glossary(language):
    "anchor → (heading, text), in one language"
    notebook = LANGUAGES[language](ROOT/"nbs/glossary.ipynb")
    text = "\n\n".join(portuguese.prose(notebook).values())
    return {anchor or slug(heading): (heading, said)
            for anchor, heading, said in ENTRY.findall(text)}

def form(anchor, heading, language):
    "A pattern of the words by which a text calls a term; a capital may begin a sentence"
    words = re.sub(r" \(.*\)", "", heading).split(", ")
    plain = "|".join(rf"{re.escape(word)}(?:s|es)?" for word in words)
    found = FORMS[anchor][language == "pt"] if anchor in FORMS else plain
    first = "|".join(rf"[{part[0]}{part[0].upper()}]{part[1:]}" if part[0].isalpha() else part
                     for part in re.split(r"\|(?![^(]*\))", found))
    return rf"(?<![\w-])(?:{first})(?![\w-])" if not first.startswith(r"\[") else first

def first_use(pattern, cells, anchor=""):
    "(cell, text of the cell, where) of the first place; None if the text never says it"
    for cell, source in cells.items():
        if (anchor, cell) in EVERYDAY: continue
        text = SKIPPED.sub(lambda match: " " * len(match[0]), source)
        text = re.sub(r"(?<=\]\()[^)\s]+(?=\))", lambda match: " " * len(match[0]), text)
        if match := re.search(pattern, text): return cell, source, match
    return None

def is_explained(anchor, pattern, cells, by_emphasis=True):
    "Whether the first use of a term is linked, or comes after a link, or is in emphasis"
    found = first_use(pattern, cells, anchor)
    if not found: return True
    cell, source, match = found
    before = list(cells)[:list(cells).index(cell)]
    link = f"](glossary.ipynb#{anchor})"
    if any(link in cells[each] for each in before) or link in source[:match.start()]: return True
    around = re.finditer(r"(\*+)([^*\n]+)\1|\[[^\]\n]+(?:\[\w+\])?[^\]\n]*\]\(([^)\s]+)\)", source)
    for span in around:
        if not span.start() <= match.start() < span.end(): continue
        if span[1]: return by_emphasis and bool(re.fullmatch(pattern, span[2]))
        return span[3] == link[2:-1]
    return False

@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tutorial_explains_its_words(language):
    cells = portuguese.prose(LANGUAGES[language](ROOT/"nbs/tutorial.ipynb"))
    english = portuguese.prose(portuguese.read(ROOT/"nbs/tutorial.ipynb"))
    lost = []
    for anchor, (heading, _) in glossary(language).items():
        pattern = form(anchor, heading, language)
        # Portuguese also sets foreign words in italics: there, emphasis counts where English has it
        by_emphasis = not any(f"](glossary.ipynb#{anchor})" in each for each in english.values())
        found = first_use(pattern, cells, anchor)
        if not found: continue
        if is_explained(anchor, pattern, cells, by_emphasis or language == "en"): continue
        cell, source, match = found
        near = source[max(0, match.start() - 40):match.end() + 25].replace("\n", " ")
        lost.append(f"{anchor}, in cell {cell}: … {near} …")
    assert not lost, "the tutorial uses these before they are explained; where it does, write " \
                     "[word](glossary.ipynb#anchor):\n" + "\n".join(lost)

def test_what_is_not_explained_is_noticed():
    pattern = form("token", "token", "en")
    link = "a [token](glossary.ipynb#token)"
    for text in ("*Tokens* are words.", "**tokens**", link, f"{link}, tokens", "tokenizer", "x"):
        assert is_explained("token", pattern, {"a": text}), text
    for text in ("A token.", "*a token of love*", f"tokens, {link}", "[token](05_x.ipynb)"):
        assert not is_explained("token", pattern, {"a": text}), text
    assert is_explained("token", pattern, {"a": "## Tokens\n```\ntoken\n```", "b": link})
    cls = form("cls", "[CLS]", "en")
    assert is_explained("cls", cls, {"a": "[`[CLS]`](glossary.ipynb#cls) comes first"})
    assert not is_explained("cls", cls, {"a": "`[CLS]` comes first"})

def test_both_languages_have_every_term():
    english, ours = glossary("en"), glossary("pt")
    assert list(english) == list(ours) and len(english) >= 45
    alphabet = {language: portuguese.prose(read(ROOT/"nbs/glossary.ipynb"))["by-the-alphabet"]
                for language, read in LANGUAGES.items()}
    for language, text in alphabet.items():
        assert sorted(re.findall(r"\]\(#([\w-]+)\)", text)) == sorted(english), language

@pytest.mark.parametrize("language", LANGUAGES)
def test_every_term_is_used_on_the_page_it_names(language):
    lost = []
    for anchor, (heading, said) in glossary(language).items():
        page = ROOT/"nbs"/re.findall(r"\]\(([\w-]+\.ipynb)\)", said)[-1]
        text = "\n".join(cell.source for cell in LANGUAGES[language](page).cells)
        pattern = IN_CODE.get(anchor) or form(anchor, heading, language)
        if not re.search(pattern, text): lost.append((anchor, page.name))
    assert not lost, f"these pages never say the word: {lost}"

def test_links_to_the_glossary_lead_to_a_term():
    known, lost = {*glossary("en"), "phenomena"}, []  # the last is the table below them
    for path in sorted((ROOT/"nbs").glob("*.ipynb")):
        text = "\n".join(portuguese.prose(portuguese.read(path)).values())
        found = re.findall(r"\]\(glossary\.ipynb#([^)]+)\)", text)
        lost += [(path.name, anchor) for anchor in found if anchor not in known]
    assert not lost, f"the glossary has no such entry: {lost}"

@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phenomenon_is_shown_by_a_pair_of_the_corpus(language):
    page = LANGUAGES[language](ROOT/"nbs/glossary.ipynb")
    table, = [cell.source for cell in page.cells if cell.id == "phenomena"]
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+) \| (.+) \|$", table.replace("**", ""), re.M)
    corpus = pd.concat(load_corpus("demo").splits.values())
    assert sorted(name for name, *_ in rows) == sorted(corpus.phenomenon.unique())
    for name, *pair in rows:
        found = corpus[corpus.sentence.isin(pair)]
        assert dict(zip(found.sentence, found.label)) == {pair[0]: 1, pair[1]: 0}
        assert set(found.phenomenon) == {name} and found.pair.nunique() == 1
