"""The Portuguese notebooks: code and outputs are in nbs/*.ipynb only, prose in nbs/pt/*.po,
questions in cola_nbdev/questions.json, pictures and knobs in nbs/pt/figures.

    python docs/portuguese.py                  write pt/*.ipynb, which run like the English ones
    python docs/portuguese.py --update         carry what changed in English into nbs/pt/*.po
    python docs/portuguese.py --plots          compile the words of plots, nbs/pt/plots.po
    python docs/portuguese.py --draw tutorial  run pages in Portuguese and keep their pictures

A message is a markdown cell, or what a cell of code says of its picture: its context is the cell's
id, its text the English. Any gettext editor opens the files. --update marks what no longer fits as
fuzzy, and leaves what is new empty; tests/test_portuguese.py tells what is missing.
"""
import argparse
import re
import shutil
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import nbformat
import polib

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from cola_nbdev.questions import ask

ENGLISH, CATALOGUES, PORTUGUESE = ROOT/"nbs", ROOT/"nbs/pt", ROOT/"pt"
FIGURES = CATALOGUES/"figures"
PLOTS = ROOT/"cola_nbdev/locale/pt/LC_MESSAGES/plots.mo"
HEADER = {"Language": "pt_BR", "MIME-Version": "1.0", "Content-Type": "text/plain; charset=UTF-8",
          "Content-Transfer-Encoding": "8bit"}
ASKED = re.compile(r'(?:#\|.*\n)*ask\("([\w-]+)"\)')  # a cell that asks a question, and which
ALT = re.compile(r"(?<=^#\| fig-alt: ).+", re.MULTILINE)  # what a picture shows, in words
SPEAK_PORTUGUESE = '#| hide\nimport os\nos.environ["COLA_NBDEV_LANGUAGE"] = "pt"  # for the plots'

def notebooks(): return sorted(ENGLISH.glob("*.ipynb"))

def read(path): return nbformat.read(path, as_version=4)

def prose(notebook):
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}

def messages(notebook):
    "Cell → what is to be translated: its prose, or what it says of its picture"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return prose(notebook) | {cell.id: match[0] for cell in code
                              if (match := ALT.search(cell.source))}

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
    for cell, source in messages(read(path)).items():
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

def drawn(cell):
    "(outputs by kind, kind) of each picture, knob and report that a cell keeps"
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data: yield data, "image/png"
        elif re.match('<form class="knob"|<div><h1>', data.get("text/html", "")):
            yield data, "text/html"

def twin(path, cell, text):
    "Where the Portuguese of a picture or knob is kept; its name changes with the English"
    digest = sha256(text.strip().encode()).hexdigest()[:12]
    ending = "html" if text.startswith("<") else "png"
    return FIGURES/path.stem/f"{cell.id}-{digest}.{ending}"

def spoken(text):
    "What the package printed, with its messages in Portuguese (a line's, not a plot's words)"
    place = re.compile(r"\{(\w+)[^}]*\}")
    words = {entry.msgid: entry.msgstr for entry in polib.pofile(str(CATALOGUES/"plots.po"))}
    for english, ours in words.items():
        if len(english.split()) < 6: continue
        pattern = re.sub(r"\\\{(\w+).*?\\\}", r"(?P<\1>[\\w.%-]+)", re.escape(english))
        def say(found, ours=ours):
            values = {name: words.get(value) or value.replace(".", ",")
                      for name, value in found.groupdict().items()}
            return place.sub(lambda each: values[each[1]], ours)
        text = re.sub(pattern, say, text)
    return text

