"""What is generated is up to date, and the rules of the house hold. Each message says how to mend what it found."""
import ast
import configparser
import dataclasses
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from execute import machine_paths
from fastcore.docments import docments

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))
PACKAGE = ROOT/"cola_nbdev"
MODULES = sorted(path for path in PACKAGE.glob("*.py") if not path.stem.startswith("_"))
NUMBERS = {path.stem[3:]: int(path.stem[:2]) for path in NOTEBOOKS if path.stem[:2].isdigit()} # module → the number of its notebook
MOST_LINES, MOST_CELLS = 320, 80

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)

def python(*arguments, cwd):
    "Run Python in a process of its own: IN_TEST, which the notebooks' tests leave behind, would make nbdev_export do nothing"
    environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, text=True, capture_output=True)

def files(root):
    "The text of every file that is made from something else, by its path"
    paths = [root/"pyproject.toml", *root.glob("cola_nbdev/*.py"), *root.glob("nbs/*.ipynb")]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}

# What is generated

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "The files that nbdev_export and nbdev_clean make in a copy of the project, from the notebooks alone"
    copy = tmp_path_factory.mktemp("copy")
    for name in ("settings.ini", "pyproject.toml"): shutil.copy(ROOT/name, copy)
    for folder in ("nbs", "cola_nbdev"): shutil.copytree(ROOT/folder, copy/folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for path in copy.glob("cola_nbdev/*.py"):
        if path.name != "__init__.py": path.unlink() # of this one nbdev writes only the version
    result = python("-c", "from nbdev.doclinks import nbdev_export; from nbdev.clean import nbdev_clean; "
                          "nbdev_export.__wrapped__(); nbdev_clean.__wrapped__()", cwd=copy)
    assert result.returncode == 0, result.stderr
    return files(copy)

def test_the_package_is_what_the_notebooks_export(made):
    is_made = lambda name: name.endswith((".py", ".toml"))
    here, there = ({name: text for name, text in texts.items() if is_made(name)} for texts in (files(ROOT), made))
    differ = sorted(name for name in here | there if here.get(name) != there.get(name))
    assert not differ, f"{', '.join(differ)}: not what the notebooks export. Edit the notebook, not the module, then run `make export`"

@each_notebook
def test_a_notebook_is_clean(path, made):
    name = f"nbs/{path.name}"
    assert files(ROOT)[name] == made[name], f"{name} holds metadata that nbdev_clean removes: run `make export`"

def test_the_readme_is_what_the_index_makes():
    result = python("docs/readme.py", "--check", cwd=ROOT)
    assert result.returncode == 0, result.stderr

def test_the_version_stands_where_people_look_for_it():
    settings = configparser.ConfigParser()
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    version = settings["DEFAULT"]["version"]
    for name, line in (("CITATION.cff", f"version: {version}"), ("CHANGELOG.md", f"## {version}")):
        assert line in (ROOT/name).read_text(encoding="utf-8").splitlines(), f"{name} has no line `{line}`: settings.ini says so"

# What is kept in a notebook

@each_notebook
def test_a_notebook_keeps_no_path_and_no_error(path):
    notebook = nbformat.read(path, as_version=4)
    mend = f"print something else there, then run `make outputs notebooks={path.stem}`"
    paths = list(machine_paths(notebook))
    assert not paths, f"{path.name} shows paths of somebody's machine (cell, path): {paths}; {mend}"
    errors = [number for number, cell in enumerate(notebook.cells)
              for output in cell.get("outputs", []) if output.output_type == "error"]
    assert not errors, f"{path.name} keeps an error in cells {errors}; mend the cell, then run `make outputs notebooks={path.stem}`"

TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[A-Z0-9]{16}|sk-[A-Za-z0-9]{20,}|xox[abp]-[\w-]{20,})|-----BEGIN [A-Z ]*PRIVATE KEY")

@each_notebook
def test_a_notebook_keeps_no_token(path):
    found = TOKEN.findall(path.read_text(encoding="utf-8"))
    assert not found, f"{path.name} holds what looks like an access token: revoke it, then remove it"

