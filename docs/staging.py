"""From notebooks to pages: what Sphinx gets to read. Called by docs/build_site.py.

nbdev's processors read the directives, the title and the description of a notebook; what follows turns its cells into MyST. Code that is exported
stays on the page, for this package is read; its parameters stand in the tables of the API. A construct that is not known stops the build and names notebook and cell.
"""
import ast
import html
import json
import re
from functools import cache
from pathlib import Path, PurePosixPath

import nbformat
from docutils.nodes import make_id
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, _iter_py_cells
from nbdev.frontmatter import FrontmatterProc
from nbdev.processors import clean_magics, hide_, hide_line, populate_language, rm_header_dash, strip_ansi
from nbdev.process import NBProcessor

from portuguese import FENCE, page_of

ROOT = Path(__file__).resolve().parent.parent
PROCESSORS = [FrontmatterProc, populate_language, strip_ansi, hide_line, rm_header_dash, clean_magics, hide_] # nbdev's, in nbdev's order
CALLOUTS = {"note", "tip", "important", "warning", "caution"}
TEXTS = {"docs/scale.md": "scale", "docs/reliability.md": "reliability", "benchmarks/results/README.md": "benchmarks", "CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"} # pages that are no notebooks
# What people look for → the cell whose heading answers it; in both languages
TERMS = {"14_training": {"going-on": ("resume", "retomar")}, "15_evaluation": {"how-far-may-it-be-off": ("confidence interval", "intervalo de confiança"), "one-number-seven-sentences-in-ten": ("Matthews correlation", "correlação de Matthews"),
         "where-do-the-errors-live-the": ("errors by phenomenon", "erros por fenômeno")}, "05_tokenization": {"padding-is-work-for-nothing-pad": ("padding", "preenchimento"), "all-sentences-at-once-the-tutorial": ("attention mask", "máscara de atenção")},
         "08_packing": {"a-strip-of-pieces-a-strip": ("packing", "empacotamento")}, "10_settings": {"the-optimizer-and-its-schedule-adamw": ("learning rate", "taxa de aprendizagem"), "the-settings": ("settings", "configuração")},
         "11_checkpoints": {"checkpoint-is": ("checkpoint", "checkpoint")}, "16_calibration": {"fit-both": ("threshold", "limiar"), "how-far-off": ("calibration", "calibração")}, "21_pairs": {"asking": ("minimal pairs", "pares mínimos")},
         "22_export": {"writing-onnx": ("ONNX", "ONNX"), "what-changes": ("int8", "int8"), "read-export": ("Hub", "Hub")}, "19_scoring": {"score-file-what": ("a file of any size", "um arquivo de qualquer tamanho")},
         "23_experiments": {"several-seeds": ("seeds", "sementes"), "controls-what": ("controls", "controles")}, "24_search": {"searching": ("hyperparameters", "hiperparâmetros")}, "26_inspection": {"attention-why": ("attention", "atenção"), "probe-why": ("probe", "sonda")},
         "25_attribution": {"gradients": ("integrated gradients", "gradientes integrados")}, "27_app": {"the-page": ("web page", "página da web")}, "13_doctor": {"what-may-be-a-phase": ("degenerate", "degenerado")}}
SAYS_NOTHING = {"refused", "cleanup", "close", "set_option", "rmtree", "remove", "unlink"} # calls that end a cell and return nothing
WORDS = {"en": {"colab": "Open in Colab", "download": "Download the notebook", "source": "The notebook on GitHub", "imports": "Imports", "english": ""},
         "pt": {"colab": "Abrir no Colab", "download": "Baixar o notebook", "source": "O notebook no GitHub", "imports": "Importações", "english": "Esta página existe só em inglês."}}

class Unknown(Exception):
    "What the site cannot show, with notebook and cell"

def settings(): return get_config(path=ROOT)

def repository(path): return f"{settings().git_url}/blob/{settings().branch}/{path}"

# --- addresses ---

@cache
def files(): # repository path → page
    return {f"nbs/{path.name}": page_of(path) for path in (ROOT/"nbs").glob("*.ipynb")} | TEXTS

