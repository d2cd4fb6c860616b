"""Breaks the modules that make numbers, one small change at a time, and counts what the tests miss.

    python tests/mutants.py [modules] [--each 12] [--seed 0]

A mutant is a module with one node of its syntax tree changed: < for <=, + for -, a number, a
condition turned around, a statement or an argument left out. Each is tried in a fork that imports
the package anew with that module in place of the real one: first the fast tests, then, if these
pass, the module's own page, whose cells are changed alike. Not changed are plots, what is
displayed, and messages. Unchanged, the tests must pass, or nothing is tried. Each module's share of
benchmarks/results/mutants.json is written when it is done; `make mutants` runs all of them.
"""
import argparse
import ast
import copy
import gc
import importlib
import importlib.util
import json
import os
import random
import re
import resource
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/"benchmarks"/"results"/"mutants.json"
MODULES = {  # module → its page, and words in the names of the tests to try first
    "evaluation": ("15", "mcc|draw|interval|shrink|group|holm|report|errors|mistakes|read_again"),
    "calibration": ("16", "calibr|temperature|platt|threshold|before|abstain"),
    "comparison": ("17", "seeds|p_values|run_can|planned|variance|compared|recipe"),
    "pairs": ("21", "wilson|pairs"),
    "experiments": ("23", "seeds|lead|vectors|watched|baselines|lies"),
    "search": ("24", "search|best_of|trial|database|pruning"),
    "settings": ("10", "setting"),
    "packing": ("08", "packed|batch|memory|predictions_of|judged|captured|smoothed"),
    "training": ("14", "run|rate|loop|epoch|optimizer|held_out|saved|loss|decides|clip|prior"),
    "doctor": ("13", "doctor"),
    "checkpoints": ("11", "checkpoint|lock|signal|bit|scaler")}
TESTS = ["tests/test_numbers.py", "tests/test_properties.py", "-k"]
OTHERS = "any_ or split_as or is_read_again"  # tests about other modules
SIMULATED = "holds_the_truth or told_apart or p_is_small or mean_of_seeds or are_measured"
STATISTICS = ("evaluation", "calibration", "comparison")  # modules that need these, too
REASONS = {  # line → why no test can tell that it was changed
    "if config.corrupted_epochs: real_and_corrupted(self.acceptable, 1)  # can they be corrupted?":
        "one sentence or two: it only raises an error where there is nothing to corrupt",
    "bar.update()": "it moves a progress bar, which is only displayed",
    "@dataclass(repr=False)": "a class keeps the __repr__ that it defines, whatever this says",
    "done = [t for t in self.study.get_trials(deepcopy=False) if t.state.name == \"COMPLETE\"]":
        "copies of the trials take time and are equal",
    "self.__init__(seed=config.seed + trial.number, constant_liar=True)":
        "this is Optuna's default since version 5; older ones need it",
    "study.get_trials(deepcopy=False)  # all of it can be read":
        "copies of the trials take time and are equal"}
SHOWN = re.compile(r"plot|^_?(repr|show|describe|picture|grayed|note|headline|fonts|has_letters)"
                   r"|^_draw$|__repr__|_repr_html_|figures|Progress|page")
SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
         ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
         ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And}
IDLE = ("strict", "repr", "progress")  # checks of our own code; what is defined below; bars
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}

def changes(node):
    "(words, function that changes the node in place) for everything that can be done to a node"
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield "another comparison", lambda n: n.ops.__setitem__(0, SWAPS[type(n.ops[0])]())
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        is_text = any(isinstance(each, ast.JoinedStr) or (isinstance(each, ast.Constant)
                      and isinstance(each.value, str)) for each in ast.iter_child_nodes(node))
        if not is_text: yield "another operator", lambda n: setattr(n, "op", SWAPS[type(n.op)]())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield "another number", lambda n: setattr(
            n, "value", not n.value if isinstance(n.value, bool) else
            n.value + 1 if isinstance(n.value, int) else n.value * .9 if n.value else .1)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "condition turned around", lambda n: setattr(
            n, "test", ast.UnaryOp(ast.Not(), n.test))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield "sign left out", lambda n: setattr(n, "op", ast.UAdd()) if isinstance(
            n.op, ast.USub) else setattr(n, "operand", ast.UnaryOp(n.op, n.operand))
    yield from changes_of_statements(node)

