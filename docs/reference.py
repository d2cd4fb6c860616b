"""The API pages, a table for every public name, and the page of the command `cola`. Called by docs/build_site.py.

nbdev's show_doc would look at the names as a notebook defines them, where the comments behind the fields of a dataclass are lost; here they come from the package itself.
"""
import dataclasses
import importlib
import inspect
import io
import re
from contextlib import redirect_stdout
from functools import cache, cached_property
from pathlib import Path

from fastcore.docments import docments

from portuguese import page_of

ROOT = Path(__file__).resolve().parent.parent
WORDS = {"en": {"title": "API", "promise": "Every public name of the package, with its parameters.", "module": "module", "what": "what it is for", "parameter": "parameter", "field": "field", "type": "type", "default": "default", "meaning": "meaning",
                "returns": "returns", "source": "source", "page": "where it is built", "command": "Command line", "command_promise": "Every command of `cola` with its options, as `--help` prints them.",
                "command_intro": "The page [cli](cli.ipynb) shows how the command is built. A mistake of yours is one line and exit code 2."},
         "pt": {"title": "API", "promise": "Todos os nomes públicos do pacote, com os seus parâmetros (as descrições existem só em inglês).", "module": "módulo", "what": "para que serve", "parameter": "parâmetro", "field": "campo", "type": "tipo", "default": "padrão", "meaning": "significado",
                "returns": "devolve", "source": "código", "page": "onde é construído", "command": "A linha de comando", "command_promise": "Todos os comandos de `cola` com as suas opções, como `--help` os mostra (em inglês).",
                "command_intro": "A página [linha de comando](cli.ipynb) mostra como o comando é construído. Um erro seu é uma linha e o código de saída 2."}}

@cache
def modules():
    "The modules of the package, in the order in which they are read"
    paths = sorted((ROOT/"nbs").glob("[0-9]*.ipynb"))
    names = [re.sub(r"^\d+_", "", path.stem) for path in paths]
    return [importlib.import_module(f"cola_nbdev.{name}") for name in names if (ROOT/"cola_nbdev"/f"{name}.py").exists()]

def methods(found):
    "The public methods and properties that a class defines itself"
    return {name: member for name, member in vars(found).items() if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod, cached_property)))}

@cache
def documented():
    "Full names of all that has an entry"
    found = set()
    for module in modules():
        for name in module.__all__:
            found.add(f"{module.__name__}.{name}")
            if inspect.isclass(getattr(module, name)): found |= {f"{module.__name__}.{name}.{method}" for method in methods(getattr(module, name))}
    return found

# --- a table of parameters ---

def code(text):
    "Inline code that may stand in a table"
    text = " ".join(str(text).split()).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"

def default(value):
    "A default as a person would write it"
    if value is inspect.Parameter.empty or value is dataclasses.MISSING: return ""
    return code(value.__name__ if inspect.isfunction(value) or inspect.isclass(value) else repr(value))

def plain(text):
    "A comment in a table: what looks like Markdown or HTML is only meant as text, save `code`"
    parts = re.split(r"(`[^`]+`)", " ".join((text or "").split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]$\\])", r"\\\1", part) for part in parts).replace("|", "\\|")

def annotation(kind):
    if kind is inspect.Parameter.empty: return ""
    return code(kind if isinstance(kind, str) else getattr(kind, "__name__", kind))

def table(found, words):
    "Parameters or fields: name, type, default, meaning; and what comes back"
    if inspect.isclass(found) and not dataclasses.is_dataclass(found) and found.__init__ is object.__init__: return ""
    rows = [(name, one) for name, one in docments(found, full=True).items() if name not in ("self", "cls")]
    parameters = [[code(name), annotation(one.anno), default(one.default), plain(one.docment)] for name, one in rows if name != "return"]
    back = [[f"**{words['returns']}**", annotation(one.anno), "", plain(one.docment)] for name, one in rows if name == "return" and one.docment and not inspect.isclass(found)]
    lines = parameters + back
    if not lines: return ""
    header = [words["field"] if dataclasses.is_dataclass(found) else words["parameter"], words["type"], words["default"], words["meaning"]]
    kept = [column for column in range(4) if column in (0, 3) or any(line[column] for line in lines)]
    show = lambda line: "| " + " | ".join(line[column] for column in kept) + " |"
    return "\n".join([show(header), show(["---"] * 4), *map(show, lines)])

