"Sphinx reads this; docs/build_site.py chooses the language"
import dataclasses
import importlib
import inspect
import os
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import imagesize
from docutils import nodes
from fastcore.docments import docments
from latex2mathml.converter import convert
from readme import FACTS, SITE_URL

site_language = os.environ.get("SITE_LANGUAGE", "en")
is_english = site_language == "en"

project = FACTS["lib_name"]
author = copyright = FACTS["author"]
version = release = FACTS["version"]
language = "en" if is_english else "pt_BR"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "sphinx_copybutton",
              "sphinx_sitemap", "sphinxext.opengraph", "notfound.extension"]
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs are kept in the notebooks
nb_merge_streams = True
nb_render_markdown_format = "myst"
suppress_warnings = ["mystnb.unknown_mime_type"]
nitpick_ignore_regex = [("py:.*", r"(?!cola_nbdev\.).*")]  # types of others have no page here
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "cola_nbdev" if is_english else "cola_nbdev em português"
html_baseurl = SITE_URL if is_english else f"{SITE_URL}pt/"
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["site.css"]
html_js_files = [("slides.js", {"defer": "defer"})]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_extra_path = [f"../_proc/{site_language}-extra"]
html_theme_options = {"footer_icons": [{"name": "GitHub", "url": FACTS["git_url"],
                                        "html": "GitHub"}]}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div:not(.output) > div.highlight pre"
sitemap_url_scheme = "{link}"
sitemap_excludes = ["404.html", "search.html", "genindex.html", "py-modindex.html"]
ogp_site_url = html_baseurl
ogp_image = f"{SITE_URL}_static/card.png"
ogp_image_alt = FACTS["description"]
ogp_social_cards = {"enable": False}  # one card for all pages
notfound_urls_prefix = html_baseurl.removeprefix(FACTS["doc_host"])
notfound_context = {"title": "There is no such page" if is_english else "Esta página não existe"}

# --- the API: autodoc, with the comments behind parameters as their descriptions ---

autodoc_default_options = dict.fromkeys(["members", "undoc-members", "no-value"], True)
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # they are in the lists that describe() writes
autodoc_preserve_defaults = True  # Config(), not all it holds
default_role = "code"

def escaped(text):
    "A comment as reStructuredText: only `code` means something"
    parts = re.split(r"(`[^`]+`)", " ".join((text or "").split()))
    return "".join(f"`{part}`" if part.startswith("`") else re.sub(r"([*_|\\])", r"\\\1", part)
                   for part in parts)

def described(name, one):
    "A parameter, or what is returned, as fields of reStructuredText"
    is_typed = one.anno is not inspect.Parameter.empty
    kind = str(getattr(one.anno, "__name__", one.anno)) if is_typed else ""
    comment = escaped(one.docment)
    if name == "return":
        return [f":returns: {comment}"] * bool(comment) + [f":rtype: {kind}"] * bool(kind)
    return [f":param {name}: {comment}"] + [f":type {name}: {kind}"] * bool(kind)

def describe(app, what, name, obj, options, lines):
    "Comments of docments as fields of autodoc"
    if what == "module": return
    if what == "data": lines[:] = [f"``{obj!r}``"] if len(repr(obj)) <= 200 else []
    if what in ("data", "property"): return
    text = escaped((obj.__doc__ or "").partition("\n\n")[0])  # the first paragraph
    is_dataclass = dataclasses.is_dataclass(obj)
    lines[:] = ["" if is_dataclass and text.startswith(f"{name.rpartition('.')[2]}(") else text, ""]
    if inspect.isclass(obj) and not is_dataclass and "__init__" not in vars(obj): return
    hidden = {"self", "cls"} | ({"return"} if inspect.isclass(obj) else set())
    with suppress(OSError, TypeError):  # functions that a decorator made have no source
        for parameter, one in docments(obj, full=True).items():
            if parameter not in hidden: lines += described(parameter, one)

def skip_fields(app, what, name, obj, skip, options):
    "The fields of a class are described with its parameters"
    is_property = isinstance(obj, property | cached_property)
    return True if what == "class" and not callable(obj) and not is_property else None

def linkcode_resolve(domain, info):
    "The lines on GitHub that define a name"
    found: Any = importlib.import_module(info["module"])
    try:
        for part in info["fullname"].split("."): found = getattr(found, part)
        line = inspect.getsourcelines(inspect.unwrap(getattr(found, "fget", found)))[1]
    except (AttributeError, OSError, TypeError): return None
    path = info["module"].replace(".", "/")
    return f"{FACTS['git_url']}/blob/{FACTS['branch']}/{path}.py#L{line}"

# --- formulas as MathML: browsers draw it themselves, without a script or font of ours ---

def mathml(display):
    def visit(self, node):
        formula = convert(re.sub(r"\\label\{[^}]*\}", "", node.astext()), display=display)
        is_block = display == "block"
        self.body.append(f'<div class="math" tabindex="0">{formula}</div>' if is_block else formula)
        raise nodes.SkipNode
    return visit

html_math_renderer = "mathml"
FOLD = re.compile(r'<summary aria-label="Toggle hidden content">\n<p class="collapsed[^>]*>(.*?)'
                  r"</p>.*?</summary>", re.DOTALL)  # myst-nb's

def name_folds(app, pagename, templatename, context, doctree):
    "What is folded is called what it is"
    if "body" in context: context["body"] = FOLD.sub(r"<summary>\1</summary>", context["body"])

def size_images(app, pagename, templatename, context, doctree):
    "Images say how large they are, so that what stands below does not jump when they arrive"
    for node in doctree.findall(nodes.image) if doctree else ():
        width, height = imagesize.get(Path(app.srcdir, node["candidates"]["*"]))
        sized = f'{node["uri"]}" width="{width}" height="{height}"'
        theirs = re.escape(node["uri"]) + r'"(?: (?:width|height|style)="[^"]*")*'
        context["body"] = re.sub(theirs, sized, context["body"])

def setup(app):
    app.add_html_math_renderer("mathml", (mathml("inline"), None), (mathml("block"), None))
    app.connect("autodoc-process-docstring", describe)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("html-page-context", size_images)
    app.connect("html-page-context", name_folds)
