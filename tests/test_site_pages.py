"""The site: built as `make docs` does, and read as its readers do. `make docs-check` and .ci/run.

Links with their anchors, valid HTML (html-validate), every page in Chromium in both themes and at a
phone's width (axe-core: nothing serious; no error in the console, no request elsewhere, nothing
wider than the screen, no code that scrolls sideways), the search, the weight of the home page, and
an entry in the API for every public name. Set COLA_NBDEV_SITE=1 to run what takes minutes.
"""
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS, SITE = ROOT/"docs", ROOT/"_docs"
sys.path.insert(0, str(DOCS))
import staging

CHROMIUM = staging.BROWSER
BASE = staging.FACTS["doc_baseurl"].strip("/")
HOME_BYTES, LAYOUT_SHIFT = 300_000, .02
VIEWS = [("light", 1280), ("dark", 1280), ("light", 390)]
DARK = {"index", "tutorial", "tokenization", "evaluation", "attribution", "api/evaluation",
        "commands", "benchmarks", "search"}  # one page of each kind: the style sheet is the same
SEARCHES = {"": {"confidence interval": "evaluation", "resume": "training",
                 "padding": "tokenization"},
            "pt/": {"intervalo de confiança": "evaluation", "retomar": "training",
                    "preenchimento": "tokenization"}}

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium at a time
if not os.environ.get("COLA_NBDEV_SITE"):
    pytest.skip("takes minutes and a browser: make docs docs-check", allow_module_level=True)

# --- without a browser ---

def pages(): return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))

@functools.cache
def built():
    "Build the site of this checkout, but once, and not where `make docs-check` has built it"
    assert CHROMIUM and shutil.which("npm"), "the site can't be checked without Chromium and npm"
    if os.environ["COLA_NBDEV_SITE"] != "built":
        command = [sys.executable, str(DOCS/"build_site.py")]
        environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    if not (DOCS/"node_modules/.package-lock.json").exists():
        subprocess.run(["npm", "ci", "--silent"], cwd=DOCS, check=True)

@pytest.fixture(scope="module")
def site(): built()

def test_the_files_beside_the_pages_are_there(site):
    wanted = ["sitemap.xml", "404.html", "_static/favicon.svg", "_static/card.png", "pt/index.html",
              "pt/sitemap.xml", "notebooks/tutorial.ipynb", "pt/notebooks/tutorial.ipynb"]
    assert not [name for name in wanted if not (SITE/name).exists()]