def signature(found):
    "Names and defaults only: the types stand in the table"
    try: parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError): return "()"
    bare = [parameter.replace(annotation=inspect.Parameter.empty, default="…" if parameter.default is not inspect.Parameter.empty else parameter.default) for parameter in parameters if parameter.name not in ("self", "cls")]
    return str(inspect.Signature(bare)).replace("'…'", "…")

def entry(found, full, module, words, link, level=3):
    "One name: its signature, its sentence, its table, and where it comes from"
    kind = "class" if inspect.isclass(found) else "property" if isinstance(found, (property, cached_property)) else "function" if level == 3 else "method"
    function = found.func if isinstance(found, cached_property) else found.fget if isinstance(found, property) else found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
    fence = "`" * (6 - level + 2)
    text = inspect.cleandoc(inspect.getdoc(function) or "").split("\nArgs:")[0].strip()
    is_class_docstring_made = inspect.isclass(found) and text.startswith(f"{found.__name__}(")
    try: line = inspect.getsourcelines(function)[1]
    except (OSError, TypeError): line = 1
    places = [f"[{words['source']}]({link(module, line)})"] + ([f"[{words['page']}](project:../{page_of(module.__name__.split('.')[-1])}.ipynb)"] if level == 3 else [])
    shown = "" if kind == "property" else signature(function)
    inner = "" if kind == "property" else table(function, words)
    parts = [plain(text) if text and not is_class_docstring_made else "", inner, f"{{.places}}\n{' · '.join(places)}"]
    if inspect.isclass(found): parts += [entry(member, f"{full}.{name}", module, words, link, 4) for name, member in methods(found).items()]
    name = full.removeprefix(f"{module.__name__}.")
    return f"{fence}{{py:{kind}}} {name}{shown}\n:module: {module.__name__}\n\n" + "\n\n".join(filter(None, parts)) + f"\n{fence}"

def constant(value, name, module, words):
    "A public name that is no function and no class: its value, as far as it can be read at a glance"
    shown = repr(value)
    body = code(shown) if len(shown) <= 200 else ", ".join(code(key) for key in list(value)[:20]) + (", …" if len(value) > 20 else "") if isinstance(value, (dict, list, tuple, set, frozenset)) else code(type(value).__name__)
    return f"`````{{py:data}} {name}\n:module: {module.__name__}\n\n{body}\n\n{{.places}}\n[{words['page']}](project:../{page_of(module.__name__.split('.')[-1])}.ipynb)\n`````"

def api_page(module, words, link):
    "The page of one module"
    name = module.__name__.split(".")[-1]
    blocks = [f"# {module.__name__}\n\n{plain(module.__doc__)}", f"```{{py:module}} {module.__name__}\n```"]
    values = {symbol: getattr(module, symbol) for symbol in module.__all__}
    is_built = lambda found: inspect.isclass(found) or inspect.isfunction(found)
    blocks += [entry(found, f"{module.__name__}.{symbol}", module, words, link) for symbol, found in values.items() if is_built(found)]
    blocks += [constant(found, symbol, module, words) for symbol, found in values.items() if not is_built(found)]
    return "\n\n".join(blocks) + "\n"

def api_pages(language, link):
    "Page → text, of all modules and their index"
    words = WORDS[language]
    rows = [f"| [{module.__name__}](project:{module.__name__.split('.')[-1]}.md) | {plain(module.__doc__)} |" for module in modules()]
    index = f"# {words['title']}\n\n> {words['promise']}\n\n| {words['module']} | {words['what']} |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    return {"api/index": index} | {f"api/{module.__name__.split('.')[-1]}": api_page(module, words, link) for module in modules()}

# --- the command ---

def help_of(command):
    "What `cola command --help` prints, for a page of 86 columns"
    import os
    from unittest.mock import patch

    from cola_nbdev.cli import main
    caught = io.StringIO()
    with redirect_stdout(caught), patch.dict(os.environ, {"COLUMNS": "86", "NO_COLOR": "1", "TERM": "dumb"}):
        try: main([command, "--help"] if command else ["--help"])
        except SystemExit: pass
    return re.sub(r"\x1b\[[0-9;]*m", "", caught.getvalue()).rstrip()

def command_page(language):
    "One section for each command"
    from cola_nbdev.cli import COMMANDS
    words = WORDS[language]
    sections = [f"## cola {name}\n\n```text\n{help_of(name)}\n```" for name in COMMANDS]
    return f"# {words['command']}\n\n> {words['command_promise']}\n\n{words['command_intro']}\n\n```text\n{help_of('')}\n```\n\n" + "\n\n".join(sections) + "\n"