def changes_of_statements(node):
    "The same, of what a statement does"
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield "another function", lambda n: setattr(n, "id", NAMES[n.id])
    if isinstance(node, ast.Call) and node.keywords and node.keywords[-1].arg not in IDLE:
        yield "argument left out", lambda n: n.keywords.pop()
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        yield "statement left out", lambda n: setattr(n, "value", ast.Constant(0))
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.BitOr):
        yield "statement left out", lambda n: setattr(n, "value", ast.parse(
            f"type({ast.unparse(n.target)})()", mode="eval").body)
    if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple):
        yield "statement left out", lambda n: n.targets.__setitem__(0, ast.Name("_", ast.Store()))

def places(tree):
    "(index in ast.walk, which change) of every mutant; not in plots, messages and annotations"
    hidden = set()
    for node in ast.walk(tree):
        name = getattr(node, "name", "")
        parts = [getattr(node, part, None) for part in ("annotation", "returns")]
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and SHOWN.search(name): parts = [node]
        if isinstance(node, ast.Raise | ast.JoinedStr): parts = [node]
        if isinstance(node, ast.arguments):
            parts = [default for default, each in zip(node.defaults[::-1], node.args[::-1])
                     if each.arg in IDLE]
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(
                node.func, "attr", "")) in ("progress_bar", "print", "savefig"): parts = [node]
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            parts = [node]
        hidden |= {id(child) for part in parts if part is not None for child in ast.walk(part)}
    return [(index, number) for index, node in enumerate(ast.walk(tree)) if id(node) not in hidden
            for number, _ in enumerate(changes(node))]

def mutate(tree, index, number):
    "The changed tree, the line, and words"
    tree = copy.deepcopy(tree)
    node: ast.AST = list(ast.walk(tree))[index]
    before = ast.unparse(node).split("\n")[0]
    words, change = list(changes(node))[number]
    change(node)
    ast.fix_missing_locations(tree)
    after = ast.unparse(node).split("\n")[0]
    return tree, node, f"{words}: {before[:60]} → {after[:60]}"

class Finder:
    "Finds the mutant in place of its module"
    def __init__(self, module, tree): self.name, self.tree = f"cola_nbdev.{module}", tree
    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            file = ROOT/"cola_nbdev"/f"{name.split('.')[1]}.py"
            return importlib.util.spec_from_file_location(name, file, loader=self)
    def create_module(self, spec): return None
    def exec_module(self, module): exec(compile(self.tree, module.__file__, "exec"), vars(module))

def changed_cells(module, tree):
    "Cell's id → its code in a changed module"
    text = (ROOT/"cola_nbdev"/f"{module}.py").read_text(encoding="utf-8").splitlines()
    marks = [number for number, each in enumerate(text, 1) if each.startswith("# %% ../nbs")]
    cells = {}
    for start, end in zip(marks, [*marks[1:], len(text) + 1], strict=True):
        code = "\n".join(ast.unparse(node) for node in tree.body if start < node.lineno < end)
        code = re.sub(r"from \.(\w+) import", r"from cola_nbdev.\1 import", code)
        cells[text[start - 1].split("#")[-1]] = f"#| export\n{code}"
    return cells

class Order:
    "Tests whose names say that they are about the module come first"
    def __init__(self, words): self.words = re.compile(words)
    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: not self.words.search(item.name))

def run_tests(arguments, words="."):
    import pytest
    for number in (1, 2): os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain"]
    return pytest.main([*arguments, *options], plugins=[Order(words)])

