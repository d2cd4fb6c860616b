"""Writes README.md from nbs/index.ipynb; with --check only says whether README.md is up to date.

Markdown cells are taken as they are, code cells become fences and their text outputs follow them. Left out: raw cells (front matter),
cells flagged `#| hide`, what went to stderr, and pictures, which GitHub would not show. A code cell flagged `#| echo: false` leaves its outputs.
"""
import re
import sys
from pathlib import Path

import nbformat
from nbdev.process import extract_directives

ROOT = Path(__file__).parent.parent
FIRST_LINE = "<!-- Written by docs/readme.py from nbs/index.ipynb: edit the notebook, then run `make readme`. -->"

def fence(text, language=""): return f"```{language}\n{text.rstrip()}\n```"

def show(output):
    "The Markdown of one output, empty where it has none: tables in their plain form, because GitHub drops the style of pandas' HTML"
    if output.output_type == "stream": return fence(output.text, "text") if output.name == "stdout" else ""
    data = output.get("data", {})
    if "text/markdown" in data: return data["text/markdown"].strip()
    is_picture = any(kind.startswith("image/") for kind in data)
    return fence(data["text/plain"], "text") if "text/plain" in data and not is_picture else ""

def show_cell(cell):
    "The Markdown blocks of one cell"
    if cell.cell_type == "markdown": # links in the notebook start from nbs/, links in README.md from the root
        return [re.sub(r"\]\((?=[\w-]+\.ipynb)", "](nbs/", cell.source).replace("](../", "](").strip()]
    directives = extract_directives(cell, remove=False)
    if cell.cell_type != "code" or "hide" in directives: return []
    source = re.sub(r"^[ \t]*#[ \t]*\|.*\n?", "", cell.source, flags=re.MULTILINE)
    is_shell = source.startswith("!")
    code = fence(re.sub("^!", "", source, flags=re.MULTILINE) if is_shell else source, "sh" if is_shell else "python")
    is_silent = directives.get("echo:") == ["false"] or not source.strip()
    return ([] if is_silent else [code]) + [show(output) for output in cell.outputs]

def readme():
    "The text that README.md should have"
    notebook = nbformat.read(ROOT/"nbs/index.ipynb", as_version=4)
    blocks = [FIRST_LINE, *(block for cell in notebook.cells for block in show_cell(cell))]
    return "\n\n".join(filter(None, blocks)) + "\n"

if __name__ == "__main__":
    path, text = ROOT/"README.md", readme()
    if "--check" not in sys.argv: path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        sys.exit("README.md is not what nbs/index.ipynb makes: run `make readme`")
