"""The Portuguese notebooks: code, docstrings and outputs exist once, in nbs/*.ipynb; nbs/pt/<notebook>.po holds the prose.

    python docs/portuguese.py            write pt/*.ipynb, which run like the English ones
    python docs/portuguese.py --update   carry what changed in English into nbs/pt/*.po: what no longer fits is marked fuzzy, what is new waits empty
    python docs/portuguese.py --check    say what is missing, fuzzy or orphaned, with the old and the new English

A message is a markdown cell: its context is the id of the cell, its source text the English prose. Any editor of gettext files opens them, such as Poedit or Weblate.
"""
import argparse
import difflib
import re
import sys
from collections import Counter
from pathlib import Path

import nbformat
import polib

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, CATALOGUES, PORTUGUESE = ROOT/"nbs", ROOT/"nbs"/"pt", ROOT/"pt"
HEADER = {"Language": "pt_BR", "MIME-Version": "1.0", "Content-Type": "text/plain; charset=UTF-8", "Content-Transfer-Encoding": "8bit"}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LANGUAGE = '#| hide\nimport os\nos.environ["COLA_NBDEV_LANGUAGE"] = "pt"' # what the plots are labelled in

def notebooks(): return sorted(ENGLISH.glob("*.ipynb"))

def page_of(path):
    "The page of a notebook on the site: its name without the number; search.html is Sphinx's own"
    stem = re.sub(r"^\d+_", "", Path(path).stem)
    return {"search": "cola-search"}.get(stem, stem)

def prose(notebook): return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}

def read(path): return nbformat.read(path, as_version=4)

def catalogue_of(path): return CATALOGUES/f"{path.stem}.po"

def catalogue(path, # A notebook in nbs/
             ):
    "Its messages, none where it has never been translated"
    return polib.pofile(str(catalogue_of(path)), wrapwidth=0) if catalogue_of(path).exists() else polib.POFile(wrapwidth=0)

# --- what a translation must share with its source ---

def facts(text):
    "What stands in a text whatever its language: blocks of code, code within lines, addresses, and figures without their separators"
    code = FENCE.findall(text)
    rest = FENCE.sub("", text)
    within = re.findall(r"`[^`\n]+`", rest)
    rest = re.sub(r"`[^`\n]+`", "", rest)
    addresses = [address.replace("README.pt.md", "README.md") for address in re.findall(r"\]\(([^)\s]+)\)", rest)] # the two lead to each other
    rest = re.sub(r"\]\([^)\s]+\)", "]", rest)
    figures = [re.sub(r"[.,]", "", figure).lstrip("0") or "0" for figure in re.findall(r"[.,]?\d(?:[\d.,]*\d)?", rest)]
    return {"code": Counter(code), "code within a line": Counter(within), "address": Counter(addresses), "figure": Counter(figures)}

def lost_facts(source, translation):
    "One line for each kind of fact in which the two differ"
    there, here = facts(source), facts(translation)
    for kind in there:
        missing, added = there[kind] - here[kind], here[kind] - there[kind]
        if missing or added:
            show = lambda counter: ", ".join(sorted(counter)) or "none"
            yield f"{kind}: the English has {show(missing)}; the Portuguese has {show(added)}"

# --- drift ---

def difference(old, new):
    "The old and the new English, line by line, what changed only"
    changed = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return "\n".join(f"    {line}" for line in changed if not line.startswith(("---", "+++", "@@")))

def drift(path, # A notebook in nbs/
         ):
    "A complaint for each message that is missing, fuzzy, orphaned, or has lost a fact"
    cells, messages = prose(read(path)), {}
    for entry in catalogue(path):
        if entry.obsolete: continue
        if entry.msgctxt in messages: yield f"cell {entry.msgctxt} is translated twice"
        messages[entry.msgctxt] = entry
    for id, source in cells.items():
        entry = messages.pop(id, None)
        if entry is None or not entry.msgstr.strip(): yield f"cell {id} has no translation. The English:\n" + "\n".join(f"    {line}" for line in source.splitlines())
        elif entry.msgid != source: yield f"cell {id} was changed. Old and new English:\n{difference(entry.msgid, source)}"
        elif entry.fuzzy: yield f"cell {id} was changed and its translation not yet mended (it is marked fuzzy). Old and new English:\n{difference(entry.previous_msgid or '', source)}"
        else: yield from (f"cell {id}, {lost}" for lost in lost_facts(source, entry.msgstr))
    for id in messages: yield f"there is a translation for cell {id}, which the notebook no longer has"

def complaints():
    "All of the above, and the catalogues of notebooks that are gone"
    for path in notebooks():
        for complaint in drift(path): yield f"nbs/pt/{path.stem}.po: {complaint}"
    gone = {path.stem for path in CATALOGUES.glob("*.po")} - {path.stem for path in notebooks()}
    yield from (f"nbs/pt/{stem}.po: there is no notebook nbs/{stem}.ipynb" for stem in sorted(gone))

def update(path, # A notebook in nbs/
          ):
    "Bring its catalogue into line with it; a translation whose English changed is kept and marked fuzzy, one whose cell is gone is removed"
    old = {entry.msgctxt: entry for entry in catalogue(path) if not entry.obsolete}
    new = polib.POFile(wrapwidth=0)
    new.metadata = HEADER
    for id, source in prose(read(path)).items():
        before = old.get(id)
        entry = polib.POEntry(msgctxt=id, msgid=source, msgstr=before.msgstr if before else "")
        if before and before.msgstr and (before.fuzzy or before.msgid != source):
            entry.flags = ["fuzzy"]
            entry.previous_msgid = before.previous_msgid or before.msgid
        new.append(entry)
    if not CATALOGUES.exists(): CATALOGUES.mkdir()
    new.save(str(catalogue_of(path)))

# --- the notebooks ---

def in_portuguese(path, # A notebook in nbs/
                 ):
    "The notebook with Portuguese prose; cells without a translation stay English"
    notebook = read(path)
    translations = {entry.msgctxt: entry.msgstr for entry in catalogue(path) if entry.msgstr and not entry.fuzzy}
    for cell in notebook.cells:
        if cell.cell_type == "markdown": cell.source = translations.get(cell.id, cell.source)
    first = next((number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))
    language = nbformat.v4.new_code_cell(LANGUAGE)
    language.id = "plots-in-portuguese"
    notebook.cells.insert(first)
    return notebook

def write():
    "Write pt/*.ipynb"
    PORTUGUESE.mkdir(exist_ok=True)
    for path in notebooks(): nbformat.write(in_portuguese(path), PORTUGUESE/path.name)
    for path in PORTUGUESE.glob("*.ipynb"):
        if not (ENGLISH/path.name).exists(): path.unlink()

def main():
    parser = argparse.ArgumentParser(description="The Portuguese notebooks")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--update", action="store_true", help="carry what changed in English into nbs/pt/*.po")
    choice.add_argument("--check", action="store_true", help="say what is missing, fuzzy or orphaned")
    arguments = parser.parse_args()
    if arguments.update:
        for path in notebooks(): update(path)
    found = list(complaints())
    print(*found, sep="\n", end="\n" * bool(found))
    if not arguments.update and not arguments.check and not found: write()
    if arguments.update: print(f"{len(found)} messages to look at in nbs/pt" if found else "Every message is translated")
    return bool(found) and not arguments.update

if __name__ == "__main__": sys.exit(main())
