"""Every notebook's cells are tests: they run from top to bottom, and an assertion that fails there fails here."""
import sys
from pathlib import Path

import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook # a name that pytest does not take for a test of ours

ROOT = Path(__file__).resolve().parent.parent

@pytest.mark.parametrize("path", sorted((ROOT/"nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path, monkeypatch, capsys):
    # The notebook runs inside this process, as with nbdev_test. What its shell changes there is put back for the tests after it.
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    passed, _ = run_notebook(path, skip_flags=get_config().tst_flags.split(), basepath=ROOT)
    if not passed: pytest.fail(capsys.readouterr().err, pytrace=False)

def test_the_tutorial_runs_from_top_to_bottom(monkeypatch, capsys, tmp_path):
    # Its training takes a minute with minilm; with one changed line, the one that its text offers to change, it takes seconds.
    text = (ROOT/"nbs"/"tutorial.ipynb").read_text(encoding="utf-8")
    changed = text.replace(r'corpus_name, model_name = \"demo\", \"minilm\"', r'corpus_name, model_name = \"demo\", \"tiny\"')
    assert changed != text and "#| slow" in changed
    (tmp_path/"tutorial.ipynb").write_text(changed.replace("#| slow", ""), encoding="utf-8")
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    passed, _ = run_notebook(tmp_path/"tutorial.ipynb", skip_flags=[], basepath=tmp_path)
    if not passed: pytest.fail(capsys.readouterr().err, pytrace=False)
