"""The page of `cola serve`, in a real browser and under several clients at once. `make browser` installs what this needs: Gradio, Playwright, Chromium.

What the browser saw is kept in runs/browser: light, dark, and as wide as a phone."""
import base64
import contextlib
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import pandas as pd
import pytest
import torch

from cola_nbdev import cli
from cola_nbdev.app import Answers,example_pairs,web_app
from cola_nbdev.app import Limits,claim,served
from cola_nbdev.model import load_model
from cola_nbdev.prediction import Judge
from cola_nbdev.tokenization import load_tokenizer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES = Path(__file__).resolve().parent.parent/"runs"/"browser"
LONG = bool(os.environ.get("COLA_NBDEV_LONG"))

needs_gradio = pytest.mark.skipif(not find_spec("gradio"), reason='needs Gradio, from the extra [app]: make browser installs it')
needs_browser = pytest.mark.skipif(not (find_spec("gradio") and find_spec("playwright") and CHROMIUM), reason="needs Gradio, Playwright and Chromium: make browser installs them")
pytestmark = pytest.mark.xdist_group("browser")

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A run with a network that has learned nothing and still has opinions, with scores and a card that somebody made up"
    run = tmp_path_factory.mktemp("runs")/"tiny"
    model, tokenizer = load_model("tiny"), load_tokenizer("tiny")
    for number, weights in enumerate(each for each in model.parameters() if each.ndim > 1): weights.data.normal_(0, .3, generator=torch.Generator().manual_seed(number))
    tokenizer.model_max_length = 64
    for part in (model, tokenizer): part.save_pretrained(run/"model")
    splits = {"all_dev": {"n": 800, "mcc": .5634, "mcc_low": .5093, "mcc_high": .6161, "accuracy": .77}}
    (run/"metrics.json").write_text(json.dumps({"model": "tiny", "corpus": "demo", "splits": splits}))
    (run/"model"/"README.md").write_text("---\nlanguage: en\n---\n# Made up\n\n![spy](https://example.org/spy.png) <img src=https://example.org/spy.gif> <script>window.hacked = 1</script>\n")
    return run

@pytest.fixture(scope="module")
def judge(folder): return Judge(folder)

# Without a browser

@needs_gradio
def test_many_clients_lose_nothing_and_get_their_own_answers(judge, folder):
    count = 500 if LONG else 64
    words = ["keys", "doctor", "sleeps", "heavy", "the", "near", "ever", "lake"]
    requests = [[f"The {words[number % 8]} {words[number // 8 % 8]} {number} {words[part]}." for part in range(1 + number % 3)] for number in range(count)]
    with served(web_app(judge, folder)) as url, httpx.Client(timeout=120) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda sentences: client.post(f"{url}/judge", json={"sentences": sentences}), requests))
    assert [answer.status_code for answer in answers] == [200] * count
    for sentences, answer in zip(requests, answers):
        expected = judge(*sentences)
        assert [row["sentence"] for row in answer.json()] == sentences
        assert [row["label"] for row in answer.json()] == expected.label.tolist()
        assert [row["probability"] for row in answer.json()] == pytest.approx(expected.probability.tolist(), abs=1e-6)

@needs_gradio
@pytest.mark.parametrize("body, status, message", [
    (b'{"sentences": ["  "]}', 422, "the sentence is empty"),
    (b'{"sentences": []}', 422, "there is no sentence"),
    (json.dumps({"sentences": ["x" * 2_000]}).encode(), 422, "has 2,000 characters; this page takes 1,000"),
    (json.dumps({"sentences": ["x" * 10**6]}).encode(), 413, "more than 500,000 bytes"),
    (b"\x89PNG\r\n", 400, 'send JSON such as {"sentences": ["He left."]}'),
    (b'{"sentences": "He left."}', 400, "send JSON"),
    (b'{"sentences": [1]}', 400, "send JSON"),
    (b"[" * 100_000, 400, "send JSON"),
], ids=["blank", "none", "long", "1 MB", "binary", "text", "number", "deep"])
def test_a_bad_request_gets_a_message(judge, body, status, message):
    with served(web_app(judge)) as url: answer = httpx.post(f"{url}/judge", content=body)
    assert answer.status_code == status and message in answer.json()["detail"]

