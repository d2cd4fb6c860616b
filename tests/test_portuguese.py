"""The two languages cannot drift apart: every markdown cell has its translation, and a change of one word in English is noticed."""
import os
import shutil
import sys
from pathlib import Path

import nbdev.process
import nbformat
import polib
import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook
from test_notebooks import read_with_answers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import portuguese

NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))

@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_has_its_translation(path):
    complaints = list(portuguese.drift(path))
    assert not complaints, f"nbs/pt/{path.stem}.po: run `make pt-update`, mend these messages and take their mark fuzzy away:\n" + "\n".join(complaints)

def test_no_translation_is_left_over():
    assert {path.stem for path in (ROOT/"nbs/pt").glob("*.po")} == {path.stem for path in NOTEBOOKS}

@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_and_outputs_exist_once(path):
    english = portuguese.read(path)
    ours = portuguese.in_portuguese(path)
    assert [cell for cell in ours.cells if cell.cell_type != "markdown" and cell.id != "plots-in-portuguese"] == [cell for cell in english.cells if cell.cell_type != "markdown"]
    assert len(ours.cells) == len(english.cells) + 1
    assert all(cell.source != portuguese.prose(english)[cell.id] for cell in ours.cells if cell.cell_type == "markdown")

@pytest.fixture
def page(tmp_path, monkeypatch):
    "A notebook and its translation, to be changed: (path, a function that changes an English cell)"
    (tmp_path/"pt").mkdir()
    monkeypatch.setattr(portuguese, "CATALOGUES", tmp_path/"pt")
    shutil.copy(ROOT/"nbs/13_doctor.ipynb", tmp_path)
    shutil.copy(ROOT/"nbs/pt/13_doctor.po", tmp_path/"pt")
    path = tmp_path/"13_doctor.ipynb"
    def change(old, new, cell_type="markdown"):
        notebook = portuguese.read(path)
        cell = next(cell for cell in notebook.cells if cell.cell_type == cell_type and old in cell.source)
        cell.source = cell.source.replace(old, new, 1)
        nbformat.write(notebook, path)
        return cell.id
    assert not list(portuguese.drift(path))
    return path, change

def test_one_changed_word_is_noticed_until_the_translation_is_mended(page):
    path, change = page
    changed = change("training", "education")
    before, = portuguese.drift(path)
    assert f"cell {changed} was changed" in before and "-" in before and "education" in before
    portuguese.update(path)
    after, = portuguese.drift(path)
    assert f"cell {changed} was changed and its translation not yet mended" in after and "training" in after and "education" in after # old and new English
    portuguese.update(path) # a second time changes nothing, the old English stays known
    assert list(portuguese.drift(path)) == [after]
    assert next(cell.source for cell in portuguese.in_portuguese(path).cells if cell.id == changed) == portuguese.prose(portuguese.read(path))[changed] # until then the page shows the English
    catalogue = portuguese.catalogue(path)
    entry = catalogue.find(changed, by="msgctxt")
    entry.flags, entry.previous_msgid = [], None
    catalogue.save(str(portuguese.catalogue_of(path)))
    assert not list(portuguese.drift(path))

def test_what_is_missing_left_over_or_double_is_noticed(page):
    path, change = page
    notebook = portuguese.read(path)
    gone = next(cell for cell in notebook.cells if cell.cell_type == "markdown" and "##" in cell.source)
    notebook.cells.remove(gone)
    notebook.cells.append(nbformat.v4.new_markdown_cell("A new cell.", id="a-new-cell"))
    nbformat.write(notebook, path)
    complaints = "\n".join(portuguese.drift(path))
    assert "cell a-new-cell has no translation. The English:\n    A new cell." in complaints and f"there is a translation for cell {gone.id}" in complaints
    portuguese.update(path)
    assert [complaint.split(".")[0] for complaint in portuguese.drift(path)] == ["cell a-new-cell has no translation"]

@pytest.mark.parametrize("source, translation, kind", [
    ("It is .344.", "É 0,345.", "figure"), ("See `mcc`.", "Veja `MCC`.", "code within a line"), ("[here](a.ipynb)", "[aqui](b.ipynb)", "address"), ("```python\nx = 1\n```", "```python\nx = 2\n```", "code")])
def test_a_lost_fact_is_noticed(source, translation, kind):
    complaint, = portuguese.lost_facts(source, translation)
    assert complaint.startswith(f"{kind}: ")

def test_figures_may_be_written_as_each_language_does():
    assert not list(portuguese.lost_facts("On 1,043 sentences .344, or 34.4%; 100,000 more.", "Em 1.043 frases 0,344, ou 34,4%; mais 100.000."))

def test_the_catalogues_are_standard(tmp_path):
    for path in sorted((ROOT/"nbs/pt").glob("*.po")):
        catalogue = polib.pofile(str(path), check_for_duplicates=True)
        assert catalogue.metadata["Language"] == "pt_BR"
        catalogue.save_as_mofile(str(tmp_path/"x.mo")) # what gettext's own tools make of it

def test_the_notebooks_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(portuguese, "PORTUGUESE", tmp_path)
    (tmp_path/"old.ipynb").write_text("{}")
    portuguese.write()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in NOTEBOOKS}
    for path in tmp_path.iterdir(): nbformat.validate(nbformat.read(path, as_version=4))

@pytest.mark.skipif(not os.environ.get("COLA_NBDEV_LONG"), reason="the code is that of the English notebooks, which run; all of them once more with COLA_NBDEV_LONG=1")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_portuguese_notebook_runs(path, monkeypatch, capsys):
    portuguese.PORTUGUESE.mkdir(exist_ok=True)
    ours = portuguese.PORTUGUESE/path.name
    nbformat.write(portuguese.in_portuguese(path), ours)
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "pt") # as the notebook itself sets it; here it is taken back afterwards
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(nbdev.process, "read_nb", read_with_answers)
    passed, _ = run_notebook(ours, skip_flags=get_config().tst_flags.split(), basepath=ROOT)
    if not passed: pytest.fail(capsys.readouterr().err, pytrace=False)