def run_page(module, tree):
    import nbdev.process
    cells, read = changed_cells(module, tree), nbdev.process.read_nb
    def changed(path, *rest):
        notebook = read(path, *rest)
        for each in notebook.cells: each.source = cells.get(each.get("id"), each.source)
        return notebook
    nbdev.process.read_nb = changed
    return run_tests(["tests/test_notebooks.py", "-k", f"test_notebook and {MODULES[module][0]}_"])

def attempt(work, seconds):
    "What a fork says: 0 if all tests pass; anything else if one fails, or they take too long"
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            os.chdir(ROOT)
            code = int(work())
        finally: os._exit(code)
    ends = time.monotonic() + 6 * seconds  # it may sleep, or other programs may be in its way
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"

HEAVY = ("torch", "transformers", "accelerate.utils", "pandas", "scipy.stats", "sklearn.pipeline",
         "sklearn.linear_model", "matplotlib.pyplot", "hypothesis", "nbdev.test", "optuna.storages",
         "execnb.shell", "transformers.models.bert.modeling_bert", "pytest", "sklearn.calibration",
         "transformers.models.bert.tokenization_bert", "seaborn")  # imported once, before any fork

def tests_fail(module, tree):
    left_out = OTHERS if module in STATISTICS else f"{OTHERS} or {SIMULATED}"
    def work():
        sys.meta_path.insert(0, Finder(module, tree))
        return run_tests([*TESTS, f"not ({left_out})"], MODULES[module][1])
    return attempt(work, 60)

def page_fails(module, tree):
    def work():
        sys.meta_path.insert(0, Finder(module, tree))
        return run_page(module, tree)
    return attempt(work, 150)

def try_module(module, each, seed, pages=True):
    text = (ROOT/"cola_nbdev"/f"{module}.py").read_text(encoding="utf-8")
    lines, tree, page_is_fine = text.splitlines(), ast.parse(text), False
    found = places(tree)
    if tests_fail(module, tree): sys.exit(f"{module}: the tests fail as it is")
    for index, number in random.Random(seed).sample(found, min(each, len(found))):
        mutant, node, words = mutate(tree, index, number)
        by = "tests" if tests_fail(module, mutant) else ""
        if pages and not by:
            page_is_fine = page_is_fine or not page_fails(module, tree)
            if not page_is_fine: sys.exit(f"{module}: its page fails as it is")
            by = "page" if page_fails(module, mutant) else ""
        line = getattr(node, "lineno", 1)
        print(f"{by or 'SURVIVED':8} {module}:{line} {words}", flush=True)
        row = {"line": line, "change": words, "killed by": by}
        yield row if by else row | {"reason": REASONS.get(lines[line - 1].strip(), "")}

def keep(module, seed, rows):
    "Put a module's rows beside those of the others"
    known = json.loads(RESULTS.read_text(encoding="utf-8"))["modules"] if RESULTS.exists() else {}
    known[module] = {"seed": seed, "killed": sum(bool(row["killed by"]) for row in rows),
                     "of": len(rows), "mutants": rows}
    known = {name: known[name] for name in MODULES if name in known}
    killed, count = (sum(part[what] for part in known.values()) for what in ("killed", "of"))
    found = {"killed": killed, "of": count, "rate": round(killed / count, 3), "modules": known}
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"{killed} of {count} killed ({killed / count:.0%})"

def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)} (default: all)")
    parser.add_argument("--each", type=int, default=12, help="mutants of a module")
    parser.add_argument("--no-pages", action="store_true", help="only the fast tests")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "TQDM_DISABLE": "1",
                   "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.path[:0] = [str(ROOT), str(ROOT/"tests")]
    for name in HEAVY: importlib.import_module(name)
    gc.freeze()
    for module in options.modules or MODULES:
        rows = list(try_module(module, options.each, options.seed, not options.no_pages))
        if not options.no_pages: print(keep(module, options.seed, rows), flush=True)

if __name__ == "__main__": main()
