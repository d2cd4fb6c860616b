"""What is generated is up to date, and the rules of the house hold. Messages say how to fix it."""
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
sys.path.insert(0, str(ROOT/"docs"))
import portuguese  # noqa: E402, found by the line above

NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))
PACKAGE = ROOT/"cola_nbdev"
MODULES = sorted(path for path in PACKAGE.glob("*.py") if not path.stem.startswith("_"))
NUMBERS = {path.stem[3:]: int(path.stem[:2]) for path in NOTEBOOKS if path.stem[:2].isdigit()}
# 300,000 characters were the goal; this is where the package stands, so that it can't grow unseen
# (the thirtieth module, `questions`, is on twelve pages and belongs to none of them)
MOST_CHARACTERS, MOST_MODULES, MOST_CELLS, MOST_LINES, MOST_COLUMNS = 538_800, 28, 60, 50, 100
EXTRAS = {"captum", "fsspec", "gradio", "onnx", "onnxruntime", "onnxscript", "openpyxl", "optuna",
          "psycopg", "pyarrow", "ray", "s3fs", "sqlalchemy",
          "upath"}  # not everywhere: imported where needed

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)

def python(*arguments, cwd):
    "Run Python in a process of its own, without IN_TEST, which makes nbdev_export do nothing"
    environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, text=True,
                          capture_output=True)

def files(root):
    "The text of every file that is made from something else, by its path"
    paths = [root/"pyproject.toml", *root.glob("cola_nbdev/*.py"), *root.glob("nbs/*.ipynb")]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}

# What is generated

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "What nbdev_export and nbdev_clean make in a copy of the project, from the notebooks alone"
    copy = tmp_path_factory.mktemp("copy")
    for name in ("settings.ini", "pyproject.toml"): shutil.copy(ROOT/name, copy)
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "pt")
    for folder in ("nbs", "cola_nbdev"): shutil.copytree(ROOT/folder, copy/folder, ignore=ignored)
    for path in copy.glob("cola_nbdev/*.py"):
        if path.name != "__init__.py": path.unlink()  # of this one nbdev writes only the version
    code = "from nbdev.doclinks import nbdev_export; from nbdev.clean import nbdev_clean; " \
           "nbdev_export.__wrapped__(); nbdev_clean.__wrapped__()"
    result = python("-c", code, cwd=copy)
    assert result.returncode == 0, result.stderr
    return files(copy)

def test_the_package_is_what_the_notebooks_export(made):
    here = files(ROOT)
    names = [name for name in here.keys() | made.keys() if name.endswith((".py", ".toml"))]
    differ = sorted(name for name in names if here.get(name) != made.get(name))
    assert not differ, f"{', '.join(differ)}: edit the notebook, not the module; `make export`"

@each_notebook
def test_a_notebook_is_clean(path, made):
    name = f"nbs/{path.name}"
    assert files(ROOT)[name] == made[name], f"{name} holds superfluous metadata: `make export`"

def test_the_readme_is_what_the_index_makes():
    result = python("docs/readme.py", "--check", cwd=ROOT)
    assert result.returncode == 0, result.stderr

def test_the_words_of_plots_are_compiled():
    stale = portuguese.PLOTS.read_bytes() != portuguese.compiled_plots()
    assert not stale, "nbs/pt/plots.po was changed: run `make export`"

def test_the_version_stands_where_people_look_for_it():
    settings = configparser.ConfigParser()
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    version = settings["DEFAULT"]["version"]
    for name, line in (("CITATION.cff", f"version: {version}"), ("CHANGELOG.md", f"## {version}")):
        lines = (ROOT/name).read_text(encoding="utf-8").splitlines()
        assert line in lines, f"{name} has no line `{line}`: settings.ini says so"

# Lint: the first half of what `make lint` runs; reading the types takes minutes

