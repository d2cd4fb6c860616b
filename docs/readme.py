"""Writes README.md from nbs/index.ipynb, and README.pt.md from its translation; with --check only says whether they are up to date.

Markdown cells are taken as they are, code cells become fences and their text outputs follow them. Left out: raw cells (front matter),
cells flagged `#| hide`, what went to stderr, and pictures, which GitHub would not show. A code cell flagged `#| echo: false` leaves its outputs.
"""
import re
import sys
from pathlib import Path

import nbformat
from nbdev.config import get_config
from nbdev.process import extract_directives

import portuguese

ROOT = Path(__file__).resolve().parent.parent
FIRST_LINE = {"README.md": "<!-- Written by docs/readme.py from nbs/index.ipynb: edit the notebook, then run `make readme`. -->",
              "README.pt.md": "<!-- Escrito por docs/readme.py a partir de nbs/index.ipynb e nbs/pt/index.po: mude a tradução, depois `make readme`. -->"}

def fence(text, language=""): return f"```{language}\n{text.rstrip()}\n```"

def show(output):
    "The Markdown of one output, empty where it has none: tables in their plain form, because GitHub drops the style of pandas' HTML"
    if output.output_type == "stream": return fence(output.text, "text") if output.name == "stdout" else ""
    data = output.get("data", {})
    if "text/markdown" in data: return data["text/markdown"].strip()
    is_picture = any(kind.startswith("image/") for kind in data)
    return fence(data["text/plain"], "text") if "text/plain" in data and not is_picture else ""

def links(text, name):
    "Links in the notebook start from nbs/, links in a README from the root; the Portuguese notebooks are generated, so the Portuguese one leads to the site"
    facts = get_config(path=ROOT)
    pages = f"{facts.doc_host}{facts.doc_baseurl}/pt/"
    page = lambda match: f"]({pages}{portuguese.page_of(match[1])}.html)" if name == "README.pt.md" else f"](nbs/{match[1]}.ipynb)"
    return re.sub(r"\]\(([\w-]+)\.ipynb\)", page, text).replace("](../", "](")

def show_cell(cell, name):
    "The Markdown blocks of one cell"
    if cell.cell_type == "markdown": return [links(cell.source, name).strip()]
    directives = extract_directives(cell, remove=False)
    if cell.cell_type != "code" or "hide" in directives: return []
    source = re.sub(r"^[ \t]*#[ \t]*\|.*\n?", "", cell.source, flags=re.MULTILINE)
    is_shell = source.startswith("!")
    code = fence(re.sub("^!", "", source, flags=re.MULTILINE) if is_shell else source, "sh" if is_shell else "python")
    is_silent = directives.get("echo:") == ["false"] or not source.strip()
    return ([] if is_silent else [code]) + [show(output) for output in cell.outputs]

def readme(name="README.md"):
    "The text that README.md or README.pt.md should have"
    path = ROOT/"nbs/index.ipynb"
    notebook = portuguese.in_portuguese(path) if name == "README.pt.md" else nbformat.read(path, as_version=4)
    blocks = [FIRST_LINE[name], *(block for cell in notebook.cells for block in show_cell(cell, name))]
    return "\n\n".join(filter(None, blocks)) + "\n"

if __name__ == "__main__":
    for name in FIRST_LINE:
        path, text = ROOT/name, readme(name)
        if "--check" not in sys.argv: path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{name} is not what nbs/index.ipynb makes: run `make readme`")
