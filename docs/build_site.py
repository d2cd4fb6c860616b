"""Builds the site: python docs/build_site.py, which `make docs` calls.

The notebooks go through nbdev's processors and a staging step (docs/staging.py) into _proc/en and _proc/pt, the API and command pages join them (docs/reference.py), and Sphinx makes
_docs from _proc/en and _docs/pt from _proc/pt, every warning an error. What is wrong is told with notebook and cell.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
os.environ.pop("FORCE_COLOR", None)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import nbformat

import portuguese
import readme
import reference
import staging

STAGE, SITE = ROOT/"_proc", ROOT/"_docs"
GROUPS = {"en": ["Data", "Tokenization", "The network", "Training", "Evaluation", "Prediction", "Experiments", "Inspection", "The page", "Command line"],
          "pt": ["Dados", "Tokenização", "A rede", "Treinamento", "Avaliação", "Predição", "Experimentos", "Inspeção", "A página", "Linha de comando"]}
CAPTIONS = {"en": {"start": "Start", "reference": "Reference", "project": "Project"}, "pt": {"start": "Começo", "reference": "Referência", "project": "Projeto"}}
NOT_FOUND = {"en": "# There is no such page\n\nThe address may be old or have a typing error. The search on the left knows all pages, and [home](index.ipynb) is a good place to start again.\n",
             "pt": "# Esta página não existe\n\nO endereço pode ser antigo ou conter um erro de digitação. A busca à esquerda conhece todas as páginas, e a [página inicial](index.ipynb) é um bom lugar para recomeçar.\n"}

def reading_order():
    "Stems of the numbered notebooks as the home page lists them"
    home = nbformat.read(ROOT/"nbs/index.ipynb", as_version=4)
    listed = list(dict.fromkeys(re.findall(r"\]\((\d\d_\w+)\.ipynb\)", "\n".join(re.findall(r"^\|.*", "\n".join(cell.source for cell in home.cells if cell.cell_type == "markdown"), re.MULTILINE)))))
    if missing := {path.stem for path in (ROOT/"nbs").glob("[0-9]*.ipynb")} - set(listed): sys.exit(f"nbs/index.ipynb: the table of notebooks has no {', '.join(sorted(missing))}")
    return listed

def toctrees(language):
    "What the menu shows, in the order of reading: hidden lists on the home page"
    captions, stems = CAPTIONS[language], reading_order()
    lists = [(captions["start"], ["tutorial"])]
    lists += [(f"{number} · {name}", [staging.page_of(stem) for stem in stems if int(stem[:2]) == number]) for number, name in enumerate(GROUPS[language])]
    lists += [(captions["reference"], ["api/index", "commands"]), (captions["project"], [page for page in staging.TEXTS.values() if (STAGE/language/f"{page}.md").exists()])]
    return "\n\n".join(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```" for caption, pages in lists)

def notebooks(language): return sorted((ROOT/("nbs" if language == "en" else "pt")).glob("*.ipynb"))

def stage(language):
    "Write everything Sphinx reads; returns page → (title, description)"
    folder, extra = STAGE/language, STAGE/f"{language}-extra"
    for old in (folder, extra): shutil.rmtree(old, ignore_errors=True)
    (folder/"api").mkdir(parents=True)
    (extra/"notebooks").mkdir(parents=True)
    shutil.copytree(ROOT/"docs/static", folder/"pictures", ignore=shutil.ignore_patterns("*.css", "*.svg"))
    pages = {}
    for path in notebooks(language):
        notebook, pages[staging.page_of(path)] = staging.stage_notebook(path)
        if path.stem == "index": index = notebook
        else: nbformat.write(notebook, folder/f"{staging.page_of(path)}.ipynb")
        shutil.copy(path, extra/"notebooks")
    for source, page in staging.TEXTS.items():
        if not (ROOT/source).exists(): continue
        text, pages[page] = staging.stage_text(source)
        (folder/f"{page}.md").write_text(text, encoding="utf-8")
    link = lambda module, line: staging.repository(f"{Path(module.__file__).relative_to(ROOT).as_posix()}") + f"#L{line}"
    written = reference.api_pages(language, link) | {"commands": reference.command_page(language), "404": "---\norphan: true\n---\n\n" + NOT_FOUND[language]}
    for page, text in written.items(): (folder/f"{page}.md").write_text(text, encoding="utf-8")
    index.cells.append(nbformat.v4.new_markdown_cell(toctrees(language)))
    nbformat.write(index, folder/"index.ipynb")
    api_index = folder/"api/index.md"
    api_index.write_text(api_index.read_text(encoding="utf-8") + "\n```{toctree}\n:hidden:\n\n" + "\n".join(module.__name__.split(".")[-1] for module in reference.modules()) + "\n```\n", encoding="utf-8")
    return pages

def llms(pages):
    "What llmstxt.org asks for: the pages with their promises, as links to follow"
    facts = staging.settings()
    base = f"{facts.doc_host}{facts.doc_baseurl}/"
    lines = [f"- [{title}]({base}{page}.html)" + (f": {description}" if description else "") for page, (title, description) in pages.items() if page != "index"]
    return f"# {facts.lib_name}\n\n> {facts.description}\n\nThe pages are notebooks; each is also at {base}notebooks/ as .ipynb, and in Portuguese under {base}pt/.\n\n## Pages\n\n" + "\n".join(lines) + "\n"

def located(line):
    "Sphinx's warning with the notebook's name and cell in place of the staged file: myst-nb counts 10000 lines a cell"
    found = re.match(rf"{re.escape(str(STAGE/language))}/(.+?)\.ipynb:(\d+): (.*)", line)
    if not found: return line.replace(f"{STAGE/language}/", f"{language}/")
    page, number, text = found[1], int(found[2]), found[3]
    notebook = nbformat.read(STAGE/language/f"{page}.ipynb", as_version=4)
    cell = notebook.cells[min(max(number // 10000 - 1, 0), len(notebook.cells) - 1)]
    source = next(path for path in notebooks(language) if staging.page_of(path) == page)
    return f"{source.relative_to(ROOT)}, cell {cell.id.removesuffix('-anchor')}: {text}"

def build(language):
    "Let Sphinx make the pages; returns its complaints"
    out = SITE if language == "en" else SITE/language
    environment = os.environ | {"SITE_LANGUAGE": language, "SITE_EXTRA": str(STAGE/f"{language}-extra")}
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-n", "-q", "-E", "-j", "2", "-c", str(ROOT/"docs"), "-d", str(STAGE/f"{language}-doctrees"), str(STAGE/language), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    shutil.rmtree(ROOT/"jupyter_execute", ignore_errors=True) # myst-nb's copy of the notebooks
    complaints = [located(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).splitlines() if line.strip()]
    return complaints or ([f"Sphinx ended with {done.returncode}"] if done.returncode else [])

def main():
    parser = argparse.ArgumentParser(description="Build the site into _docs")
    parser.add_argument("--language", choices=["en", "pt"], action="append", help="only this one (default: both)")
    languages = parser.parse_args().language or ["en", "pt"]
    os.chdir(ROOT) # nbdev looks for settings.ini from here
    started = time.perf_counter()
    for name in readme.FIRST_LINE:
        if not (ROOT/name).exists() or (ROOT/name).read_text(encoding="utf-8") != readme.readme(name): sys.exit(f"{name} is not what nbs/index.ipynb makes: run `make readme`")
    shutil.rmtree(SITE, ignore_errors=True)
    for language in languages:
        if language == "pt":
            if complaints := list(portuguese.complaints()): sys.exit("\n".join(complaints))
            portuguese.write()
        try: pages = stage(language)
        except staging.Unknown as error: sys.exit(f"{error}")
        if language == "en": (STAGE/"en-extra/llms.txt").write_text(llms(pages), encoding="utf-8")
        print(f"{language}: {len(pages)} pages staged after {time.perf_counter() - started:.0f} s", flush=True)
        complaints = build(language)
        if complaints: sys.exit("\n".join(complaints))
        print(f"{language}: built after {time.perf_counter() - started:.0f} s", flush=True)
    print(f"The site is in {SITE.relative_to(ROOT)}: open {SITE.relative_to(ROOT)}/index.html")

if __name__ == "__main__": main()