@needs_gradio
def test_too_many_at_once_are_told_to_come_back(judge):
    arrived, may_go = threading.Semaphore(0), threading.Event()
    class Slow:
        model, tokenizer, max_length = judge.model, judge.tokenizer, judge.max_length
        def __call__(self, *sentences):
            arrived.release()
            assert may_go.wait(60)
            return judge(*sentences)
    slow = Slow()
    may_go.set() # the page judges a pair while it is built
    app = web_app(slow, limits=Limits(waiting=3))
    may_go.clear()
    ask = lambda url: httpx.post(f"{url}/judge", json={"sentences": ["He left."]}, timeout=120)
    with served(app) as url, ThreadPoolExecutor(3) as pool:
        try:
            waiting = [pool.submit(ask, url) for _ in range(3)]
            statuses = set()
            while 429 not in statuses: # as soon as all three are there
                with contextlib.suppress(httpx.ReadTimeout): statuses.add(httpx.post(f"{url}/judge", content=b"{}", timeout=5).status_code)
            refused = httpx.post(f"{url}/judge", content=b"{}")
        finally: may_go.set()
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1" and "waiting already" in refused.json()["detail"]
        assert [each.result().status_code for each in waiting] == [200] * 3
        assert ask(url).status_code == 200 # and afterwards all is well

@needs_gradio
def test_the_queue_of_the_page_is_limited_too(judge):
    arrived, may_go = threading.Event(), threading.Event()
    app = web_app(judge, limits=Limits(waiting=2))
    real, answers = judge, app.state.answers
    def slow(*sentences):
        arrived.set()
        assert may_go.wait(60)
        return real(*sentences)
    with served(app) as url:
        config = httpx.get(f"{url}/config").json()
        number = next(each["id"] for each in config["dependencies"] if len(each["inputs"]) == 1 and len(each["outputs"]) == 3 and any(target[1] == "submit" for target in each["targets"]))
        join = lambda: httpx.post(f"{url}/gradio_api/queue/join", json={"data": ["He left."], "fn_index": number, "session_hash": "test"})
        answers.judge = slow
        try: statuses = [join().status_code for _ in range(12)]
        finally: may_go.set()
    assert statuses[0] == 200 and statuses[-1] == 429 and set(statuses) == {200, 429}

@needs_gradio
def test_other_pages_and_other_files_are_out_of_reach(judge, folder):
    with served(web_app(judge, folder)) as url:
        assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403
        assert httpx.post(f"{url}/judge", json={"sentences": ["He left."]}, headers={"origin": "https://evil.example"}).status_code == 403
        for address in ("gradio_api/file=/etc/passwd", f"gradio_api/file={folder/'metrics.json'}", "gradio_api/proxy=https://example.org/"):
            assert httpx.get(f"{url}/{address}").status_code in (400, 403, 404), address
        for address in ("docs", "redoc", "openapi.json"): assert "swagger" not in httpx.get(f"{url}/{address}").text.lower()
        page = httpx.get(url)
    assert "default-src 'self'" in page.headers["content-security-policy"] and "fonts.googleapis" not in page.text