def test_every_public_name_is_in_the_api(site):
    from sphinx.util.inventory import InventoryFile
    with (SITE/"objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, path: path)
    listed = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    public = {f"cola_nbdev.{module}.{name}"
              for name, modules in staging.symbols().items() for module in modules}
    assert not sorted(public - listed)

def test_the_html_is_valid(site, tmp_path):
    out = tmp_path/"found.json"  # through a pipe long results are cut off
    command = ["node", "node_modules/html-validate/bin/html-validate.mjs", "--config",
               ".htmlvalidate.json", "--formatter", f"json={out}"]
    subprocess.run([*command, *(str(SITE/page) for page in pages())], cwd=DOCS)
    found = json.loads(out.read_text(encoding="utf-8"))
    lines = [f"{one['filePath']}:{message['line']}: {message['message']}"
             for one in found for message in one["messages"]]
    assert not lines, "\n".join(lines[:40])

# --- with a browser ---

class Handler(http.server.SimpleHTTPRequestHandler):
    "The site under the path it is published at, which the page for wrong addresses counts on"
    def log_message(self, *arguments): pass
    def translate_path(self, path): return super().translate_path(path.removeprefix(f"/{BASE}"))

@pytest.fixture(scope="module")
def base(site):
    "The site's address, on a free port of this machine"
    handler = functools.partial(Handler, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{BASE}/"
    server.shutdown()

@pytest.fixture(scope="module")
def chrome():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()

def listen(page, base, complaints):
    "Note errors in the console and requests that leave the site"
    def note(text): complaints.append(f"{page.url.removeprefix(base)}: {text}")
    ours = (base, "data:", "blob:", "file:")
    page.on("console", lambda it: note(f"the console says {it.text}") if it.type == "error" else 0)
    page.on("pageerror", lambda error: note(f"a script fails: {error}"))
    page.on("request", lambda it: None if it.url.startswith(ours) else note(f"asks for {it.url}"))

AXE = """async () => (await axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes: ["violations"]}))
    .violations.filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => [one.id, one.help, one.nodes.length, one.nodes[0].target.join(" ")].join(", "))"""
WIDE = """() => { document.querySelectorAll("details").forEach(one => one.open = true);
    return [...document.querySelectorAll(".cell_input pre, details .highlight pre")]
    .filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => `${one.scrollWidth} in ${one.clientWidth}: ${one.textContent.slice(0, 60)}`) }"""
LINKS = "() => [...document.querySelectorAll('a[href]')].map(one => one.href)"
PLACES = "() => [...document.querySelectorAll('[id]')].map(one => one.id)"

def read(page, theme, width, axe):
    "What is wrong with an open page"
    too_wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if too_wide > 1: yield f"{too_wide} pixels wider than a screen of {width}"
    if width < 600: return
    page.evaluate(axe)
    yield from page.evaluate(AXE)
    if theme == "light": yield from (f"code scrolls: {one}" for one in page.evaluate(WIDE))

@pytest.mark.parametrize("theme, width", VIEWS)
def test_every_page_is_well_in_a_browser(base, chrome, theme, width):
    axe = (DOCS/"node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    complaints, links, places = [], {}, {}
    page = chrome.new_page(viewport={"width": width, "height": 900}, color_scheme=theme,
                           reduced_motion="reduce")
    listen(page, base, complaints)
    for name in pages():
        if theme == "dark" and name.removesuffix(".html") not in DARK: continue
        page.goto(base + name)
        found = read(page, theme, width, axe)
        complaints += [f"{name}, {theme}, {width}: {line}" for line in found]
        links[name], places[name] = page.evaluate(LINKS), set(page.evaluate(PLACES))
    page.close()
    if theme == "light": complaints += broken(links, places, base)
    assert not complaints, f"{len(complaints)} complaints:\n" + "\n".join(complaints[:60])

def broken(links, places, base):
    "Links on the site, and their anchors, that lead nowhere"
    for name, addresses in links.items():
        for address in {each for each in addresses if each.startswith(base)}:
            path, anchor = urldefrag(unquote(address).removeprefix(unquote(base)))
            path = path.removesuffix("?slides")
            path = path + "index.html" if not path or path.endswith("/") else path
            is_there = anchor in places[path] | {""} if path in places else (SITE/path).exists()
            if not is_there: yield f"{name}: the link {address.removeprefix(base)} is broken"

@pytest.mark.parametrize("protocol", ["http", "file"])
def test_the_first_thing_found_is_the_right_one(base, chrome, protocol):
    start = base if protocol == "http" else f"{SITE.as_uri()}/"
    page, complaints = chrome.new_page(), []
    for language, searches in SEARCHES.items():
        for words, wanted in searches.items():
            page.goto(f"{start}{language}search.html?q={words.replace(' ', '+')}")
            page.wait_for_selector("#search-results li a", timeout=20_000)
            page.wait_for_timeout(300)
            first = page.evaluate("document.querySelector('#search-results li a').href")
            if f"{language}{wanted}.html" not in first: complaints.append((words, first))
    page.close()
    assert not complaints

def test_images_say_how_large_they_are(site):
    for page in SITE.rglob("*.html"):
        for image in re.findall("<img [^>]*_images/[^>]*>", page.read_text()):
            assert re.search('width="[1-9][0-9]*" height="[1-9][0-9]*"', image), (page, image)

def test_the_home_page_is_light_and_stands_still(base, chrome):
    page, sizes = chrome.new_page(viewport={"width": 1280, "height": 900}), []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.add_init_script("""window.shift = 0; new PerformanceObserver(list => list.getEntries()
        .forEach(one => window.shift += one.value))
        .observe({type: 'layout-shift', buffered: true})""")
    page.goto(base, wait_until="networkidle")
    assert sum(sizes) <= HOME_BYTES
    assert page.evaluate("window.shift") <= LAYOUT_SHIFT

@pytest.mark.parametrize("name", ["index.html", "tutorial.html", "api/evaluation.html"])
def test_the_switch_leads_to_the_same_page(base, chrome, name):
    page = chrome.new_page()
    page.goto(base + name)
    page.click(".languages a")
    assert page.url == f"{base}pt/{name}"
    page.click(".languages a")
    assert page.url == base + name

CELLS = """isShown => [...document.querySelectorAll("article .cell:not(.tag_hide-input)")]
    .flatMap((one, number) => isShown && !one.offsetParent ? [] : [number])"""

@pytest.mark.parametrize("name", ["tutorial.html", "pt/evaluation.html", "pt/glossary.html"])
def test_a_page_is_a_set_of_slides(base, chrome, name):
    "Under one heading at most one cell, and each cell once; the text comes with T"
    page, complaints = chrome.new_page(viewport={"width": 1280, "height": 720}), []
    listen(page, base, complaints)
    page.goto(f"{base}{name}?slides")
    count = int(page.inner_text(".slide-bar output").partition("/")[2])
    seen = []
    for _ in range(count):
        shown = page.evaluate(CELLS, True)
        assert len(shown) <= 1
        assert page.locator("article section > :is(h1, h2, h3):visible").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        seen += shown
        page.keyboard.press("ArrowRight")
    assert seen == page.evaluate(CELLS, False)
    assert page.inner_text(".slide-bar output") == f"{count} / {count}"  # the last one stays
    page.keyboard.press("Home")
    page.click(".slide-bar button >> nth=1")
    assert page.inner_text(".slide-bar output") == f"2 / {count}"
    page.evaluate("document.activeElement.blur()")
    paragraphs = page.locator("article .on-slide > p.on-slide")
    before = paragraphs.locator("visible=true").count()
    page.keyboard.press("t")
    assert paragraphs.locator("visible=true").count() == paragraphs.count() >= before
    page.keyboard.press("Escape")
    page.wait_for_url(base + name)
    assert page.is_visible(".sidebar-drawer") and not complaints

def test_the_tutorial_is_on_paper(site):
    for folder in (SITE, SITE/"pt"):
        content = (folder/"tutorial.pdf").read_bytes()
        assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") > 10