def in_portuguese(path):
    "The notebook in Portuguese; cells without a finished translation stay English"
    notebook = read(path)
    translations = {entry.msgctxt: entry.msgstr for entry in catalogue(path) if not entry.fuzzy}
    for cell in notebook.cells:
        text = translations.get(cell.id)
        if cell.cell_type == "markdown": cell.source = text or cell.source
        if cell.cell_type != "code": continue
        if text: cell.source = ALT.sub(lambda _, text=text: text, cell.source)
        cell.outputs = question_outputs(cell, "pt")
        for output in cell.outputs:
            if "text" in output: output.text = spoken(output.text)
        for data, kind in drawn(cell):
            ours = twin(path, cell, data[kind])
            if not ours.exists(): continue
            is_png = ours.suffix == ".png"
            data[kind] = b64encode(ours.read_bytes()).decode() if is_png else ours.read_text()
    is_code = [cell.cell_type == "code" for cell in notebook.cells]
    language = nbformat.v4.new_code_cell(SPEAK_PORTUGUESE, id="plots-in-portuguese")
    notebook.cells.insert(is_code.index(True) if any(is_code) else len(is_code), language)
    return notebook

def write():
    "Write pt/*.ipynb"
    shutil.rmtree(PORTUGUESE, ignore_errors=True)
    PORTUGUESE.mkdir()
    for path in notebooks(): nbformat.write(in_portuguese(path), PORTUGUESE/path.name)

# --- their pictures ---

# The package draws in Portuguese by itself; this is for what pages draw on their own. It goes
# before their first cell, but only where their pictures are made.
SAY = r"""
def speak(known):  # a function, for pages have names of their own
    import re
    from matplotlib.text import Text
    from cola_nbdev import questions
    NUMBER = r"(?<![\w.,])[-−]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d*\.?\d+)(?![\w,]*\w)"
    set_text, knob = Text.set_text, questions.Knob

    def number(text):
        is_local = re.fullmatch(r"[1-9]\d{0,2}(\.\d{3})+", text)
        return text if is_local else text.translate(str.maketrans(",.", ".,"))

    def say(text):
        if not isinstance(text, str) or "{}" in text: return text
        numbers = map(number, re.findall(NUMBER, text))
        places = re.sub(NUMBER, "{}", text)
        return re.sub("{}", lambda _: next(numbers), known.get(places, places))

    Text.set_text = lambda self, text: set_text(self, say(text))
    questions.Knob = lambda text, results: knob(
        say(text), {say(value): say(found) for value, found in results.items()})

"""

def texts(cell):
    return [output.get("text") or output.get("data", {}).get("text/plain")
            for output in cell.outputs]

def draw(path):
    "Run a page in Portuguese and keep its pictures and knobs"
    sys.path.insert(0, str(ROOT/"tests"))
    from execute import execute
    shutil.rmtree(FIGURES/path.stem, ignore_errors=True)
    page, known = in_portuguese(path), polib.pofile(str(CATALOGUES/"figures.po"))
    words = {entry.msgid: entry.msgstr for entry in known}
    first = nbformat.v4.new_code_cell(f"{SAY}speak({words!r})", id="say-portuguese")
    page.cells.insert(0, first)
    nbformat.write(page, PORTUGUESE/path.name)
    # a test of English words fails here, but not in the English notebook
    done = execute(PORTUGUESE/path.name, {"notest"}, allow_errors=True)
    ran = {cell.id: cell for cell in done.cells}
    for cell in read(path).cells:
        if cell.cell_type != "code" or ASKED.fullmatch(cell.source): continue
        ours = ran[cell.id]
        for (english, kind), (other, _) in zip(drawn(cell), drawn(ours), strict=False):
            file, is_png = twin(path, cell, english[kind]), kind == "image/png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b64decode(other[kind]) if is_png else other[kind].encode())
        if texts(cell) != texts(ours): print(f"{path.stem}, {cell.id} says something else")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The Portuguese notebooks")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--update", action="store_true", help="bring nbs/pt/*.po up to date")
    choice.add_argument("--plots", action="store_true", help="compile the words of plots")
    choice.add_argument("--draw", nargs="+", help="stems of notebooks: make their pictures anew")
    arguments = parser.parse_args()
    if arguments.plots: PLOTS.write_bytes(compiled_plots())
    elif arguments.update: print(f"{sum(map(update, notebooks()))} messages to translate in nbs/pt")
    else:
        write()
        for stem in arguments.draw or []: draw(ENGLISH/f"{stem}.ipynb")