def address(target, # As it stands in the source
            folder, # Of the file it stands in, from the root: nbs, docs, benchmarks/results
           ):
    "Where a link leads on the site: a page, a file in the repository, or elsewhere"
    if re.match(r"[a-z]+:|#", target): return target
    path, _, anchor = target.partition("#")
    parts = []
    for part in (PurePosixPath(folder)/path).parts:
        if part == "..": parts = parts[:-1]
        elif part != ".": parts.append(part)
    found = "/".join(parts)
    if found.startswith("docs/static/"): return f"pictures/{path.rpartition('/')[2]}"
    if found in files(): return f"{files()[found]}{'.ipynb' if found.startswith('nbs/') else '.md'}" + (f"#{anchor}" if anchor else "")
    if (ROOT/found).exists(): return repository(found)
    raise Unknown(f"the link {target} leads nowhere: there is no {found}")

def link_files(text, folder): return re.sub(r"(?<=\]\()([^)\s]+)(?=\))", lambda match: address(match[1], folder), text)

@cache
def symbols(): # name → {module: full name}, of everything public
    found = {}
    for module, names in NbdevLookup().entries[settings().lib_name]["syms"].items():
        for full in names:
            name = full.removeprefix(f"{module}.")
            if not any(part.startswith("_") for part in name.split(".")): found.setdefault(name, {})[module] = full
    return found

def public(): # names that have an entry in the API pages
    import reference
    return reference.documented()

def link_symbols(text, module):
    "`mcc` → a link to its entry in the API pages; left alone in headings, in links, and where two modules use the name"
    def link(match):
        name = match[1].removesuffix("()")
        homes = {home: full for home, full in symbols().get(name, {}).items() if full in public()}
        full = homes.get(f"cola_nbdev.{module}") or (next(iter(homes.values())) if len(homes) == 1 else None)
        return f"{{py:obj}}`{match[1]} <{full}>`" if full else match[0]
    lines = [line if line.startswith("#") else re.sub(r"(?<![\[\w`}])`([^`\s]+)`(?![\]`])", link, line) for line in text.split("\n")]
    return "\n".join(lines)

def outside_code(text, change):
    "Change what stands outside fenced code"
    parts, at = [], 0
    for match in FENCE.finditer(text):
        parts += [change(text[at:match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, change(text[at:])])

# --- prose ---

QUARTO = {"a shortcode": r"\{\{<", "attributes in braces": r"(?<=[\])\w`])\{[.#][^}]*\}|^#+ .*\{[.#][^}]*\}$", "a cross-reference of Quarto": r"(?<![\w`])@(?:fig|tbl|sec|eq)-\w+",
          "raw HTML for Quarto": r"^```\{=\w+\}", "an executable fence": r"^```\{[a-z]+\}"}

def callouts(text):
    "::: {.callout-note} … ::: → :::{note} … :::"
    def change(match):
        kind = re.fullmatch(r"\{\.callout-(\w+)\}", match[1].strip())
        if not kind or kind[1] not in CALLOUTS: raise Unknown(f"a construct of Quarto that the site does not know: ::: {match[1].strip()}")
        return f":::{{{kind[1]}}}"
    return re.sub(r"^:::[ \t]*(\S.*)$", change, text, flags=re.MULTILINE)

def answers(text):
    "Folded answers: raw HTML around Markdown; a reader of the screen hears which answer it is"
    return re.sub(r"<details><summary>(.+?)</summary>", r'<details class="folded answer"><summary>\1</summary>', text)

def prose(text, folder, module=""):
    "Markdown of ours → MyST"
    without_math = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]+`", "", FENCE.sub("", text), flags=re.DOTALL)
    for name, pattern in QUARTO.items():
        if found := re.search(pattern, text if "fence" in name or "HTML" in name else without_math, re.MULTILINE):
            raise Unknown(f"{name} of Quarto, which the site does not know: {found[0].strip()}")
    text = re.sub(r" \*[\w ]+: \[README\S*\]\(\S+\)\.\*", "", text) # on the site a switch leads to the other language
    return outside_code(text, lambda part: link_symbols(link_files(answers(callouts(part)), folder), module))

# --- cells ---

END = "\n```\n\n</details>"
FOLDED = '<details class="folded"><summary>{}</summary>\n\n```python\n{}' + END

def anchors(source, taken):
    "The places that nbdev's own links name, page.html#symbol; `taken` holds the names that the page has already"
    names = {node.name.lower() for node in ast.parse(source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))} - taken
    taken |= names # `Attribution` and `attribution` are one place
    return "".join(f'<span class="anchor" id="{html.escape(name)}"></span>' for name in sorted(names))

