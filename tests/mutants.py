"""Breaks the modules that make numbers, one small change at a time, and counts what the tests miss.

    python tests/mutants.py [modules] [--each 24] [--seed 0]

A mutant is a module with one node of its syntax tree changed: < for <=, + for -, a number, a
condition turned around, a statement or an argument left out. Each is tried in a fork that imports
the package anew with that module in place of the real one: first the fast tests named in MODULES,
then, if these pass, the module's own page, whose cell is changed alike. Not changed are plots, what
is displayed, and messages. Written: benchmarks/results/mutants.json; `make mutants` runs it.
"""
import argparse
import ast
import copy
import importlib
import importlib.util
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/"benchmarks"/"results"/"mutants.json"
NUMBERS, PROPERTIES = "tests/test_numbers.py", "tests/test_properties.py"
MODULES = {  # module → its page, and the expression that chooses its fast tests
    "evaluation": ("15", "mcc or draw or interval or split or holm or shrink or group or summary"),
    "calibration": ("16", "calibration or temperature or platt or threshold or before or abstain"),
    "comparison": ("17", "seeds or p_ or run_can or planned or variance"),
    "pairs": ("21", "wilson or pairs"),
    "experiments": ("23", "summary or lies or baselines"),
    "search": ("24", "best or pruning"),
    "settings": ("10", "rule or settings"),
    "packing": ("08", "packed or smoothed or split_batch or batch"),
    "training": ("14", "seed_decides or clipped or smoothed or exercises or prior or scaler or rate"
                       " or trained or kept or validated"),
    "doctor": ("13", "doctor"),
    "checkpoints": ("11", "checkpoint or bit or scaler")}
SLOW = "holds_the_truth or told_apart or p_is_small or mean_of_seeds or are_measured"
SHOWN = re.compile(r"plot|^_?(repr|show|describe|picture|grayed|note|headline)|__repr__|_repr_html_"
                   r"|figures|^save$|Progress|page")
SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
         ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
         ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And}
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
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield "another function", lambda n: setattr(n, "id", NAMES[n.id])
    if isinstance(node, ast.Call) and node.keywords:
        yield "argument left out", lambda n: n.keywords.pop()
    if isinstance(node, ast.Expr | ast.AugAssign) and not isinstance(
            getattr(node, "value", None), ast.Constant):
        yield "statement left out", lambda n: setattr(n, "value", ast.Constant(0))

def places(tree):
    "(index in ast.walk, which change) of every mutant; not in plots, messages and annotations"
    hidden = set()
    for node in ast.walk(tree):
        name = getattr(node, "name", "")
        parts = [getattr(node, part, None) for part in ("annotation", "returns")]
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and SHOWN.search(name): parts = [node]
        if isinstance(node, ast.Raise | ast.JoinedStr): parts = [node]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("progress_bar", "print"):
            parts = [node]
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            parts = [node]
        hidden |= {id(child) for part in parts if part is not None for child in ast.walk(part)}
    return [(index, number) for index, node in enumerate(ast.walk(tree)) if id(node) not in hidden
            for number, _ in enumerate(changes(node))]

def mutate(tree, index, number):
    "The changed tree, the line, and words"
    tree = copy.deepcopy(tree)
    node: ast.AST = list(ast.walk(tree))[index]
    before = ast.unparse(node)
    words, change = list(changes(node))[number]
    change(node)
    ast.fix_missing_locations(tree)
    after = ast.unparse(node)
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

def changed_cell(module, tree, line):
    "The id of the cell that holds a line, and its changed code"
    text = (ROOT/"cola_nbdev"/f"{module}.py").read_text(encoding="utf-8").splitlines()
    marks = [number for number, each in enumerate(text, 1) if each.startswith("# %% ")]
    start = max(mark for mark in marks if mark <= line)
    end = min([mark for mark in marks if mark > line], default=len(text) + 1)
    nodes = [node for node in tree.body if start < node.lineno < end]
    code = "\n".join(map(ast.unparse, nodes))
    code = re.sub(r"from \.(\w+) import", r"from cola_nbdev.\1 import", code)
    return text[start - 1].split("#")[-1], code

def run_tests(arguments):
    import pytest
    for number in (1, 2): os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return pytest.main([*arguments, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"])

def run_page(module, page, tree, line):
    import nbdev.process
    cell, code = changed_cell(module, tree, line)
    read = nbdev.process.read_nb
    def changed(path, *rest):
        notebook = read(path, *rest)
        for each in notebook.cells:
            if each.get("id") == cell: each.source = f"#| export\n{code}"
        return notebook
    nbdev.process.read_nb = changed
    return run_tests(["tests/test_notebooks.py", "-k", f"test_notebook and {page}_{module}"])

def attempt(work, limit):
    "What a fork says: 0 if all tests pass; 1 and more if one fails, or it takes too long"
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(ROOT)
            code = int(work())
        finally: os._exit(code)
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"

HEAVY = ("torch", "transformers", "accelerate.utils", "pandas", "scipy.stats", "sklearn.pipeline",
         "sklearn.linear_model", "matplotlib.pyplot", "hypothesis", "nbdev.test", "optuna.storages",
         "execnb.shell", "transformers.models.bert.modeling_bert")  # imported once, before any fork

def try_module(module, each, seed, pages=True):
    page, chosen = MODULES[module]
    tree = ast.parse((ROOT/"cola_nbdev"/f"{module}.py").read_text(encoding="utf-8"))
    found = places(tree)
    sample = random.Random(seed).sample(found, min(each, len(found)))
    files = [NUMBERS, PROPERTIES] if module in ("packing", "checkpoints") else [NUMBERS]
    fast = [*files, "-k", f"({chosen}) and not ({SLOW})"]
    for index, number in sample:
        mutant, node, words = mutate(tree, index, number)
        line = getattr(node, "lineno", 1)
        def fast_tests(mutant=mutant):
            sys.meta_path.insert(0, Finder(module, mutant))
            return run_tests(fast)
        def its_page(mutant=mutant, line=line):
            sys.meta_path.insert(0, Finder(module, mutant))
            return run_page(module, page, mutant, line)
        by = "tests" if attempt(fast_tests, 120) else ""
        if not by and pages and attempt(its_page, 240): by = "page"
        yield {"module": module, "line": line, "change": words, "killed by": by}

def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)} (default: all)")
    parser.add_argument("--each", type=int, default=24, help="mutants of a module")
    parser.add_argument("--no-pages", action="store_true", help="only the fast tests")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
    sys.path[:0] = [str(ROOT), str(ROOT/"tests")]
    for name in HEAVY: importlib.import_module(name)
    rows = []
    for module in options.modules or MODULES:
        for row in try_module(module, options.each, options.seed, not options.no_pages):
            rows.append(row)
            print(f"{row['killed by'] or 'SURVIVED':8} {module}:{row['line']} {row['change']}",
                  flush=True)
    killed = sum(bool(row["killed by"]) for row in rows)
    print(f"{killed} of {len(rows)} killed", flush=True)
    if options.modules: return
    RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")

if __name__ == "__main__": main()
