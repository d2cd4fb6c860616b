"""From notebooks to pages: what Sphinx gets to read. Called by docs/build_site.py."""
import ast
import re
import shutil
from collections import defaultdict
from functools import cache
from pathlib import PurePosixPath

import nbformat
from readme import FACTS, OWN, ROOT, directives, page_of

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
ROOMS = [path.stem[3:] for path in sorted((ROOT/"nbs").glob("[0-9]*.ipynb"))]
MODULES = [room for room in ROOMS if (ROOT/"cola_nbdev"/f"{room}.py").exists()]
TEXTS, WORDS = OWN["texts"], OWN["words"]
BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])),
               None)  # which prints the tutorial

def repository(path): return f"{FACTS['git_url']}/blob/{FACTS['branch']}/{path}"

# --- prose ---

def address(target, folder):
    "Where a link leads on the site: a page, or a file of the repository"
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target): return target
    found = (ROOT/folder/path).resolve()
    if not found.is_relative_to(ROOT) or not found.exists(): return target  # Sphinx complains
    name, anchor = found.relative_to(ROOT).as_posix(), f"#{anchor}" if anchor else ""
    if name.startswith("docs/static/"): return f"pictures/{found.name}"
    if name in TEXTS: return f"{TEXTS[name]}.md{anchor}"
    is_page = name.startswith("nbs/") and found.suffix == ".ipynb"
    return f"{page_of(found)}.ipynb{anchor}" if is_page else repository(name) + anchor

@cache
def symbols():
    "Public name → the modules that define it"
    found = defaultdict(list)
    for module in MODULES:
        text = (ROOT/"cola_nbdev"/f"{module}.py").read_text(encoding="utf-8")
        listed = re.search(r"^__all__ = (\[.*?\])", text, re.MULTILINE | re.DOTALL)
        for name in ast.literal_eval(listed[1]) if listed else []: found[name].append(module)
    return found

def link_symbols(line, module):
    "`mcc` → a link to its entry in the API; not in headings, nor where two modules have the name"
    def link(match):
        homes = symbols().get(match[1].removesuffix("()"), [])
        home = module if module in homes else homes[0] if len(homes) == 1 else None
        if not home: return match[0]
        return f"{{py:obj}}`{match[1]} <cola_nbdev.{home}.{match[1].removesuffix('()')}>`"
    if line.startswith("#"): return line
    return re.sub(r"(?<![\[\w`}])`([^`\s]+)`(?![\]`])", link, line)

def prose(text, folder, module=""):
    "Markdown of ours → MyST; fenced code stays as it is"
    parts = re.split(f"({FENCE.pattern})", text, flags=FENCE.flags)
    for number, part in enumerate(parts[::2]):
        part = re.sub(r" \*[\w ]+: \[README\S*\]\(\S+\)\.\*", "", part)  # the site has a switch
        part = re.sub(r"^:::[ \t]*\{\.callout-(\w+)\}", r":::{\1}", part, flags=re.MULTILINE)
        part = re.sub(r"(?<=\]\()([^)\s]+)(?=\))", lambda link: address(link[1], folder), part)
        part = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", part, flags=re.MULTILINE)
        parts[2 * number] = "\n".join(link_symbols(line, module) for line in part.split("\n"))
    return "".join(parts)

# --- cells ---

def tidy(html):
    "A table of pandas as valid HTML, for readers of the screen too, and pictures for the dark"
    html = html.replace("<img alt", '<img class="plot" alt')
    html = re.sub(r"<style scoped>.*?</style>", "", html, flags=re.DOTALL)
    html = re.sub(r' (border="1"|style="text-align: \w+;"|valign="top")', "", html)
    head, end, body = html.partition("</thead>")
    head = re.sub(r"<th\b", '<th scope="col"', head)
    html = head + end + re.sub(r"<th\b", '<th scope="row"', body)
    return f'<div class="output-table">{html}</div>' if "<table" in html else html