def headings(notebook): return {make_id(title) for cell in notebook.cells if cell.cell_type == "markdown" for title in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)}

def imports_only(source): return all(isinstance(node, (ast.Import, ast.ImportFrom)) or "TYPE_CHECKING" in ast.unparse(node).split("\n")[0] for node in ast.parse(source).body)

def shows(source):
    "Whether a cell must have an output: it prints at its top level, or ends with a value"
    body = ast.parse(source).body
    if not body: return False
    statements = [node.value for node in body if isinstance(node, ast.Expr)]
    name = lambda node: getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
    if any(name(node) == "print" for node in statements): return True
    last = body[-1]
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"): return False
    return not (isinstance(last.value, ast.Call) and (name(last.value).startswith("test_") or name(last.value) in SAYS_NOTHING))

def tidy(output, folder, module):
    "An output as the page shows it: valid HTML, tables that scroll by themselves, links that lead somewhere"
    data = output.get("data", {})
    if "text/html" in data:
        text = "".join(data["text/html"])
        text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.DOTALL)
        text = re.sub(r'<table border="1" ', "<table ", text).replace(' style="text-align: right;"', "").replace(' valign="top"', "")
        text = re.sub(r"<thead>.*?</thead>", lambda head: head[0].replace("<th", '<th scope="col"').replace('<th scope="col"ead', "<thead"), text, flags=re.DOTALL)
        text = re.sub(r"<th>|<th (?!scope)", lambda head: '<th scope="row"' + (">" if head[0] == "<th>" else " "), text)
        data["text/html"] = f'<div class="output-table">{text}</div>' if "<table" in text else text
    if "text/markdown" in data: data["text/markdown"] = prose("".join(data["text/markdown"]), folder, module)
    return output

def stage_cell(cell, folder, module, words, taken):
    "A cell of nbdev's → cells of the page (none, one, or two)"
    directives, source = cell.directives_, cell.source
    if cell.cell_type == "raw": return []
    if cell.cell_type == "markdown": return [nbformat.v4.new_markdown_cell(prose(source, folder, module), id=cell.id)]
    if directives.keys() & {"hide", "default_exp"} or not source.strip(): return []
    if source.startswith("!"):
        return [nbformat.v4.new_markdown_cell("```sh\n" + re.sub("^!", "", source, flags=re.MULTILINE) + "\n```", id=cell.id)]
    new = nbformat.v4.new_code_cell(source, id=cell.id)
    new.outputs = [tidy(nbformat.from_dict(output), folder, module) for output in json.loads(json.dumps(cell.outputs)) if output.get("name") != "stderr"]
    exported = "export" in directives
    if not new.outputs and not exported and shows(source): raise Unknown("an output is missing: the cell shows something, and nothing is kept; `make outputs notebooks=…` runs it (slow=1 for long cells)")
    pictures = [output for output in new.outputs if "image/png" in output.get("data", {})]
    described = " ".join(directives.get("fig-alt:", [])).strip("\"'")
    if pictures and not described: raise Unknown("a picture without words for those who cannot see it: begin the cell with `#| fig-alt: …`")
    if pictures: new.metadata["mystnb"] = {"image": {"alt": described, "class": "plot"}}
    new.metadata["tags"] = ["remove-input"] if directives.get("echo:") == ["false"] else []
    if imports_only(source) and not new.outputs:
        return [nbformat.v4.new_markdown_cell(FOLDED.format(words["imports"], source), id=cell.id)]
    before = [nbformat.v4.new_markdown_cell(places, id=f"{cell.id}-anchor")] if exported and (places := anchors(source, taken)) else []
    return [*before, new]

def join_imports(cells):
    "Two folded cells of imports in a row become one"
    joined = []
    for cell in cells:
        if joined and all(one.source.startswith("<details class=\"folded\"") for one in (joined[-1], cell)):
            joined[-1].source = joined[-1].source.removesuffix(END) + "\n" + cell.source.split("```python\n", 1)[1]
        else: joined.append(cell)
    return joined

