"""The languages can't drift apart: every markdown cell has its translation, every change shows."""
import difflib
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import nbdev.process
import nbformat
import polib
import pytest
import torch
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook
from test_notebooks import read_with_answers

from cola_nbdev.doctor import diagnose
from cola_nbdev.settings import Config
from cola_nbdev.training import describe_epoch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import portuguese

NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`[^`\n]+`")
ADDRESS = re.compile(r"\]\(([^)\s]+)\)")
FIGURE = re.compile(r"[.,]?\d(?:[\d.,]*\d)?")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# --- what a translation must share with its source ---

def facts(text):
    "What is the same in every language: code, addresses, and figures without their separators"
    rest = FENCE.sub("", text)
    inline = INLINE.findall(rest)
    rest = INLINE.sub("", rest)
    addresses = [each.replace("README.pt.md", "README.md") for each in ADDRESS.findall(rest)]
    figures = FIGURE.findall(ADDRESS.sub("]", rest))
    figures = [re.sub(r"[.,]", "", each).lstrip("0") or "0" for each in figures]
    found = {"code": FENCE.findall(text), "code within a line": inline,
             "address": addresses, "figure": figures}
    return {kind: Counter(each) for kind, each in found.items()}

def lost_facts(source, translation):
    "One line for each kind of fact in which the two differ"
    here = facts(translation)
    for kind, there in facts(source).items():
        missing, added = there - here[kind], here[kind] - there
        if missing or added:
            english, ours = (", ".join(sorted(each)) or "none" for each in (missing, added))
            yield f"{kind}: the English has {english}; the Portuguese has {ours}"

# --- drift ---

def difference(old, new):
    "The lines of the English that changed"
    changed = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    kept = [line for line in changed if not line.startswith(("---", "+++", "@@"))]
    return "Old and new English:" + "".join(f"\n    {line}" for line in kept)

def message_drift(cell, source, entry):
    "What is wrong with one translation"
    if entry is None or not entry.msgstr.strip():
        lines = "".join(f"\n    {line}" for line in source.splitlines())
        yield f"cell {cell} has no translation. The English:{lines}"
    elif entry.msgid != source:
        yield f"cell {cell} was changed. {difference(entry.msgid, source)}"
    elif entry.fuzzy:
        changed = difference(entry.previous_msgid or "", source)
        yield f"cell {cell} was changed and its translation not yet fixed (it is fuzzy). {changed}"
    else:
        yield from (f"cell {cell}, {lost}" for lost in lost_facts(source, entry.msgstr))

def drift(path):
    "A complaint for each message that is missing, fuzzy, left over, or has lost a fact"
    entries = [entry for entry in portuguese.catalogue(path) if not entry.obsolete]
    translated = {entry.msgctxt: entry for entry in entries}
    for cell, count in Counter(entry.msgctxt for entry in entries).items():
        if count > 1: yield f"cell {cell} is translated twice"
    cells = portuguese.messages(portuguese.read(path))
    for cell, source in cells.items(): yield from message_drift(cell, source, translated.get(cell))
    for cell in translated.keys() - cells.keys():
        yield f"there is a translation for cell {cell}, which the notebook no longer has"

# --- the translations ---

@each_notebook
def test_every_cell_has_its_translation(path):
    complaints = list(drift(path))
    assert not complaints, f"nbs/pt/{path.stem}.po: run `make pt-update`, fix these messages and " \
                           "take away their mark fuzzy:\n" + "\n".join(complaints)

def test_no_translation_is_left_over():
    stems = {path.stem for path in (ROOT/"nbs/pt").glob("*.po")} - {"plots", "figures"}
    assert stems == {path.stem for path in NOTEBOOKS}

def without_pictures(cells):
    "Cells of code as they are, but for pictures, knobs, and what is said of them"
    for cell in cells:
        if cell.cell_type != "code": continue
        for data, kind in portuguese.drawn(cell): del data[kind]
        cell.source = portuguese.ALT.sub("", cell.source)
        yield cell

@each_notebook
def test_every_picture_is_drawn_in_portuguese(path):
    "And nothing is kept of a picture that has changed"
    wanted = {portuguese.twin(path, cell, data[kind]) for cell in portuguese.read(path).cells
              for data, kind in portuguese.drawn(cell)}
    kept = set((portuguese.FIGURES/path.stem).glob("*"))
    assert wanted == kept, f"make pt-figures notebooks={path.stem}"

@each_notebook
def test_code_and_outputs_exist_once(path):
    english, ours = portuguese.read(path), portuguese.in_portuguese(path)
    code = [cell for cell in ours.cells if cell.cell_type != "markdown"]
    code = [cell for cell in code if cell.id != "plots-in-portuguese"]
    for cell, other in zip(without_pictures(english.cells), without_pictures(code), strict=True):
        cell.outputs = portuguese.question_outputs(cell, "pt")  # they are translated
        for output in cell.outputs:
            if "text" in output: output.text = portuguese.spoken(output.text)
        assert other == cell
    assert len(ours.cells) == len(english.cells) + 1
    here, there = (portuguese.messages(read(path))
                   for read in (portuguese.in_portuguese, portuguese.read))
    assert not [cell for cell in there if here[cell] == there[cell]]

@pytest.fixture
def page(tmp_path, monkeypatch):
    "A notebook and its translation, to be changed: (path, a function that changes a cell)"
    (tmp_path/"pt").mkdir()
    monkeypatch.setattr(portuguese, "CATALOGUES", tmp_path/"pt")
    path = tmp_path/"13_doctor.ipynb"
    shutil.copy(ROOT/"nbs/13_doctor.ipynb", path)
    for name in ("13_doctor.po", "plots.po"): shutil.copy(ROOT/"nbs/pt"/name, tmp_path/"pt")
    def change(old, new):
        notebook = portuguese.read(path)
        cell = next(cell for cell in notebook.cells
                    if cell.cell_type == "markdown" and old in cell.source)
        cell.source = cell.source.replace(old, new, 1)
        nbformat.write(notebook, path)
        return cell.id
    assert not list(drift(path))
    return path, change

def test_one_changed_word_is_noticed_until_the_translation_is_fixed(page):
    path, change = page
    changed = change("training", "education")
    before, = drift(path)
    assert f"cell {changed} was changed" in before and "education" in before
    portuguese.update(path)
    after, = drift(path)
    assert f"cell {changed} was changed and its translation not yet fixed" in after
    assert "training" in after and "education" in after  # old and new English
    portuguese.update(path)  # a second time changes nothing, the old English stays known
    assert list(drift(path)) == [after]
    shown = portuguese.prose(portuguese.in_portuguese(path))[changed]
    assert shown == portuguese.prose(portuguese.read(path))[changed]  # until then it is English
    catalogue = portuguese.catalogue(path)
    entry = catalogue.find(changed, by="msgctxt")
    entry.flags, entry.previous_msgid = [], None
    catalogue.save(str(portuguese.catalogue_of(path)))
    assert not list(drift(path))

def test_what_is_missing_left_over_or_double_is_noticed(page):
    path, change = page
    notebook = portuguese.read(path)
    gone = next(cell for cell in notebook.cells
                if cell.cell_type == "markdown" and "##" in cell.source)
    notebook.cells.remove(gone)
    notebook.cells.append(nbformat.v4.new_markdown_cell("A new cell.", id="a-new-cell"))
    nbformat.write(notebook, path)
    complaints = "\n".join(drift(path))
    assert "cell a-new-cell has no translation. The English:\n    A new cell." in complaints
    assert f"there is a translation for cell {gone.id}" in complaints
    assert portuguese.update(path) == 1
    found = [complaint.split(".")[0] for complaint in drift(path)]
    assert found == ["cell a-new-cell has no translation"]

@pytest.mark.parametrize("source, translation, kind", [
    ("It is .344.", "É 0,345.", "figure"), ("See `mcc`.", "Veja `MCC`.", "code within a line"),
    ("[here](a.ipynb)", "[aqui](b.ipynb)", "address"),
    ("```python\nx = 1\n```", "```python\nx = 2\n```", "code")])
def test_a_lost_fact_is_noticed(source, translation, kind):
    complaint, = lost_facts(source, translation)
    assert complaint.startswith(f"{kind}: ")

def test_figures_may_be_written_as_each_language_does():
    english = "On 1,043 sentences .344, or 34.4%; 100,000 more."
    ours = "Em 1.043 frases 0,344, ou 34,4%; mais 100.000."
    assert not list(lost_facts(english, ours))

def test_the_catalogues_are_standard(tmp_path):
    for path in sorted((ROOT/"nbs/pt").glob("*.po")):
        catalogue = polib.pofile(str(path), check_for_duplicates=True)
        assert catalogue.metadata["Language"] == "pt_BR"
        catalogue.save_as_mofile(str(tmp_path/"x.mo"))  # what gettext's own tools make of it

def test_what_the_package_printed_is_what_it_prints_in_portuguese(monkeypatch):
    row = dict(epoch=1, training_loss=.6931, training_seconds=1.2, validation_loss=.6,
               validation_accuracy=.5, validation_mcc=0, validation_acceptable=1)
    def printed():
        found = diagnose(row, torch.full((10,), .69), [0, 1], Config(), {0: "bad", 1: "acceptable"})
        return "\n".join([describe_epoch(row), *found, "kept: epoch 1"])
    english = printed()
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt")
    assert portuguese.spoken(english) == printed()
    said = set(re.findall(r"\w+", printed()))
    assert not said & {"training", "validation", "chance", "acceptable"}

def test_the_notebooks_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(portuguese, "PORTUGUESE", tmp_path/"pt")
    (tmp_path/"pt").mkdir()
    (tmp_path/"pt/old.ipynb").write_text("{}")
    portuguese.write()
    written = list((tmp_path/"pt").iterdir())
    assert {path.name for path in written} == {path.name for path in NOTEBOOKS}
    for path in written: nbformat.validate(nbformat.read(path, as_version=4))

@pytest.mark.long
@each_notebook
def test_a_portuguese_notebook_runs(path, monkeypatch, capsys):
    portuguese.PORTUGUESE.mkdir(exist_ok=True)
    ours = portuguese.PORTUGUESE/path.name
    nbformat.write(portuguese.in_portuguese(path), ours)
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt")  # as the notebook sets it; taken back after
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(nbdev.process, "read_nb", read_with_answers)
    skip_flags = get_config().tst_flags.split()
    passed, _ = run_notebook(ours, skip_flags=skip_flags, basepath=ROOT)
    if not passed: pytest.fail(capsys.readouterr().err, pytrace=False)
