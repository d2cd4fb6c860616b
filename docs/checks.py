"""Looks at the site as its readers do: python docs/checks.py [--pictures FOLDER], which `make docs-check` calls after `make docs`.

Links with their anchors (linkinator), valid HTML (html-validate), every page in Chromium in both themes and at a phone's width (axe-core: nothing serious; no error in the console, no request elsewhere,
nothing wider than the screen), the search, the weight of the home page, and every public name of the package in the pages of the API. Needs node with npm, and Chromium.
"""
import argparse
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS, SITE = ROOT/"docs", ROOT/"_docs"
sys.path.insert(0, str(ROOT))
SEARCHES = {"": {"confidence interval": ("evaluation.html", "interval"), "resume": ("training.html", "resume"), "padding": ("tokenization.html", "padding")}, # words → page, and a word of the heading they lead to
            "pt/": {"intervalo de confiança": ("evaluation.html", "intervalo"), "retomar": ("training.html", "retomar"), "preenchimento": ("tokenization.html", "preenchimento")}}
HOME_BYTES, SHIFT = 300_000, .02
VIEWS = [("light", 1280), ("dark", 1280), ("light", 390)]
DARK = {"index", "tutorial", "tokenization", "evaluation", "attribution", "api/evaluation", "commands", "benchmarks", "search"} # one page of each kind: what is dark is the same style sheet everywhere

def chromium():
    "The path of Chromium, or None"
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

def what_is_missing():
    "What the checks need and this machine lacks, in words; empty if nothing"
    found = ["Chromium"] * (chromium() is None) + ["npm"] * (shutil.which("npm") is None)
    try: import playwright.sync_api
    except ImportError: found.append("Playwright (the extra [docs])")
    return " and ".join(found)

def pages(): return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))

def install():
    "The three tools from npm, in the versions of package-lock.json"
    if not (DOCS/"node_modules/.package-lock.json").exists():
        subprocess.run(["npm", "ci", "--silent"], cwd=DOCS, check=True, stderr=subprocess.DEVNULL)

def node(*arguments): return subprocess.run(["node", *arguments], cwd=DOCS, capture_output=True, text=True)

# --- without a browser ---

def links():
    "A line for every link, and every anchor, that leads nowhere on the site"
    done = node("node_modules/linkinator/build/src/cli.js", str(SITE), "--recurse", "--check-fragments", "--format", "json", "--skip", "^https?://(?!localhost)")
    try: found = json.loads(done.stdout[done.stdout.index("{"):])["links"]
    except ValueError: return [f"linkinator ended with {done.returncode}: {done.stderr[-300:]}"]
    if len(found) < len(pages()): return [f"linkinator looked at {len(found)} links only"]
    return [f"{one.get('parent') or ''}: the link {one['url']} is broken" for one in found if one["state"] == "BROKEN"]

def markup():
    "A line for every violation of HTML"
    with tempfile.TemporaryDirectory() as folder: # through a pipe long results are cut off
        out = Path(folder)/"found.json"
        done = node("node_modules/html-validate/bin/html-validate.mjs", "--config", ".htmlvalidate.json", "--formatter", f"json={out}", *(str(SITE/page) for page in pages()))
        if not out.exists(): return [f"html-validate ended with {done.returncode}: {done.stderr[-300:]}"]
        found = json.loads(out.read_text(encoding="utf-8"))
    return [f"{Path(one['filePath']).relative_to(SITE)}:{message['line']}: {message['message']} ({message['ruleId']})" for one in found for message in one["messages"]]

def names():
    "Public names of the package that the API pages lack"
    from sphinx.util.inventory import InventoryFile

    import reference
    listed = set()
    with (SITE/"objects.inv").open("rb") as file: inventory = InventoryFile.load(file, "", lambda base, path: path)
    for kind, entries in inventory.items():
        if kind.startswith("py:"): listed |= set(entries)
    return [f"{name} has no entry in the API pages" for name in sorted(reference.documented() - listed)]

def files():
    "What must lie beside the pages"
    wanted = ["sitemap.xml", "llms.txt", "404.html", "_static/favicon.svg", "_static/card.png", "pt/index.html", "pt/sitemap.xml", "notebooks/tutorial.ipynb", "pt/notebooks/tutorial.ipynb"]
    return [f"{name} is missing" for name in wanted if not (SITE/name).exists()]

# --- with a browser ---

class Quiet(http.server.SimpleHTTPRequestHandler):
    "The site under the path it has when it is published, which the page for wrong addresses counts on"
    def log_message(self, *arguments): pass
    def translate_path(self, path): return super().translate_path(path.removeprefix(f"/{base_path()}"))

def base_path():
    import staging
    return staging.settings().doc_baseurl.strip("/")

@contextmanager
def served():
    "The site on a free port of this machine"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f"http://127.0.0.1:{server.server_port}/{base_path()}/"
    finally: server.shutdown()

@contextmanager
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try: yield opened
        finally: opened.close()

