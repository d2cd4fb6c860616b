"Sphinx reads this; docs/build_site.py says which language and where the pages are"
import configparser
import os
import re
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parent.parent
parser = configparser.ConfigParser()
parser.read(ROOT/"settings.ini", encoding="utf-8")
facts = parser["DEFAULT"]
site_language = os.environ.get("SITE_LANGUAGE", "en")
TITLES = {"en": "cola_nbdev", "pt": "cola_nbdev em português"}

project = facts["lib_name"]
author = facts["author"]
copyright = facts["copyright"] # noqa: A001, Sphinx calls it so
version = release = facts["version"]
language = {"en": "en", "pt": "pt_BR"}[site_language]

extensions = ["myst_nb", "sphinx_copybutton", "sphinx_sitemap", "sphinxext.opengraph", "notfound.extension"]
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off" # outputs are kept in the notebooks; a missing one stops the build
nb_merge_streams = True
nb_render_markdown_format = "myst"
suppress_warnings = ["mystnb.unknown_mime_type"]
exclude_patterns = []
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = TITLES[site_language]
html_baseurl = f"{facts['doc_host']}{facts['doc_baseurl']}/" + ("pt/" if site_language == "pt" else "")
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_extra_path = [os.environ["SITE_EXTRA"]] if "SITE_EXTRA" in os.environ else []
html_context = {"site_language": site_language}
html_sidebars = {"**": ["sidebar/brand.html", "language.html", "sidebar/search.html", "sidebar/scroll-start.html", "sidebar/navigation.html", "sidebar/scroll-end.html"]}
html_theme_options = {"footer_icons": [{"name": "GitHub", "url": facts["git_url"], "html": "GitHub"}]}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div:not(.output) > div.highlight pre"

sitemap_url_scheme = "{link}"
sitemap_excludes = ["404.html", "search.html", "genindex.html", "py-modindex.html"]
ogp_site_url = html_baseurl
ogp_image = f"{facts['doc_host']}{facts['doc_baseurl']}/_static/card.png"
ogp_image_alt = facts["description"]
ogp_social_cards = {"enable": False} # one card for all pages
ogp_enable_meta_description = False
notfound_urls_prefix = f"{facts['doc_baseurl']}/" + ("pt/" if site_language == "pt" else "")

def mathml(source, display): return convert(re.sub(r"\\label\{[^}]*\}", "", source), display=display)

def inline(self, node):
    from docutils.nodes import SkipNode
    self.body.append(mathml(node.astext(), "inline"))
    raise SkipNode

def block(self, node):
    from docutils.nodes import SkipNode
    self.body.append(f'<div class="math" tabindex="0" role="group" aria-label="{node.astext().strip()!r}">'.replace("\\\\", "\\").replace("\n", " ") + mathml(node.astext(), "block") + "</div>")
    raise SkipNode

def reachable(app, pagename, templatename, context, doctree):
    "What Furo and myst-nb leave out for people without a mouse or a screen: the level of the menu's headings, and a way into what scrolls"
    if "body" in context:
        context["body"] = re.sub(r"<pre>(?=<span></span>)", '<pre tabindex="0">', context["body"]).replace('<div class="output-table">', '<div class="output-table" tabindex="0">')
    if "furo_navigation_tree" in context: context["furo_navigation_tree"] = context["furo_navigation_tree"].replace('role="heading"', 'role="heading" aria-level="2"')

def setup(app): # formulas as MathML: browsers draw it themselves, with no script and no font of ours
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("html-page-context", reachable, priority=900)

html_math_renderer = "mathml"
