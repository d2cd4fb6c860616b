"""The assignments of the course: solutions pass the hidden tests, mistakes fail the right one."""
import doctest
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEACHING = ROOT/"teaching"
WEEKS = sorted(path.stem for path in (TEACHING/"assignments").glob("*.py"))
MISTAKES = {(week, name): mistake for week, mistakes in
            tomllib.loads((TEACHING/"mistakes.toml").read_text(encoding="utf-8")).items()
            for name, mistake in mistakes.items()}

def module_of(path):
    "A file as a module of its own"
    spec = importlib.util.spec_from_file_location(f"teaching_{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

load = module_of(TEACHING/"hidden/conftest.py").load

def fixtures(module):
    "The fixtures of a hidden test file, by their names"
    found = {name: getattr(value, "__wrapped__", None) or getattr(value, "_fixture_function", None)
             for name, value in vars(module).items()}
    return {name: make for name, make in found.items() if make and not name.startswith("test_")}

def failed(week, path):
    "The hidden tests that a file fails, by name"
    hidden, submission, names = module_of(TEACHING/f"hidden/test_{week}.py"), load(path), []
    made = fixtures(hidden)
    for name, test in vars(hidden).items():
        if not name.startswith("test_"): continue
        wanted = inspect.signature(test).parameters
        values = {each: submission if each == "submission" else made[each]() for each in wanted}
        try: test(**values)
        except (AssertionError, NotImplementedError): names.append(name)
    return names

def test_every_week_is_whole():
    assert WEEKS == ["week1", "week2", "week3", "week4"]
    for folder, name in (("solutions", "{}.py"), ("hidden", "test_{}.py")):
        assert all((TEACHING/folder/name.format(week)).exists() for week in WEEKS), folder
    assert {week for week, _ in MISTAKES} == set(WEEKS)

@pytest.mark.parametrize("week", WEEKS)
def test_a_solution_passes(week):
    assert failed(week, TEACHING/f"solutions/{week}.py") == []

@pytest.mark.parametrize("week", WEEKS)
def test_what_students_get_is_not_a_solution(week):
    tests = vars(module_of(TEACHING/f"hidden/test_{week}.py"))
    tests = [name for name in tests if name.startswith("test_")]
    assert failed(week, TEACHING/f"assignments/{week}.py") == tests

@pytest.mark.parametrize(("week", "name"), MISTAKES, ids=str)
def test_a_mistake_is_caught_by_the_test_it_names(week, name, tmp_path):
    mistake = MISTAKES[week, name]
    code = (TEACHING/f"solutions/{week}.py").read_text(encoding="utf-8")
    for right, wrong in mistake["changes"]:
        assert code.count(right) == 1, f"the solution should hold this once:\n{right}"
        code = code.replace(right, wrong)
    (tmp_path/f"{week}.py").write_text(code, encoding="utf-8")
    assert mistake["caught_by"] in failed(week, tmp_path/f"{week}.py")

@pytest.mark.parametrize("week", WEEKS)
def test_the_examples_of_an_assignment_hold_for_the_solution(week):
    given, solved = (module_of(TEACHING/f"{folder}/{week}.py")
                     for folder in ("assignments", "solutions"))
    for name, value in vars(given).items():
        if not inspect.isfunction(value): continue
        assert list(inspect.signature(value).parameters) == \
            list(inspect.signature(getattr(solved, name)).parameters), name
        for case in doctest.DocTestFinder().find(value, name, globs=vars(given) | vars(solved)):
            assert doctest.DocTestRunner(verbose=False).run(case).failed == 0, name

def test_the_command_for_a_teacher():
    text = (TEACHING/"README.md").read_text(encoding="utf-8")
    command = re.search(r"^pytest (\S+) --submission \S+$", text, re.MULTILINE)
    assert command
    target, solution = command[1].replace("week1", "week3"), TEACHING/"solutions/week3.py"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", target,
                           "--submission", str(solution)], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout + done.stderr

def test_a_borrowed_solution_is_refused(tmp_path):
    borrowed = tmp_path/"week1.py"
    borrowed.write_text("from cola_nbdev.grammar import demo_corpus\n")
    with pytest.raises(AssertionError, match="imports cola_nbdev: write it yourself"):
        load(borrowed)
