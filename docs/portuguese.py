"""The Portuguese notebooks: code and outputs are in nbs/*.ipynb only, prose in nbs/pt/*.po, and
questions, which are outputs with words, in cola_nbdev/questions.json.

    python docs/portuguese.py            write pt/*.ipynb, which run like the English ones
    python docs/portuguese.py --update   carry what changed in English into nbs/pt/*.po
    python docs/portuguese.py --plots    compile the words of plots, nbs/pt/plots.po

A message is a markdown cell: its context is the cell's id, its text the English prose. Any gettext
editor opens the files. --update marks what no longer fits as fuzzy, and leaves what is new
empty; tests/test_portuguese.py tells what is missing.
"""
import argparse
import re
import shutil
import sys
from pathlib import Path

import nbformat
import polib

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from cola_nbdev.questions import ask

ENGLISH, CATALOGUES, PORTUGUESE = ROOT/"nbs", ROOT/"nbs/pt", ROOT/"pt"
PLOTS = ROOT/"cola_nbdev/locale/pt/LC_MESSAGES/plots.mo"
HEADER = {"Language": "pt_BR", "MIME-Version": "1.0", "Content-Type": "text/plain; charset=UTF-8",
          "Content-Transfer-Encoding": "8bit"}
ASKED = re.compile(r'(?:#\|.*\n)*ask\("([\w-]+)"\)')  # a cell that asks a question, and which
SPEAK_PORTUGUESE = '#| hide\nimport os\nos.environ["COLA_NBDEV_LANGUAGE"] = "pt"  # for the plots'

def notebooks(): return sorted(ENGLISH.glob("*.ipynb"))

def read(path): return nbformat.read(path, as_version=4)

def prose(notebook):
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}

def catalogue_of(path): return CATALOGUES/f"{path.stem}.po"

def catalogue(path):
    "The messages of a notebook; none if it was never translated"
    found = catalogue_of(path)
    return polib.pofile(str(found), wrapwidth=0) if found.exists() else polib.POFile(wrapwidth=0)

def compiled_plots():
    "The words of plots as gettext reads them"
    return polib.pofile(str(CATALOGUES/"plots.po")).to_binary()

def update(path):
    "Bring a catalogue into line with its notebook; how many messages are to be translated"
    old = {entry.msgctxt: entry for entry in catalogue(path) if not entry.obsolete}
    new = polib.POFile(wrapwidth=0)
    new.metadata = HEADER
    for cell, source in prose(read(path)).items():
        before = old.get(cell)
        text = before.msgstr if before else ""
        entry = polib.POEntry(msgctxt=cell, msgid=source, msgstr=text)
        if before and text and (before.fuzzy or before.msgid != source):
            entry.flags = ["fuzzy"]
            entry.previous_msgid = before.previous_msgid or before.msgid
        new.append(entry)
    new.save(str(catalogue_of(path)))
    return len(new.untranslated_entries() + new.fuzzy_entries())

# --- the notebooks ---

def question_outputs(cell, language):
    "What a cell keeps that asks a question, in a language; of other cells, what they keep"
    found = ASKED.fullmatch(cell.source)
    if not found: return cell.outputs
    question = ask(found[1], language)
    shown = {"text/html": question._repr_html_(), "text/plain": repr(question)}
    return [nbformat.v4.new_output("execute_result", shown)]

def in_portuguese(path):
    "The notebook in Portuguese; cells without a finished translation stay English"
    notebook = read(path)
    translations = {entry.msgctxt: entry.msgstr for entry in catalogue(path) if not entry.fuzzy}
    for cell in notebook.cells:
        if cell.cell_type == "markdown": cell.source = translations.get(cell.id) or cell.source
        if cell.cell_type == "code": cell.outputs = question_outputs(cell, "pt")
    is_code = [cell.cell_type == "code" for cell in notebook.cells]
    language = nbformat.v4.new_code_cell(SPEAK_PORTUGUESE, id="plots-in-portuguese")
    notebook.cells.insert(is_code.index(True) if any(is_code) else len(is_code), language)
    return notebook

def write():
    "Write pt/*.ipynb"
    shutil.rmtree(PORTUGUESE, ignore_errors=True)
    PORTUGUESE.mkdir()
    for path in notebooks(): nbformat.write(in_portuguese(path), PORTUGUESE/path.name)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The Portuguese notebooks")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--update", action="store_true", help="bring nbs/pt/*.po up to date")
    choice.add_argument("--plots", action="store_true", help="compile the words of plots")
    arguments = parser.parse_args()
    if arguments.plots: PLOTS.write_bytes(compiled_plots())
    elif arguments.update: print(f"{sum(map(update, notebooks()))} messages to translate in nbs/pt")
    else: write()