@needs_gradio
@pytest.mark.parametrize("arguments, message", [
    (["no/such/folder"], "cannot load the model"),
    (["{folder}", "--port", "{port}"], "port {port} is in use, perhaps by another cola serve; choose another, for example --port {next}"),
    (["{folder}", "--port", "70000"], "port 70000 cannot be had"),
], ids=["model", "port in use", "port"])
def test_what_cannot_be_served_is_said_in_one_line(folder, capsys, arguments, message):
    with contextlib.closing(claim(0)) as taken:
        port = taken.getsockname()[1]
        if "--port" not in arguments: arguments = [*arguments, "--port", "0"]
        values = {"folder": folder, "port": port, "next": port + 1}
        with pytest.raises(SystemExit) as stopped: cli.main(["serve", *(argument.format(**values) for argument in arguments)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1 and message.format(**values) in lines[0]

def test_without_captum_the_command_that_brings_it_is_shown(judge, monkeypatch):
    import sys
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

@pytest.fixture(scope="module")
def app(judge, folder): return web_app(judge, folder)

@pytest.fixture(scope="module")
def url(app):
    with served(app) as url: yield url

@pytest.fixture
def opened(browser, url):
    "Opens the page, and fails if the browser complains or asks for anything elsewhere"
    contexts, errors, outside = [], [], []
    def open_page(**settings):
        contexts.append(browser.new_context(**settings))
        view = contexts[-1].new_page()
        view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("dialog", lambda dialog: (errors.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        view.on("request", lambda request: None if request.url.startswith((url, "data:", "blob:")) else outside.append(request.url))
        view.goto(url)
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
    view.locator("input[type=file]").set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})

@needs_browser
def test_a_sentence_is_typed_and_judged(opened, judge):
    view = opened()
    box(view, "Sentence").fill("The keys are heavy.")
    view.keyboard.press("Enter")
    view.locator(".cola-card .said", has_text="The keys are heavy.").wait_for()
    probability = judge("The keys are heavy.").probability[0]
    assert f"{100 * probability:.1f}%" in view.locator(".cola-card .verdict").first.inner_text()
    view.get_by_role("button", name="Which words was it?").click()
    view.get_by_text("the pieces add up to").wait_for()
    view.get_by_role("button", name="Where will").click() # an example
    view.locator(".cola-card .said", has_text=example_pairs()[0][0]).first.wait_for()
    assert view.get_by_text("the pieces add up to").count() == 0 # which words it was belongs to the other sentence

@needs_browser
def test_it_can_be_used_without_a_mouse(opened):
    view = opened()
    box(view, "Sentence").focus()
    view.keyboard.type("She left.")
    view.keyboard.press("Tab")
    assert view.evaluate("document.activeElement.innerText.trim()") == "Judge"
    view.keyboard.press("Enter")
    view.locator(".cola-card .said", has_text="She left.").wait_for()
    view.keyboard.press("Tab")
    assert view.evaluate("document.activeElement.innerText.trim()") == "Which words was it?"
    view.get_by_role("tab", name="Sentence").focus()
    view.keyboard.press("Tab")
    view.keyboard.press("Enter")
    box(view, "First").wait_for()

@needs_browser
def test_a_pair_is_edited_and_the_bars_move(opened):
    view = opened()
    tab(view, "Pair")
    widths = lambda: view.locator(".cola-pair .bar span").evaluate_all("bars => bars.map(bar => bar.style.width)")
    before = widths()
    box(view, "Second").fill("Where the nurses will dance near the lake?")
    view.locator(".cola-pair .said", has_text="dance near the lake?").wait_for()
    after = widths()
    assert len(before) == len(after) == 2 and before[0] == after[0] and before[1] != after[1]
    assert "dance near the lake?" in view.locator(".cola-pair mark").all_inner_texts()[-1]
    box(view, "First").fill(" ")
    view.get_by_text("Write a sentence into each box.").wait_for()

@needs_browser
@pytest.mark.parametrize("typed", ["<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>", "${window.hacked = 1} {{7 * 7}} <b>bold</b>"], ids=["script", "template"])
def test_what_is_typed_is_shown_and_not_run(opened, typed):
    view = opened()
    box(view, "Sentence").fill(typed)
    view.keyboard.press("Enter")
    view.locator(".cola-card .said").first.wait_for()
    assert view.locator(".cola-card .said").first.inner_text() == typed
    view.get_by_role("button", name="Which words was it?").click()
    view.get_by_text("the pieces add up to").wait_for()
    tab(view, "Pair")
    box(view, "First").fill(typed)
    view.locator(".cola-pair .said", has_text=typed[:12]).wait_for()
    upload(view, "mine.txt", typed.encode())
    view.locator(".cola-table td", has_text=typed[:12]).wait_for()
    assert view.evaluate("window.hacked") is None

@needs_browser
def test_a_file_is_judged_and_comes_back_as_csv(opened, judge, app):
    sentences = [f"The {word} left, he said." for word in ("doctor", "keys", "nurses", "lake")] * 50
    view = opened()
    upload(view, "mine.csv", ("id,sentence\n" + "".join(f'{number},"{sentence}"\n' for number, sentence in enumerate(sentences))).encode())
    view.get_by_text("mine.csv: 200 sentences").wait_for()
    with view.expect_download() as download: view.get_by_role("link", name="Download all as CSV").click()
    assert download.value.suggested_filename == "mine-judged.csv"
    table = pd.read_csv(download.value.path())
    assert table.sentence.tolist() == sentences and table.probability.tolist() == pytest.approx(judge(*sentences).probability.tolist(), abs=1e-5)
    assert not [path for path in Path(app.state.uploads.name).rglob("*") if path.is_file() and path.stat().st_size], "what was uploaded is still there" # Gradio leaves an empty file until the page is closed

@needs_browser
@pytest.mark.parametrize("name, content, message", [
    ("mine.txt", b"\x89PNG\r\n\x1a\n\0\0\0\r", "mine.txt line 3: a NUL byte; is this a text file in UTF-8?"),
    ("mine.csv", b"text,label\nHe left.,1\n", "mine.csv: no column sentence; it has text, label"),
    ("mine.csv", b"sentence\nHe left.\n \n", "mine.csv line 3: the sentence is empty"),
    ("mine.txt", b"x" * 5_000, "mine.txt line 1: the sentence has 5,000 characters; this page takes 1,000"),
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
    assert view.errors and all("413" in error for error in view.errors) # the browser notes the status, and nothing else
    view.errors.clear()

@needs_browser
def test_the_model_and_its_score_are_shown(opened):
    view = opened()
    view.get_by_text("tiny, fine-tuned on demo. MCC 0.56, 95% interval 0.51 to 0.62, on 800 sentences").wait_for()
    tab(view, "Model")
    view.get_by_role("cell", name="0.56 (0.51 to 0.62)").wait_for()
    view.get_by_text("The model's card").click()
    view.get_by_text("Made up").wait_for()
    assert view.evaluate("window.hacked") is None

@needs_browser
@pytest.mark.parametrize("name, settings", [
    ("light", dict(viewport={"width": 1000, "height": 760}, color_scheme="light")),
    ("dark", dict(viewport={"width": 1000, "height": 760}, color_scheme="dark")),
    ("phone", dict(viewport={"width": 390, "height": 844}, color_scheme="light"))], ids=["light", "dark", "phone"])
def test_pictures_are_taken(opened, name, settings):
    PICTURES.mkdir(parents=True, exist_ok=True)
    view = opened(**settings)
    brightness = sum(map(int, re.findall(r"\d+", view.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))
    assert (brightness < 200) == (name == "dark")
    box(view, "Sentence").fill("The keys to the cabinet is on the table.")
    view.keyboard.press("Enter")
    view.locator(".cola-card .said").first.wait_for()
    view.get_by_role("button", name="Which words was it?").click()
    view.get_by_text("the pieces add up to").wait_for()
    for each in ("Sentence", "Pair", "File", "Model"):
        if each == "File": upload(view, "mine.txt", b"He left.\nHim left.\n"); view.get_by_text("2 sentences").wait_for()
        else: tab(view, each)
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: the tab {each} is wider than the window"
        view.screenshot(path=PICTURES/f"{name}-{each.lower()}.png", full_page=True, animations="disabled")
