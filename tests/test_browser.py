"""The page of `cola serve`: in a real browser, at its protocol, and under several clients at once.

`make browser` installs what this needs: Gradio, Playwright, Chromium. What the browser saw is kept
in runs/browser: light, dark, and as wide as a phone.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import pandas as pd
import pytest
import torch

from cola_nbdev import app, cli
from cola_nbdev.app import Answers, Limits, example_pairs, served
from cola_nbdev.model import load_model
from cola_nbdev.prediction import Judge
from cola_nbdev.tokenization import load_tokenizer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT/"runs"/"browser"
LONG = bool(os.environ.get("COLA_NBDEV_LONG"))

needs_gradio = pytest.mark.skipif(
    not find_spec("gradio"), reason="needs Gradio, from the extra [app]: make browser installs it")
needs_browser = pytest.mark.skipif(
    not (find_spec("gradio") and find_spec("playwright") and CHROMIUM),
    reason="needs Gradio, Playwright and Chromium: make browser installs them")
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.long]

CARD = """---
language: en
---
# Made up

![spy](https://example.org/spy.png) <img src=https://example.org/spy.gif>
<script>window.hacked = 1</script>
"""

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A run: a model that has learned nothing and has opinions, with made-up scores and a card"
    run = tmp_path_factory.mktemp("runs")/"tiny"
    model, tokenizer = load_model("tiny"), load_tokenizer("tiny")
    matrices = [weights for weights in model.parameters() if weights.ndim > 1]
    for number, weights in enumerate(matrices):
        weights.data.normal_(0, .3, generator=torch.Generator().manual_seed(number))
    tokenizer.model_max_length = 64
    for part in (model, tokenizer): part.save_pretrained(run/"model")
    scores = {"n": 800, "mcc": .5634, "mcc_low": .5093, "mcc_high": .6161, "accuracy": .77}
    facts = {"model": "tiny", "corpus": "demo", "splits": {"all_dev": scores}}
    (run/"metrics.json").write_text(json.dumps(facts))
    (run/"model"/"README.md").write_text(CARD)
    return run

@pytest.fixture(scope="module")
def judge(folder): return Judge(folder)

def uploads():
    "The folder of the page that is served"
    return Path(os.environ["GRADIO_TEMP_DIR"])

# Without a browser

@needs_gradio
def test_many_clients_lose_nothing_and_get_their_own_answers(judge, folder):
    count = 500 if LONG else 64
    words = ["keys", "doctor", "sleeps", "heavy", "the", "near", "ever", "lake"]
    def sentence(number, part):
        return f"The {words[number % 8]} {words[number // 8 % 8]} {number} {words[part]}."
    requests = [[sentence(number, part) for part in range(1 + number % 3)]
                for number in range(count)]
    with (served(judge, folder) as url, httpx.Client(timeout=120) as client,
          ThreadPoolExecutor(8) as pool):
        ask = lambda sentences: client.post(f"{url}/judge", json={"sentences": sentences})
        answers = list(pool.map(ask, requests))
    assert [answer.status_code for answer in answers] == [200] * count
    for sentences, answer in zip(requests, answers, strict=True):
        expected, rows = judge(*sentences), answer.json()
        assert [row["sentence"] for row in rows] == sentences
        assert [row["label"] for row in rows] == expected.label.tolist()
        probabilities = pytest.approx(expected.probability.tolist(), abs=1e-6)
        assert [row["probability"] for row in rows] == probabilities

@pytest.fixture(scope="module")
def plain(judge, folder):
    "The page's address, for requests that change nothing"
    with served(judge, folder) as url: yield url

@needs_gradio
@pytest.mark.parametrize("body, status, message", [
    (b'{"sentences": ["  "]}', 422, "the sentence is empty"),
    (b'{"sentences": []}', 422, "there is no sentence"),
    (json.dumps({"sentences": ["x" * 2_000]}).encode(), 422,
     "has 2,000 characters; this page takes 1,000"),
    (json.dumps({"sentences": ["x" * 10**6]}).encode(), 413, "more than 500,000 bytes"),
    (b"\x89PNG\r\n", 400, 'send JSON such as {"sentences": ["He left."]}'),
    (b'{"sentences": "He left."}', 400, "send JSON"),
    (b'{"sentences": [1]}', 400, "send JSON"),
    (b"[" * 100_000, 400, "send JSON"),
], ids=["blank", "none", "long", "1 MB", "binary", "text", "number", "deep"])
def test_a_bad_request_gets_a_message(plain, body, status, message):
    answer = httpx.post(f"{plain}/judge", content=body)
    assert answer.status_code == status and message in answer.json()["detail"]

@needs_gradio
def test_other_pages_and_other_addresses_are_out_of_reach(plain, folder):
    for address in ("", "judge", "config", "gradio_api/queue/data"):
        assert httpx.get(f"{plain}/{address}", headers={"host": "evil.example"}).status_code == 403
    evil = {"origin": "https://evil.example"}
    wanted = {"sentences": ["He left."]}
    assert httpx.post(f"{plain}/judge", json=wanted, headers=evil).status_code == 403
    for address in ("file=/etc/passwd", f"file={folder/'metrics.json'}", "proxy=https://example.org",
                    "file=https://example.org", f"file/{folder/'metrics.json'}", "openapi.json",
                    "run/judged", "call/judged", "api/judged", "vibe-code", "runs", "monitoring"):
        assert httpx.get(f"{plain}/gradio_api/{address}").status_code == 404, address
        assert httpx.post(f"{plain}/gradio_api/{address}").status_code == 404, address
    for address in ("docs", "redoc", "openapi.json", "monitoring", "login"):
        assert httpx.get(f"{plain}/{address}").status_code == 404, address
    page = httpx.get(plain)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "fonts.googleapis" not in page.text

def event(url, trigger, inputs):
    "The number of the page's function with so many inputs that this event calls"
    dependencies = httpx.get(f"{url}/config").json()["dependencies"]
    return next(each["id"] for each in dependencies if len(each["inputs"]) == inputs
                and any(target[1] == trigger for target in each["targets"]))

def join(url, function, *data, session="test"):
    "Put a call into the page's queue, as its script does"
    call = {"data": data, "fn_index": function, "session_hash": session}
    return httpx.post(f"{url}/gradio_api/queue/join", json=call)

def outcome(url, session="test"):
    "What the page's queue answers"
    with httpx.stream("GET", f"{url}/gradio_api/queue/data", params={"session_hash": session},
                      timeout=60) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ") or "{}")
            if message.get("msg") == "process_completed": return message

@needs_gradio
def test_a_file_is_judged_only_if_it_was_uploaded(plain, tmp_path):
    mine = {"files": ("mine.txt", b"He left.\n")}
    path = Path(httpx.post(f"{plain}/gradio_api/upload", files=mine).json()[0])
    assert path.is_relative_to(uploads())
    secret = tmp_path/"secret.txt"
    secret.write_text("top secret")
    link = uploads()/"link.txt"
    link.symlink_to(secret)
    function = event(plain, "upload", 1)
    def file(path): return {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    sentence = event(plain, "submit", 1)
    for wrong in (secret, link, uploads()/".."/"secret.txt", "secret.txt",
                  "https://example.org/secret.txt", "http://127.0.0.1:9/secret.txt"):
        for target in (function, sentence): # a box for text is searched for files too
            answer = join(plain, target, file(wrong))
            assert answer.status_code == 403 and "those uploaded" in answer.json()["detail"]
            answer = join(plain, target, {"nested": [file(wrong)]})
            assert answer.status_code == 403
    assert secret.read_text() == "top secret"
    link.unlink()
    assert join(plain, function, file(path)).status_code == 200
    assert "mine.txt: 1 sentence," in json.dumps(outcome(plain))
    assert not path.exists()

@needs_gradio
def test_an_upload_that_is_too_large_is_refused(plain):
    large = {"files": ("mine.txt", b"x" * 2_100_000)}
    assert httpx.post(f"{plain}/gradio_api/upload", files=large).status_code == 413

class Slow(Judge):
    "A judge that answers only when it may"
    def __init__(self, judge):
        vars(self).update(vars(judge))
        self.may_go = threading.Event()
        self.may_go.set() # the page judges a pair while it is built

    def __call__(self, *sentences):
        assert self.may_go.wait(60)
        return super().__call__(*sentences)

@needs_gradio
def test_too_many_at_once_are_told_to_come_back(judge):
    def ask(url):
        return httpx.post(f"{url}/judge", json={"sentences": ["He left."]}, timeout=120)
    slow = Slow(judge)
    with served(slow, limits=Limits(waiting=3)) as url, ThreadPoolExecutor(3) as pool:
        slow.may_go.clear()
        try:
            waiting = [pool.submit(ask, url) for _ in range(3)]
            statuses = set()
            while 429 not in statuses: # as soon as all three are there
                with contextlib.suppress(httpx.ReadTimeout):
                    answer = httpx.post(f"{url}/judge", content=b"{}", timeout=5)
                    statuses.add(answer.status_code)
            refused = httpx.post(f"{url}/judge", content=b"{}")
        finally: slow.may_go.set()
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert "waiting already" in refused.json()["detail"]
        assert [each.result().status_code for each in waiting] == [200] * 3
        assert ask(url).status_code == 200 # and afterwards all is well

@needs_gradio
def test_the_queue_of_the_page_is_limited_too(judge):
    slow = Slow(judge)
    with served(slow, limits=Limits(waiting=2)) as url:
        slow.may_go.clear()
        function = event(url, "submit", 1)
        try: statuses = [join(url, function, "He left.").status_code for _ in range(12)]
        finally: slow.may_go.set()
    assert statuses[0] == 200 and statuses[-1] == 429 and set(statuses) == {200, 429}

@needs_gradio
@pytest.mark.parametrize("arguments, message", [
    (["no/such/folder"], "there is no folder no/such/folder; check the path"),
    (["{folder}", "--port", "{port}"], "port {port} can't be used (in use, perhaps by another "
                                       "cola serve); choose another with --port"),
    (["{folder}", "--port", "70000"], "port 70000 can't be used"),
], ids=["model", "port in use", "port"])
def test_what_cannot_be_served_is_said_in_one_line(folder, capsys, arguments, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"folder": folder, "port": taken.getsockname()[1]}
        if "--port" not in arguments: arguments = [*arguments, "--port", "0"]
        with pytest.raises(SystemExit) as stopped:
            cli.main(["serve", *(argument.format(**values) for argument in arguments)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1 and message.format(**values) in lines[0]

@needs_gradio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
                         ids=["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_it_and_removes_the_uploads(folder, tmp_path, number):
    "With a proxy that does not exist, to which nothing may be sent"
    if signal.getsignal(number) == signal.SIG_IGN: pytest.skip("whoever started this ignores it")
    command = [sys.executable, "-c", "from cola_nbdev.cli import main; main()",
               "serve", str(folder), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path),
                                "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    process = subprocess.Popen(command, env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    try:
        url = process.stdout.readline().removeprefix("open ").split()[0]
        mine = {"files": ("mine.txt", b"He left.\n")}
        path = Path(httpx.post(f"{url}/gradio_api/upload", files=mine).json()[0])
        assert path.is_relative_to(tmp_path) and path.exists()
        with httpx.stream("GET", f"{url}/gradio_api/heartbeat/test"): # somebody is still listening
            process.send_signal(number)
            _, error = process.communicate(timeout=60)
    finally: process.kill()
    assert process.returncode == 0 and error == ""
    assert not list(tmp_path.glob("cola-page-*"))

def test_without_captum_the_command_that_brings_it_is_shown(judge, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert "cola_nbdev[inspect]" in Answers(judge).words("He left.")

# With a browser

@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()

@pytest.fixture
def opened(browser, plain):
    "Opens the page, and fails if the browser complains or asks for anything elsewhere"
    contexts, errors, outside = [], [], []
    def note_request(request):
        if not request.url.startswith((plain, "data:", "blob:")): outside.append(request.url)
    def note_console(message):
        if message.type == "error": errors.append(message.text)
    def note_dialog(dialog):
        errors.append(f"a dialog: {dialog.message}")
        dialog.dismiss()
    def open_page(**settings):
        contexts.append(browser.new_context(**settings))
        view = contexts[-1].new_page()
        view.on("console", note_console)
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("dialog", note_dialog)
        view.on("request", note_request)
        view.goto(plain)
        view.get_by_role("button", name="Judge", exact=True).wait_for()
        view.errors = errors
        return view
    yield open_page
    for context in contexts: context.close()
    assert not errors and not outside, (errors, outside)

def box(view, name): return view.get_by_role("textbox", name=name, exact=True)
def tab(view, name): view.get_by_role("tab", name=name).click()

def upload(view, name, content):
    tab(view, "File")
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    view.locator("input[type=file]").set_input_files(file)

@needs_browser
def test_a_sentence_is_typed_and_judged(opened, judge):
    view = opened()
    box(view, "Sentence").fill("The keys are heavy.")
    view.keyboard.press("Enter")
    view.locator(".cola-card .said", has_text="The keys are heavy.").wait_for()
    probability = judge("The keys are heavy.").probability[0]
    shown = view.locator(".cola-card .verdict").first.inner_text()
    assert f"{100 * probability:.1f}%" in shown
    view.get_by_role("button", name="Which words does it hang on?").click()
    view.get_by_text("add up to").wait_for()
    view.get_by_role("button", name="Where will").click() # an example
    view.locator(".cola-card .said", has_text=example_pairs()[0][0]).first.wait_for()
    assert view.get_by_text("add up to").count() == 0 # that was about the other sentence

@needs_browser
def test_it_can_be_used_without_a_mouse(opened):
    view = opened()
    focused = lambda: view.evaluate("document.activeElement.innerText.trim()")
    box(view, "Sentence").focus()
    view.keyboard.type("She left.")
    view.keyboard.press("Tab")
    assert focused() == "Judge"
    view.keyboard.press("Enter")
    view.locator(".cola-card .said", has_text="She left.").wait_for()
    view.keyboard.press("Tab")
    assert focused() == "Which words does it hang on?"
    view.get_by_role("tab", name="Sentence").focus()
    view.keyboard.press("Tab")
    view.keyboard.press("Enter")
    box(view, "First").wait_for()

WIDTHS = "bars => bars.map(bar => [bar.style.width, bar.style.getPropertyValue('--before')])"

@needs_browser
def test_a_pair_is_edited_and_the_bars_move(opened):
    view = opened()
    tab(view, "Pair")
    bars = view.locator(".cola-pair .bar span")
    before = bars.evaluate_all(WIDTHS)
    box(view, "Second").fill("Where the nurses will dance near the lake?")
    view.locator(".cola-pair .said", has_text="dance near the lake?").wait_for()
    after = bars.evaluate_all(WIDTHS)
    assert len(before) == len(after) == 2
    assert before[0][0] == after[0][0] and before[1][0] != after[1][0]
    assert [start for _, start in after] == [width for width, _ in before], "they come from there"
    marks = view.locator(".cola-pair mark").all_inner_texts()
    assert "dance near the lake?" in marks[-1]
    box(view, "First").fill(" ")
    view.get_by_text("Write a sentence in each box.").wait_for()

TYPED = {"script": "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
         "template": "${window.hacked = 1} {{7 * 7}} <b>bold</b>"}

@needs_browser
@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
def test_what_is_typed_is_shown_and_not_run(opened, typed):
    view = opened()
    box(view, "Sentence").fill(typed)
    view.keyboard.press("Enter")
    said = view.locator(".cola-card .said").first
    said.wait_for()
    assert said.inner_text() == typed
    view.get_by_role("button", name="Which words does it hang on?").click()
    view.get_by_text("add up to").wait_for()
    tab(view, "Pair")
    box(view, "First").fill(typed)
    view.locator(".cola-pair .said", has_text=typed[:12]).wait_for()
    upload(view, "mine.txt", typed.encode())
    view.locator(".cola-table td", has_text=typed[:12]).wait_for()
    assert view.evaluate("window.hacked") is None

@needs_browser
def test_a_file_is_judged_and_comes_back_as_csv(opened, judge):
    words = ("doctor", "keys", "nurses", "lake")
    sentences = [f"The {word} left, he said." for word in words] * 50
    rows = "".join(f'{number},"{sentence}"\n' for number, sentence in enumerate(sentences))
    view = opened()
    upload(view, "mine.csv", f"id,sentence\n{rows}".encode())
    view.get_by_text("mine.csv: 200 sentences").wait_for()
    with view.expect_download() as download:
        view.get_by_role("link", name="Download all as CSV").click()
    assert download.value.suggested_filename == "mine-judged.csv"
    table = pd.read_csv(download.value.path())
    assert table.sentence.tolist() == sentences
    expected = judge(*sentences).probability.tolist()
    assert table.probability.tolist() == pytest.approx(expected, abs=1e-5)
    left = [path for path in uploads().rglob("*") if path.is_file() and path.stat().st_size]
    assert not left, "what was uploaded is still there" # Gradio leaves an empty file for a while

@needs_browser
@pytest.mark.parametrize("name, content, message", [
    ("mine.txt", b"\x89PNG\r\n\x1a\n\0\0\0\r",
     "mine.txt line 1: byte 0x89 is not UTF-8; save the file as UTF-8"),
    ("mine.csv", b"words,label\nHe left.,1\n",
     "mine.csv: no column sentence; it has words, label"),
    ("mine.csv", b"sentence\nHe left.\n \n", "mine.csv line 3: the sentence is empty"),
    ("mine.txt", b"x" * 5_000,
     "mine.txt line 1: the sentence has 5,000 characters; this page takes 1,000"),
], ids=["binary", "no column", "empty sentence", "long"])
def test_a_bad_file_gets_a_message(opened, name, content, message):
    view = opened()
    upload(view, name, content)
    view.locator(".cola-note", has_text=message).wait_for()

@needs_browser
def test_an_empty_and_an_endless_sentence_get_a_message(opened):
    view = opened()
    view.get_by_role("button", name="Judge", exact=True).click()
    view.locator(".cola-note", has_text="the sentence is empty; write one").wait_for()
    box(view, "Sentence").fill("x" * 2_000)
    view.keyboard.press("Enter")
    view.locator(".cola-note", has_text="has 2,000 characters").wait_for()
    box(view, "Sentence").fill("x" * 10**6)
    view.keyboard.press("Enter")
    view.get_by_text("this is more than 500,000 bytes; send less at once").first.wait_for()
    assert view.errors and all("413" in error for error in view.errors) # the browser's own note
    view.errors.clear()

@needs_browser
def test_the_model_and_its_score_are_shown(opened):
    view = opened()
    line = "tiny, fine-tuned on demo. MCC 0.56, 95% interval 0.51 to 0.62, on 800 sentences"
    view.get_by_text(line).wait_for()
    tab(view, "Model")
    view.get_by_role("cell", name="0.56 (0.51 to 0.62)").wait_for()
    view.get_by_text("The model's card").click()
    view.get_by_text("Made up").wait_for()
    assert view.evaluate("window.hacked") is None

LOOKS = {"light": {"viewport": {"width": 1000, "height": 760}, "color_scheme": "light"},
         "dark": {"viewport": {"width": 1000, "height": 760}, "color_scheme": "dark"},
         "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"}}

@needs_browser
@pytest.mark.parametrize("name", LOOKS)
def test_pictures_are_taken(opened, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    view = opened(**LOOKS[name])
    background = view.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
    assert (brightness < 200) == (name == "dark")
    button = view.get_by_role("button", name="Judge", exact=True)
    assert button.evaluate("it => getComputedStyle(it).backgroundColor") == "rgb(1, 115, 178)"
    box(view, "Sentence").fill("The keys to the cabinet is on the table.")
    view.keyboard.press("Enter")
    view.locator(".cola-card .said").first.wait_for()
    view.get_by_role("button", name="Which words does it hang on?").click()
    view.get_by_text("add up to").wait_for()
    for each in ("Sentence", "Pair", "File", "Model"):
        if each == "File":
            upload(view, "mine.txt", b"He left.\nHim left.\n")
            view.get_by_text("2 sentences").wait_for()
        else: tab(view, each)
        fits = view.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert fits, f"{name}: the tab {each} is wider than the window"
        view.screenshot(path=PICTURES/f"{name}-{each.lower()}.png", full_page=True,
                        animations="disabled")

@pytest.mark.parametrize(("label", "probability", "tone"), [
    ("acceptable", .9, "good"), ("unacceptable", .1, "bad"), ("spam", .9, "good"),
    ("ham", .1, "bad"), ("don't know", .6, "unsure")])
def test_every_verdict_has_a_color(label, probability, tone):
    row = pd.DataFrame([{"sentence": "He left.", "label": label, "probability": probability,
                         "truncated": False}]).iloc[0]
    page = Path(app.__file__).with_name("app.css").read_text()
    assert f'class="cola-card {tone}"' in app.view("card", row)
    assert f"class=\"{tone}\"" in app.view("results", "a.txt", "a", [row], "")
    assert f".{tone} {{--tone: #" in page  # its ground; white on nothing can't be read
