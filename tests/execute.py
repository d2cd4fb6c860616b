"""Runs notebooks and keeps what they show: python tests/execute.py [--slow] [03_data ...]

nbdev_test runs the same cells but never saves their outputs. Here they run in a real kernel, by
nbclient, so that tables and pictures are kept as JupyterLab shows them. A cell keeps its results,
its pictures and what it printed; it doesn't keep stderr (progress bars, warnings), execution counts
and other metadata that would make two runs differ. Cells that aren't run keep their outputs: those
flagged `#| notest` or `#| eval: false`, and `#| slow` without --slow.
"""
import argparse
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from nbdev.process import extract_directives

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT/"nbs"

# This checkout, and the folders in which people and hosted notebooks keep their files; part of a
# web address or of a word is not a path.
FOLDERS = r"/(?:home|root|tmp|var|opt|mnt|Users|work|workspace|content|kaggle)/|[A-Z]:\\+Users"
MACHINE_PATH = re.compile(rf"(?<![\w.~-])(?:{re.escape(str(ROOT))}|{FOLDERS})[^\s'\"<>]*")
PICTURES = {"image/png", "image/jpeg"}

def is_run(cell,        # one cell of a notebook
           skip_flags,  # a cell flagged with one of these is not run
          ):
    "Whether the cell is run: the rule of `nbdev.test.test_nb`"
    if cell.cell_type != "code" or "nbdev_export(" in cell.source: return False
    directives = extract_directives(cell, remove=False)
    if skip_flags & directives.keys(): return False
    return directives.get("eval:", [""])[0].lower() != "false"

def machine_paths(notebook):
    "(cell's number, path) of every path of a machine that kept outputs show, but in pictures"
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", output)
            texts = "\n".join(str(text) for kind, text in data.items() if kind not in PICTURES)
            yield from ((number, path) for path in MACHINE_PATH.findall(texts))

def execute(path,        # the notebook, rewritten in place
            skip_flags,  # a cell flagged with one of these is not run
            **options,   # of NotebookClient
           ):
    "Run a notebook in its folder and keep its outputs; nothing is written when a cell fails"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True,
                            extra_arguments=["--log-level=ERROR"],  # no warning about its socket
                            resources={"metadata": {"path": str(path.parent)}}, **options)
    # IN_TEST is what nbdev_test sets too; PYTHONPATH finds the package of this checkout
    environment = os.environ | {"IN_TEST": "1", "PYTHONPATH": str(ROOT)}
    with client.setup_kernel(env=environment):
        for number, cell in enumerate(notebook.cells):
            if not is_run(cell, skip_flags): continue
            client.execute_cell(cell, number)
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, path)
    nbdev_clean.__wrapped__(str(path))  # the command itself would read our arguments
    return notebook

def main():
    parser = argparse.ArgumentParser(description="Run notebooks and keep their outputs")
    parser.add_argument("names", nargs="*", help="stems of notebooks in nbs/ (default: all)")
    parser.add_argument("--slow", action="store_true", help="run the cells flagged #| slow too")
    arguments = parser.parse_args()
    os.chdir(ROOT)  # nbdev looks for settings.ini from here
    skip_flags = set(get_config().tst_flags.split()) - ({"slow"} if arguments.slow else set())
    named = [NOTEBOOKS/f"{Path(name).stem}.ipynb" for name in arguments.names]
    failed = False
    for path in named or sorted(NOTEBOOKS.glob("*.ipynb")):
        print(f"Running {path.name}", flush=True)
        for number, found in machine_paths(execute(path, skip_flags)):
            failed = True
            print(f"{path.name}, cell {number} shows a path of this machine, {found}: "
                  "print something else, then run this again")
    return failed

if __name__ == "__main__": sys.exit(main())
