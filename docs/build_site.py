"""Builds the site: python docs/build_site.py, which `make docs` calls.

docs/staging.py writes what Sphinx reads into _proc/en and _proc/pt; Sphinx makes _docs from the one
and _docs/pt from the other, every warning an error that names its notebook and cell.
"""
import ast
import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from unittest.mock import patch

import judge
import nbformat
import portuguese
import staging
from staging import ROOT, page_of

STAGE, SITE = ROOT/"_proc", ROOT/"_docs"
os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "TQDM_DISABLE": "1",
               "PYTHONPATH": f"{ROOT/'docs'}{os.pathsep}{ROOT}"}
os.environ.pop("FORCE_COLOR", None)
sys.path.insert(0, str(ROOT))

def toctree(pages, *options):
    return "\n".join(["```{toctree}", ":hidden:", *options, "", *pages, "```"])

def menu(language):
    "Hidden lists on the home page; a page that is in no section is a warning of Sphinx's"
    return "\n\n".join(toctree(pages.split(), f":caption: {names[language == 'pt']}")
                       for *names, pages in staging.OWN["sections"])

def api_pages(language):
    "Page → text: the modules, which Sphinx's autodoc fills, and their index"
    words = staging.WORDS[language]
    pages, rows = {}, []
    for name in staging.MODULES:
        module = f"cola_nbdev.{name}"
        source = (ROOT/"cola_nbdev"/f"{name}.py").read_text(encoding="utf-8")
        about = ast.get_docstring(ast.parse(source))
        rows.append(f"- [{module}]({name}.md): {about}")
        page = page_of(name)
        constants = [each for each, homes in staging.symbols().items()
                     if name in homes and each.isupper()]  # autodoc asks for docstrings otherwise
        data = "".join(f".. autodata:: {module}.{each}\n" for each in constants)
        pages[f"api/{name}"] = (f"# {module}\n\n{words['built']}: [{page}](../{page}.ipynb)\n\n"
                                f"```{{eval-rst}}\n.. automodule:: {module}\n\n{data}```\n")
    index = "\n\n".join(["# API", words["api"], "\n".join(rows), toctree(staging.MODULES)])
    return pages | {"api/index": index}

def help_of(main, *command):
    "What `cola command --help` prints"
    environment = {"COLUMNS": "86", "NO_COLOR": "1", "TERM": "dumb"}
    with redirect_stdout(io.StringIO()) as said, patch.dict(os.environ, environment), \
         suppress(SystemExit): main([*command, "--help"])
    return "```text\n" + re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).rstrip() + "\n```"

def command_page(language):
    "One section for each command"
    from cola_nbdev.cli import COMMANDS, main
    sections = [f"## cola {name}\n\n{help_of(main, name)}" for name in COMMANDS]
    return "\n\n".join([staging.WORDS[language]["commands"], help_of(main), *sections])

def notebooks(language):
    return sorted((ROOT/("nbs" if language == "en" else "pt")).glob("*.ipynb"))

def stage(language):
    "Write everything Sphinx reads"
    folder, extra = STAGE/language, STAGE/f"{language}-extra"
    for old in (folder, extra): shutil.rmtree(old, ignore_errors=True)
    (folder/"api").mkdir(parents=True)
    (extra/"notebooks").mkdir(parents=True)
    pictures = shutil.ignore_patterns("*.css", "*.svg", "*js")
    shutil.copytree(ROOT/"docs/static", folder/"pictures", ignore=pictures)
    for path in notebooks(language):
        page = staging.stage_notebook(path, language)
        if path.stem == "index": page.cells.append(nbformat.v4.new_markdown_cell(menu(language)))
        nbformat.write(page, folder/f"{page_of(path)}.ipynb")
        shutil.copy(path, extra/"notebooks")
    texts = {page: staging.stage_text(source, language) for source, page in staging.TEXTS.items()}
    texts |= api_pages(language) | {"commands": command_page(language)}
    for page, text in texts.items(): (folder/f"{page}.md").write_text(text, encoding="utf-8")

def located(line, language):
    "Sphinx's warning with notebook and cell: myst-nb counts 10000 lines a cell"
    found = re.match(rf"{re.escape(str(STAGE/language))}/(.+?)\.ipynb:(\d+): (.*)", line)
    if not found: return line.replace(f"{STAGE/language}/", f"{language}/")
    cells = nbformat.read(STAGE/language/f"{found[1]}.ipynb", as_version=4).cells
    cell = cells[min(max(int(found[2]) // 10000 - 1, 0), len(cells) - 1)]
    source = next(path for path in notebooks(language) if page_of(path) == found[1])
    return f"{source.relative_to(ROOT)}, cell {cell.id}: {found[3]}"

def build(language, facts):
    "Let Sphinx make the pages, with facts for the templates; returns its complaints"
    out = SITE if language == "en" else SITE/language
    environment = os.environ | {"SITE_LANGUAGE": language}
    flags = ["-b", "html", "-n", "-q", "-E", "-j", "2", "-c", str(ROOT/"docs"),
             f"-Asite_language={language}", *(f"-A{name}={value}" for name, value in facts.items())]
    folders = ["-d", str(STAGE/f"{language}-doctrees"), str(STAGE/language), str(out)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *flags, *folders], env=environment,
                          capture_output=True, text=True)
    shutil.rmtree(ROOT/"jupyter_execute", ignore_errors=True)  # myst-nb's copy of the notebooks
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).splitlines()
    complaints = [located(line, language) for line in lines if line.strip()]
    return complaints or ([f"Sphinx ended with {done.returncode}"] if done.returncode else [])

def print_tutorial(folder):
    "The tutorial as PDF, for paper and for where there is no network"
    page = folder/"tutorial.html"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    done = subprocess.run([str(staging.BROWSER), *options, page.as_uri(),
                           f"--print-to-pdf={page.with_suffix('.pdf')}"],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{staging.BROWSER} can't print the tutorial; it says:\n{done.stderr[-500:]}")

def main():
    shutil.rmtree(SITE, ignore_errors=True)
    portuguese.write()
    facts = judge.pack(SITE) or {}
    for language in ("en", "pt"):
        stage(language)
        if complaints := build(language, facts): sys.exit("\n".join(complaints))
        if staging.BROWSER: print_tutorial(SITE if language == "en" else SITE/language)
        print(f"{language}: built", flush=True)
    print("The site is in _docs: open _docs/index.html")

if __name__ == "__main__": main()
