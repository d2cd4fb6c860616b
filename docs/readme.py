"""Writes README.md from nbs/index.ipynb, and README.pt.md from its translation.

With --check only says whether they are up to date. Left out: cells flagged `#| hide`, what went to
stderr, and pictures. A code cell flagged `#| echo: false` leaves its outputs.
"""
import re
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import portuguese

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ConfigParser()
SETTINGS.read(ROOT/"settings.ini", encoding="utf-8")
FACTS = SETTINGS["DEFAULT"]
OWN = tomllib.loads((ROOT/"docs/site.toml").read_text(encoding="utf-8"))
FIRST_LINE = OWN["readme"]
SITE_URL = f"{FACTS['doc_host']}{FACTS['doc_baseurl']}/"
DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*\|[ \t]*([\w-]+):?[ \t]*(.*)\n?", re.MULTILINE)
def page_of(path):
    "The page of a notebook: its name without the number; search.html is Sphinx's own"
    stem = re.sub(r"^\d+_", "", Path(path).stem)
    return {"search": "cola-search"}.get(stem, stem)

def directives(source):
    "nbdev's directives in a cell, and the code without them"
    return dict(DIRECTIVE.findall(source)), DIRECTIVE.sub("", source).strip("\n")

def fence(text, language=""): return f"```{language}\n{text.rstrip()}\n```"

def show(output):
    "The Markdown of one output; tables in plain text, because GitHub drops pandas' styles"
    if output.output_type == "stream":
        return fence(output.text, "text") if output.name == "stdout" else ""
    data = output.get("data", {})
    if "text/markdown" in data: return data["text/markdown"].strip()
    is_picture = any(kind.startswith("image/") for kind in data)
    return "" if is_picture or "text/plain" not in data else fence(data["text/plain"], "text")

def links(text, name):
    "Links from the root; the Portuguese notebooks are generated, so those lead to the site"
    def page(match):
        if name == "README.md": return f"](nbs/{match[1]}.ipynb)"
        return f"]({SITE_URL}pt/{page_of(match[1])}.html)"
    return re.sub(r"\]\(([\w-]+)\.ipynb\)", page, text).replace("](../", "](")

def show_cell(cell, name):
    "The Markdown blocks of one cell"
    if cell.cell_type == "markdown": return [links(cell.source, name).strip()]
    found, code = directives(cell.source)
    if cell.cell_type != "code" or "hide" in found: return []
    shown = [] if found.get("echo") == "false" else [fence(code, "python")]
    return shown + [show(output) for output in cell.outputs]

def readme(name="README.md"):
    "The text that README.md or README.pt.md should have"
    path = ROOT/"nbs/index.ipynb"
    is_english = name == "README.md"
    notebook = portuguese.read(path) if is_english else portuguese.in_portuguese(path)
    blocks = [block for cell in notebook.cells for block in show_cell(cell, name)]
    return "\n\n".join(filter(None, [FIRST_LINE[name], *blocks])) + "\n"

if __name__ == "__main__":
    for name in FIRST_LINE:
        path, text = ROOT/name, readme(name)
        if "--check" not in sys.argv: path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{name} is not what nbs/index.ipynb makes: run `make readme`")