def with_terms(cells, terms, path):
    "An entry of the index above each heading that answers a search"
    by_id = {cell.id: cell for cell in cells}
    for id, names in terms.items():
        if id not in by_id: raise Unknown(f"nbs/{path.name} has no cell {id}, where docs/staging.py lets the search find {names[0]}")
        by_id[id].source = re.sub(r"^(?=##)", f"```{{index}} ! {names[language == 'pt']}\n```\n\n", by_id[id].source, count=1, flags=re.MULTILINE)
    return cells

# --- pages ---

def buttons(path):
    "Open in Colab, download, look at the source"
    words, facts = WORDS[language], settings()
    branch, place = (facts.branch, f"nbs/{path.name}") if language == "en" else ("pt", path.name) # the workflow `docs` keeps the Portuguese notebooks on a branch of their own
    colab = f"https://colab.research.google.com/github/{facts.user}/{facts.repo}/blob/{branch}/{place}"
    return (f'<p class="page-links"><a href="{colab}"><img src="_static/colab.svg" alt="{words["colab"]}" width="118" height="20"></a> '
            f'<a href="notebooks/{path.name}" download>{words["download"]}</a> · <a href="{facts.git_url}/blob/{branch}/{place}">{words["source"]}</a></p>')

def front_matter(description):
    "What MyST reads about a page: in a notebook from its metadata, in a text from its top"
    return {"myst": {"html_meta": {"description": description}}} if description else {}

def exported_cells(module):
    "Cell id → code, as it stands in the module"
    path = ROOT/"cola_nbdev"/f"{module}.py"
    return {cell.cell_id: cell.code for cell in _iter_py_cells(path)} if path.exists() else {}

def check_export(cell, exported, module):
    "Refuse a page whose module is not what the notebook exports"
    flat = lambda code: re.sub(r"from cola_nbdev\.|from \.(?=\w)", "from ", re.sub(r"^[ \t]*#\|.*\n?", "", code, flags=re.MULTILINE)).replace("from cola_nbdev import", "from . import").strip()
    if flat(exported.get(cell.id, "")) != flat(cell.source): raise Unknown(f"cola_nbdev/{module}.py does not have this cell as it stands here: run `make export`")

def stage_notebook(path,     # A notebook, English or Portuguese
                   language, # en or pt
                  ):
    "The notebook that Sphinx reads, and its (title, description)"
    module, folder, words = re.sub(r"^\d+_", "", path.stem), "nbs", WORDS[language]
    processor = NBProcessor(path)
    processor.procs = []
    ids = {cell.idx_: cell.id for cell in processor.nb.cells}
    exported = exported_cells(module)
    for cell in processor.nb.cells:
        if "export" in cell.directives_ and language == "en":
            try: check_export(cell, exported, module)
            except Unknown as error: raise Unknown(f"nbs/{path.name}, cell {ids[cell.idx_]}: {error}") from None
    processor = NBProcessor(path, procs=PROCESSORS)
    processor.process()
    facts, cells, taken = processor.nb.frontmatter_, [], headings(processor.nb) | {make_id(processor.nb.frontmatter_["title"])}
    for cell in processor.nb.cells:
        try: cells += stage_cell(cell, folder, module, words, taken)
        except Unknown as error: raise Unknown(f"nbs/{path.name}, cell {cell.get('id', '?')}: {error}") from None
    title, description = facts["title"], re.sub(r"[*_`]", "", facts.get("description", ""))
    cells = with_terms(join_imports(cells), TERMS.get(path.stem, {}), path)
    head = f"# {title}\n\n" + (f"> {facts['description']}\n\n" if "description" in facts else "")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(head + buttons(path) * (module != "index"), id="top"), *cells],
        metadata=front_matter(description) | {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}})
    return notebook, (title, description)

def stage_text(source,   # Path from the root
               language, # en or pt
              ):
    "A Markdown file of the repository as a page, and its (title, description)"
    text = (ROOT/source).read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
    first = next((block for block in text.split("\n\n") if not re.match(r"[#|\-<*]", block)), "")
    description = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(first.split()))[:200].replace("`", "")
    try: body = prose(text, str(PurePosixPath(source).parent))
    except Unknown as error: raise Unknown(f"{source}: {error}") from None
    note = f":::{{note}}\n{WORDS[language]['english']}\n:::\n\n" if WORDS[language]["english"] else ""
    return f"---\n{json.dumps(front_matter(description), ensure_ascii=False)}\n---\n\n" + body.replace("\n\n", f"\n\n{note}", 1), (title, description)