def test_a_token_would_be_found():
    for token in ("hf_" + "a1" * 17, "ghp_" + "b2" * 18, "AKIA" + "C3" * 8): assert TOKEN.search(f"token = '{token}'")
    assert not TOKEN.search("half_of_the_sentences task-list ghp_short")

# The sizes of rooms

@each_module
def test_a_module_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{path.name} has {lines} lines, {MOST_LINES} at most: move an idea to a notebook of its own"

@each_notebook
def test_a_notebook_is_short(path):
    cells = len(nbformat.read(path, as_version=4).cells)
    assert cells <= MOST_CELLS, f"{path.name} has {cells} cells, {MOST_CELLS} at most: move an idea to a notebook of its own"

# Who imports whom

def imported(path):
    "The modules of the package that a module imports, at its top or inside a function"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import): names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["cola_nbdev"*(node.level == 1), node.module]))
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "cola_nbdev" else [base]
        else: continue
        yield from (name.split(".")[1] for name in names if name.startswith("cola_nbdev."))

@each_module
def test_a_module_imports_only_lower_numbers(path):
    "Of two notebooks with the same number one may import the other (data imports grammar), but not each the other"
    assert path.stem in NUMBERS, f"{path.name} has no notebook of its name, nbs/NN_{path.stem}.ipynb"
    wrong = [name for name in imported(path) if name in NUMBERS
             and (NUMBERS[name] > NUMBERS[path.stem] or path.stem in imported(PACKAGE/f"{name}.py"))]
    assert not wrong, f"{path.name} imports {wrong}, which come after it: move the code down, or give the notebook a higher number"

@pytest.mark.parametrize("module, heavy", [("cola_nbdev", "torch transformers pandas"), ("cola_nbdev.cli", "torch transformers pandas"),
                                           ("cola_nbdev.evaluation", "torch")], ids=["package", "cli", "evaluation"])
def test_an_import_is_light(module, heavy):
    # What `cola --help` takes is decided by what it imports; counting that is steadier than a clock.
    result = python("-c", f"import sys, {module}; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert not result.stdout.strip(), f"`import {module}` brings in {result.stdout.strip()}: import it inside the function that uses it"

# How files are opened

@each_module
def test_nothing_that_is_opened_can_run_code(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names] + [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} & {name.split(".")[0] for name in modules}, f"{path.name}: use safetensors and JSON"
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    for call in calls:
        said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        if call.func.attr == "from_pretrained": assert said.get("trust_remote_code") is False, f"{path.name} line {call.lineno}: say trust_remote_code=False"
        assert not (call.func.attr == "load" and getattr(call.func.value, "id", "") in ("torch", "np")), f"{path.name} line {call.lineno}: torch.load and np.load open pickles"
    if path.stem == "model": # the one place where weights are opened
        opened = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "from_pretrained"]
        assert opened and all({keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}.get("use_safetensors") is True for call in opened)

# What people read about a function

def unsaid(value, name):
    "What a public function or class leaves unexplained, one line each; comments are read by what the documentation reads them with"
    if not inspect.getdoc(value): yield f"{name} has no docstring"
    if inspect.isclass(value):
        for part, method in vars(value).items():
            if inspect.isfunction(method) and not part.startswith("_"): yield from unsaid(method, f"{name}.{part}")
        if not dataclasses.is_dataclass(value) and "__init__" not in vars(value): return
    for parameter, comment in docments(value, returns=False, args_kwargs=True).items():
        if not comment and parameter not in ("self", "cls"): yield f"{name}: `{parameter}` has no comment"

@each_module
def test_every_public_name_is_explained(path):
    module = importlib.import_module(f"cola_nbdev.{path.stem}")
    values = {name: inspect.unwrap(getattr(module, name)) for name in module.__all__}
    found = [line for name, value in values.items() if getattr(value, "__module__", None) == module.__name__
             and (inspect.isfunction(value) or inspect.isclass(value)) for line in unsaid(value, name)]
    assert not found, f"{path.name}: give each a one-line docstring, and each parameter a line and a comment of its own:\n" + "\n".join(found)