def listen(page, base, complaints):
    "Note errors in the console and requests that leave the site"
    page.on("console", lambda message: complaints.append(f"{page.url.removeprefix(base)}: the console says {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"{page.url.removeprefix(base)}: a script fails: {error}"))
    page.on("request", lambda request: complaints.append(f"{page.url.removeprefix(base)}: asks for {request.url}") if not request.url.startswith((base, "data:", "blob:", "file:")) else None)

AXE = """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes: ["violations"]}))
         .violations.filter(one => ["serious", "critical"].includes(one.impact)).map(one => [one.id, one.help, one.nodes.length, one.nodes[0].target.join(" "), one.nodes[0].failureSummary.split("\\n")[1] || ""])"""

def reading(base, chrome, pictures=None):
    "Open every page in every view"
    complaints, axe = [], (DOCS/"node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    for theme, width in VIEWS:
        context = chrome.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
        page = context.new_page()
        listen(page, base, complaints)
        for name in pages():
            if theme == "dark" and not pictures and name.removesuffix(".html") not in DARK: continue
            page.goto(base + name)
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=pictures/f"{name.removesuffix('.html').replace('/', '-')}-{theme}-{width}.png", full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wide > 1: complaints.append(f"{name}: {wide} pixels wider than a screen of {width}")
            if width > 600:
                page.evaluate(axe)
                complaints += [f"{name}, {theme}: {help} ({id}, {count} places, first {target}){' ' + why.strip()}" for id, help, count, target, why in page.evaluate(AXE)]
        context.close()
    return complaints

HEADING = """() => { const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return ""; const headings = [...document.querySelectorAll("h1, h2, h3")];
    return (headings.filter(one => one === place || place.contains(one) || place.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING)[0] || {}).textContent || "" }"""

def searching(base, chrome):
    "What a reader looks for is the first that is found, and leads to the section; from the disk too"
    complaints, page = [], chrome.new_page()
    for start in (base, SITE.as_uri() + "/"):
        for language, searches in SEARCHES.items():
            for words, (wanted, heading) in searches.items():
                page.goto(f"{start}{language}search.html?q={words.replace(' ', '+')}")
                try:
                    page.wait_for_selector("#search-results li a", timeout=10_000)
                    page.wait_for_timeout(300)
                    page.click("#search-results li a")
                    page.wait_for_selector("article h1")
                    found = page.evaluate(HEADING)
                except Exception as error: found = f"nothing ({error})"
                if f"{language}{wanted}" not in page.url or heading not in found.lower(): complaints.append(f"searching for {words} ({start[:4]}) leads to {page.url.removeprefix(start)}, {found!r}")
    return complaints

def weight(base, chrome):
    "The home page is light, and nothing jumps while it loads"
    page, bytes_ = chrome.new_page(viewport={"width": 1280, "height": 900}), []
    page.on("response", lambda response: bytes_.append(len(response.body())))
    page.add_init_script("window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach(one => window.shift += one.value)).observe({type: 'layout-shift', buffered: true})")
    page.goto(base, wait_until="networkidle")
    shift, complaints = page.evaluate("window.shift"), []
    print(f"  home page: {sum(bytes_) / 1000:.0f} kB in {len(bytes_)} files, layout shift {shift:.3f}")
    if sum(bytes_) > HOME_BYTES: complaints.append(f"the home page weighs {sum(bytes_):,} bytes; {HOME_BYTES:,} is the most")
    if shift > SHIFT: complaints.append(f"the home page moves while it loads: {shift:.3f}")
    return complaints

def languages(base, chrome):
    "The switch leads to the same page in the other language and back"
    complaints, page = [], chrome.new_page()
    for name in ("index.html", "tutorial.html", "api/evaluation.html"):
        page.goto(base + name)
        page.click(".languages a")
        there = page.url
        page.click(".languages a")
        if there != f"{base}pt/{name}" or page.url != base + name: complaints.append(f"{name}: the switch of languages leads to {there} and back to {page.url}")
    return complaints

def main():
    parser = argparse.ArgumentParser(description="Check the site in _docs")
    parser.add_argument("--pictures", type=Path, help="a folder that gets a picture of every page in every view")
    parser.add_argument("--only", action="append", help="one of the checks, by its name (default: all)")
    arguments = parser.parse_args()
    os.chdir(ROOT) # nbdev looks for settings.ini from here
    if missing := what_is_missing(): sys.exit(f"The site cannot be checked without {missing}")
    if not (SITE/"index.html").exists(): sys.exit("There is no site to check: make docs")
    install()
    failed = 0
    with served() as base, browser() as chrome:
        checks = {"files": files, "names in the API pages": names, "links": links, "HTML": markup, "languages": lambda: languages(base, chrome), "search": lambda: searching(base, chrome),
                  "weight": lambda: weight(base, chrome), "pages in Chromium": lambda: reading(base, chrome, arguments.pictures)}
        for name, check in checks.items():
            if arguments.only and name not in arguments.only: continue
            complaints = check()
            failed += len(complaints)
            print(f"{name}: {'well' if not complaints else str(len(complaints)) + ' complaints'}", *complaints[:40], sep="\n  ", flush=True)
    print(f"{len(pages())} pages looked at")
    if failed: sys.exit(f"{failed} complaints")

if __name__ == "__main__": main()
