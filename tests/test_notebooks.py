"""Every notebook's cells are tests: they run from top to bottom, and an assertion that fails there
fails here.

The answers to a notebook's exercises are code too. They run where they stand, after the cells
above them, so that an answer cannot grow old."""

import re
import sys
from functools import partial
from pathlib import Path

import nbdev.process
import pytest
from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.test import (
    test_nb as run_notebook,
)  # a name that pytest does not take for a test of ours

ROOT = Path(__file__).resolve().parent.parent

read = nbdev.process.read_nb


# An answer runs as the reader would run it; what it prints is what stands below it.
CHECKED = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as printed_: exec({code!r}, globals())
assert printed_.getvalue().split() == {expected!r}.split(), printed_.getvalue()
"""


def answers(source, left_out="# needs "):
    "The code of the folded answers in a cell; one that says what it needs is left to people"
    folded = "\n".join(re.findall(r"<details>.*?</details>", source, flags=re.DOTALL))
    blocks = re.findall(
        r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?",
        folded,
        flags=re.DOTALL | re.MULTILINE,
    )
    return [
        CHECKED.format(code=code, expected=expected) if expected else code
        for code, expected in blocks
        if not code.startswith(left_out)
    ]


def read_with_answers(path, left_out="# needs "):
    "A notebook whose folded answers are cells"
    notebook = read(path)
    notebook.cells = [
        each
        for cell in notebook.cells
        for each in [
            cell,
            *map(mk_cell, answers(cell.source, left_out) if cell.cell_type == "markdown" else []),
        ]
    ]
    for number, cell in enumerate(notebook.cells):
        cell.idx_ = number
    return notebook


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path, monkeypatch, capsys):
    # The notebook runs inside this process, as with nbdev_test. What its shell changes there
    # is put back for the tests after it.
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(nbdev.process, "read_nb", read_with_answers)
    passed, _ = run_notebook(path, skip_flags=get_config().tst_flags.split(), basepath=ROOT)
    if not passed:
        pytest.fail(capsys.readouterr().err, pytrace=False)


def test_the_tutorial_runs_from_top_to_bottom(monkeypatch, capsys, tmp_path):
    # Its training takes a minute with minilm; with one changed line, the one that its text
    # offers to change, it takes seconds.
    text = (ROOT / "nbs" / "tutorial.ipynb").read_text(encoding="utf-8")
    changed = text.replace(
        r"corpus_name, model_name = \"demo\", \"minilm\"",
        r"corpus_name, model_name = \"demo\", \"tiny\"",
    )
    assert changed != text and "#| slow" in changed
    (tmp_path / "tutorial.ipynb").write_text(changed.replace("#| slow", ""), encoding="utf-8")
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(
        nbdev.process, "read_nb", partial(read_with_answers, left_out="# needs the real corpus")
    )
    passed, _ = run_notebook(tmp_path / "tutorial.ipynb", skip_flags=[], basepath=tmp_path)
    if not passed:
        pytest.fail(capsys.readouterr().err, pytrace=False)


def test_answers_are_found():
    folded = (
        "**1.** Why?\n\n<details><summary>Answer</summary>\n\n"
        "```python\nfirst = 1\n\nsecond = 2\n```\n\n```text\n1\n```\n\n</details>\n"
    )
    (checked,) = answers(folded)
    assert checked == CHECKED.format(code="first = 1\n\nsecond = 2\n", expected="1\n")
    with pytest.raises(AssertionError):
        exec(checked, {})  # it prints nothing
    exec(checked.replace("second = 2", "print(first)"), {})
    assert answers("```python\nshown = 1\n```") == []
    assert answers(folded.replace("first", "# needs the real corpus\nfirst")) == []


EXERCISES = [
    path
    for path in sorted((ROOT / "nbs").glob("*.ipynb"))
    if "## Exercises" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_exercises_are_answered(path):
    source = next(
        cell.source
        for cell in read(path).cells
        if cell.cell_type == "markdown" and cell.source.startswith("## Exercises")
    )
    numbers = re.findall(r"^\*\*(\d)\.\*\* ", source, flags=re.MULTILINE)
    folded = re.findall(
        r"<details><summary>Answer</summary>\n\n(.*?)\n\n</details>", source, flags=re.DOTALL
    )
    assert numbers == ["1", "2", "3"] and len(folded) == 3, (
        f"{path.name}: three exercises, **1.** to **3.**, each with "
        "<details><summary>Answer</summary>, a blank line, the answer, a blank line, </details>"
    )