def test_lint():
    result = python("-m", "ruff", "check", cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr

# What is kept in a notebook

@each_notebook
def test_a_notebook_keeps_no_path_and_no_error(path):
    notebook = nbformat.read(path, as_version=4)
    fix = f"run `make outputs notebooks={path.stem}`"
    paths = list(machine_paths(notebook))
    assert not paths, f"{path.name} shows paths of a machine {paths}: print something else; {fix}"
    errors = [cell.id for cell in notebook.cells for output in cell.get("outputs", [])
              if output.output_type == "error"]
    assert not errors, f"{path.name} keeps an error in cells {errors}: fix the cell, then {fix}"

QUIET = {"refused", "cleanup", "close", "set_option", "rmtree", "remove", "unlink", "set_language"}

def shows(code):
    "Whether a cell must have an output: it prints at its top level or ends with a value"
    body = ast.parse(code).body
    values = [node.value for node in body if isinstance(node, ast.Expr)]
    names = [getattr(value.func, "id", getattr(value.func, "attr", ""))
             if isinstance(value, ast.Call) else "" for value in values]
    if "print" in names: return True
    if not body or not isinstance(body[-1], ast.Expr) or code.rstrip().endswith(";"): return False
    return not (names[-1].startswith("test_") or names[-1] in QUIET)

def kept(notebook):
    "(cell, directives) of the code that a page of the site shows with its outputs"
    for cell in notebook.cells:
        if cell.cell_type != "code": continue
        directives = set(re.findall(r"^#\|\s*([\w-]+)", cell.source, re.MULTILINE))
        if not directives & {"hide", "export", "default_exp"}: yield cell, directives

@each_notebook
def test_outputs_are_kept_and_pictures_have_words(path):
    missing, mute = [], []
    for cell, directives in kept(nbformat.read(path, as_version=4)):
        if not cell.outputs and not cell.source.startswith("!") and shows(cell.source):
            missing.append(cell.id)
        if "fig-alt" not in directives and any("image/png" in out.get("data", {})
                                               for out in cell.outputs): mute.append(cell.id)
    assert not missing, f"{path.name}: cells {missing} keep no output: `make outputs` (slow=1)"
    assert not mute, f"{path.name}: begin cells {mute} with `#| fig-alt: …`, what is seen"

def test_what_shows_something_is_known():
    for code in ("print(1)", "1 + 1", "import os\nos.getcwd()"): assert shows(code)
    for code in ("x = 1", "test_eq(1, 1)", "def f(): print(1)", "plot();"): assert not shows(code)

TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[A-Z0-9]{16}"
    r"|sk-[A-Za-z0-9]{20,}|xox[abp]-[\w-]{20,})|-----BEGIN [A-Z ]*PRIVATE KEY")

@each_notebook
def test_a_notebook_keeps_no_token(path):
    found = TOKEN.findall(path.read_text(encoding="utf-8"))
    assert not found, f"{path.name} holds what looks like an access token: revoke it, remove it"

def test_a_token_would_be_found():
    for token in ("hf_" + "a1" * 17, "ghp_" + "b2" * 18, "AKIA" + "C3" * 8):
        assert TOKEN.search(f"token = '{token}'")
    assert not TOKEN.search("half_of_the_sentences task-list ghp_short")

# The sizes of rooms (DESIGN: the package is small enough to be read)

def characters(path):
    "What somebody reads: all lines but blank ones, comments of a whole line"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return sum(len(line) + 1 for line in kept)

def test_the_package_can_be_read():
    total = sum(map(characters, MODULES)) + characters(PACKAGE/"__init__.py")
    assert total <= MOST_CHARACTERS, f"{total:,} characters of code, at most {MOST_CHARACTERS:,}"
    assert len(MODULES) <= MOST_MODULES, f"{len(MODULES)} modules, at most {MOST_MODULES}"

@each_notebook
def test_a_notebook_is_short(path):
    "A question is one line, and no idea of its own: it isn't counted"
    cells = sum(not portuguese.ASKED.fullmatch(cell.source)
                for cell in nbformat.read(path, as_version=4).cells)
    assert cells <= MOST_CELLS, f"{path.name} has {cells} cells, at most {MOST_CELLS}: move an idea"

@each_module
def test_a_function_fits_on_a_screen(path):
    "Also that no line is too wide; `__all__` is nbdev's. Complexity and statements are ruff's"
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    long = [node.name for node in nodes if isinstance(node, ast.FunctionDef)
            and (node.end_lineno or 0) - node.lineno >= MOST_LINES]
    assert not long, f"{path.name}: {long} have more than {MOST_LINES} lines: split them"
    listed = next(node for node in nodes if isinstance(node, ast.Assign)
                  and ast.unparse(node.targets[0]) == "__all__")
    in_all = range(listed.lineno, (listed.end_lineno or 0) + 1)
    lines = [number for number, line in enumerate(text.splitlines(), 1)
             if len(line) > MOST_COLUMNS and number not in in_all]
    assert not lines, f"{path.name}: lines {lines} have more than {MOST_COLUMNS} columns"

# Who imports whom

def imports(tree):
    "(node, full module names) for each import in a tree"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield node, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["cola_nbdev" * (node.level == 1), node.module]))
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield node, names if base == "cola_nbdev" else [base]