def is_imports(code): # those for types alone, too
    nodes = [each for node in ast.parse(code).body for each in getattr(node, "body", [node])]
    return all(isinstance(each, ast.Import | ast.ImportFrom) for each in nodes)

def fold_of(code, found, outputs):
    "What a cell is called that is folded: machinery, imports, and tests that show nothing"
    names = [node.name for node in ast.parse(code).body if getattr(node, "name", "_")[0] != "_"]
    if "fold" in found: return ", ".join(names) if names and "export" in found else "code"
    if outputs: return None
    if is_imports(code): return "imports"
    is_test = re.search(r"^ *(test_\w+\(|assert )", code, re.MULTILINE)
    return "tests" if is_test and "export" not in found else None

def stage_code(cell, words):
    "A cell of code as the page shows it; None if it is hidden"
    found, code = directives(cell.source)
    if found.keys() & {"hide", "default_exp"} or not code.strip(): return None
    new = nbformat.v4.new_code_cell(code, id=cell.id, metadata={"tags": []})
    new.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in new.outputs:
        data = output.get("data", {})
        if "text/html" in data: data["text/html"] = tidy(data["text/html"])
    if "fig-alt" in found:
        alt = found["fig-alt"].strip("\"'")
        # must stay as they are described
        shades = re.search(r"\b(dark|pale|light|yellow|escur|pálid|amarel)", alt)
        classes = "plot shades" if shades else "plot"
        new.metadata["mystnb"] = {"image": {"alt": alt, "classes": classes}}
    if found.get("echo") == "false": new.metadata.tags = ["remove-input"]
    elif fold := fold_of(code, found, new.outputs):
        new.metadata.tags = ["hide-input"]
        said = words.get(fold, fold)
        new.metadata.mystnb = {"code_prompt_show": said, "code_prompt_hide": said}
    return new

def stage_cells(cells, module, words):
    "The cells of a page; those that are folded and follow each other are one, if called alike"
    staged = []
    for cell in cells:
        if cell.cell_type == "markdown":
            text = prose(cell.source, "nbs", module)
            staged.append(nbformat.v4.new_markdown_cell(text, id=cell.id))
        elif cell.cell_type == "code" and (new := stage_code(cell, words)):
            is_folded = new.metadata.tags == ["hide-input"] and not new.outputs
            if is_folded and staged and staged[-1].metadata == new.metadata \
                    and not staged[-1].outputs:
                staged[-1].source += f"\n\n{new.source}"
            else: staged.append(new)
    return staged

# --- pages ---

def buttons(path, language):
    "Open in Colab, download, look at the source"
    # the workflow `docs` keeps the Portuguese notebooks on a branch of their own
    place = f"{FACTS['branch']}/nbs/{path.name}" if language == "en" else f"pt/{path.name}"
    place = f"{FACTS['user']}/{FACTS['repo']}/blob/{place}"
    pdf = '\n<a href="tutorial.pdf">PDF</a> ·' if path.stem == "tutorial" and BROWSER else ""
    return "\n\n" + OWN["buttons"].format(place=place, name=path.name, pdf=pdf, **WORDS[language])

def stage_notebook(path, language):
    "The notebook that Sphinx reads, of an English or Portuguese one"
    module = re.sub(r"^\d+_", "", path.stem)
    cells = stage_cells(nbformat.read(path, as_version=4).cells, module, WORDS[language])
    if any(cell.cell_type == "code" for cell in cells) and module != "index":
        cells[0].source += buttons(path, language)
    if module in OWN["terms"]:
        term = OWN["terms"][module][language == "pt"]
        cells[0].source = f"```{{index}} ! {term}\n```\n\n{cells[0].source}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})

def stage_text(source, language):
    "A Markdown file of the repository as a page"
    text = (ROOT/source).read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    note = f"\n\n:::{{note}}\n{WORDS[language]['english_only']}\n:::\n\n"
    if language == "pt": text = text.replace("\n\n", note, 1)
    return prose(text, str(PurePosixPath(source).parent))