@each_module
def test_a_module_imports_only_lower_numbers(path):
    assert path.stem in NUMBERS, f"{path.name} has no notebook nbs/NN_{path.stem}.ipynb"
    found = [name for _, names in imports(ast.parse(path.read_text(encoding="utf-8")))
             for name in names if name.startswith("cola_nbdev.")]
    rooms = {name.split(".")[1] for name in found} & NUMBERS.keys()
    wrong = sorted(room for room in rooms if NUMBERS[room] >= NUMBERS[path.stem])
    assert not wrong, f"{path.name} imports {wrong}, which come after it: move the code down"

def test_each_number_is_used_once():
    assert len(set(NUMBERS.values())) == len(NUMBERS), "two notebooks have the same number"

@each_module
def test_imports_are_at_the_top(path):
    "But in cli, which answers --help at once; an optional extra, or a comment that says why"
    if path.stem == "cli": return
    text = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    top = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    at_top = {id(child) for node in top for child in ast.walk(node)}
    wrong = [f"line {node.lineno}, {', '.join(names)}" for node, names in imports(tree)
             if id(node) not in at_top and "  # " not in lines[node.lineno - 1]
             and not {name.split(".")[0] for name in names} <= EXTRAS]
    assert not wrong, f"{path.name}: import at the top, or say why not on the line: {wrong}"

LIGHT = {"": "torch transformers pandas", ".cli": "torch transformers pandas",
         ".basics": "torch pandas", ".settings": "torch pandas",
         ".evaluation": "torch", ".calibration": "torch", ".comparison": "torch"}

def test_an_import_is_light():
    # What `cola --help` takes is decided by what it imports; that is steadier than a clock.
    code = "import sys, importlib\nfor name, heavy in {}.items():\n    " \
           "importlib.import_module('cola_nbdev' + name)\n    " \
           "print(*(f'{{name}}:{{each}}' for each in heavy.split() if each in sys.modules))"
    lightest_first = dict(sorted(LIGHT.items(), key=lambda item: -len(item[1])))
    result = python("-c", code.format(lightest_first), cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert not result.stdout.split(), f"an import is heavy: {result.stdout.split()}"

# How files are opened

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

def keywords(call): return {each.arg: getattr(each.value, "value", None) for each in call.keywords}

@each_module
def test_nothing_that_is_opened_can_run_code(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    roots = {name.split(".")[0] for _, names in imports(tree) for name in names}
    assert not PICKLES & roots, f"{path.name}: use safetensors and JSON"
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        if not isinstance(call.func, ast.Attribute): continue
        where = f"{path.name} line {call.lineno}"
        is_load = call.func.attr == "load" and getattr(call.func.value, "id", "") in ("torch", "np")
        assert not is_load, f"{where}: torch.load and np.load open pickles"
        if call.func.attr == "from_pretrained":
            is_safe = keywords(call).get("trust_remote_code") is False
            assert is_safe, f"{where}: say trust_remote_code=False"
    if path.stem == "model":  # the one place where weights are opened
        opened = [call for call in calls if getattr(call.func, "id", "") == "from_pretrained"
                  and getattr(call.args[0], "id", "") != "AutoConfig"]
        assert opened and all(keywords(call).get("use_safetensors") is True for call in opened)

# What people read about a function

def unsaid(value, name):
    "What a public function or class leaves unexplained, one line each, read as the site reads it"
    if not inspect.getdoc(value): yield f"{name} has no docstring"
    if inspect.isclass(value):
        for part, method in vars(value).items():
            is_public = inspect.isfunction(method) and not part.startswith("_")
            if is_public: yield from unsaid(method, f"{name}.{part}")
        if not dataclasses.is_dataclass(value) and "__init__" not in vars(value): return
    for parameter, one in docments(value, full=True, returns=False, args_kwargs=True).items():
        if parameter in ("self", "cls", "_ray_trace_ctx"): continue  # Ray adds one of its own
        if not one.docment: yield f"{name}: `{parameter}` has no comment"
        if one.anno is inspect.Parameter.empty: yield f"{name}: `{parameter}` has no type"

@each_module
def test_every_public_name_is_explained(path):
    module = importlib.import_module(f"cola_nbdev.{path.stem}")
    values = {name: inspect.unwrap(getattr(module, name)) for name in module.__all__}
    found = [line for name, value in values.items()
             if getattr(value, "__module__", None) == module.__name__
             and (inspect.isfunction(value) or inspect.isclass(value))
             for line in unsaid(value, name)]
    assert not found, f"{path.name}: a one-line docstring; for each parameter a line, a type and " \
                      "a comment:\n" + "\n".join(found)
