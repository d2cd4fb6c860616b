"""The judge in the page: what a browser computes is what `Judge` does, and nothing breaks the box.

Part of `make docs-check` and .ci/run; docs/judge.py makes what is asked here.
"""
import functools
import http.server
import os
import threading
from typing import ClassVar

import pytest

if not os.environ.get("COLA_NBDEV_SITE"):
    pytest.skip("takes minutes and a browser: make docs docs-check", allow_module_level=True)

from test_site_pages import AXE, BASE, DOCS, ROOT, SITE, Handler, chrome, listen, site  # noqa: F401

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium at a time
SENTENCE = "Where the farmers will sleep?"
ODD = [  # one of each kind that a tokenizer may get wrong
    "Café, naïve, façade, Ångström.", "The ΣΊΣΥΦΟΣ pushed his rock.", "İstanbul is large.",
    "ﬁne ﬂow", "我喜歡猫。", "The 猫 sleeps.", "東京タワー", "カタカナ and ひらがな",
    "한국어 문장", "हिन्दी में", "שלום world", "مرحبا", "🙂",
    "I am 🙂🙃 happy 👩\u200d👩\u200d👧\u200d👦.", "🇧🇷 is a flag", "What?!", "…",
    "«Oui» – “no” — ‘yes’", "don't can't it's o'clock rock'n'roll", "The dogs' bones",
    "l’amour", "x" * 100, "x" * 101, "y" * 5000, "Donaudampfschifffahrtsgesellschaft",
    "antidisestablishmentarianism", "a.b.c@d-e_f/g", "1,234.56 $5 €7 £8 50%",
    "tab\there\nand\r\nthere", "  blanks  around  ", "non\u00a0breaking",
    "zero\u200bwidth soft\u00adhyphen", "null\0byte \ufffd", "combi\u0301ning e\u0301\u0302",
    "ＦＵＬＬ ｗｉｄｔｈ！", "[MASK] is a token, [SEP] too, and [cls] is not.",
    "<b>Bold</b> & <script>alert(1)</script>", "{curly} [square] (round) ~ ^ ` |",
    "ALL CAPITALS HERE", "ßtraße GROSS", "Ǆ ǅ ǆ K Å", "½ ² ①", "𝔉𝔯𝔞𝔨𝔱𝔲𝔯", "𠮷野家",
    "word " * 70, "no . stops " * 21, "he left" + "!" * 80, "ٱلسَّلَامُ", "Tiếng Việt",
    "a\u2028b",
]
WORDS = ".judge-words:not([hidden])"

# --- the site, a server that can fail, pages in a browser ---

class Failing(Handler):
    "Writes down what it is asked for, and breaks off in the middle of one file"
    asked: ClassVar[list] = []
    broken = "none"
    def do_GET(self):
        self.asked.append(self.path)
        if not self.path.endswith(self.broken): return super().do_GET()
        content = (SITE/self.path.removeprefix(f"/{BASE}/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:len(content) // 2])
        self.close_connection = True

@pytest.fixture(scope="module")
def address(site):  # noqa: F811
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Failing, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{BASE}/"
    server.shutdown()

@pytest.fixture
def server(monkeypatch):
    Failing.asked.clear()
    monkeypatch.setattr(Failing, "broken", "none")
    return Failing

@pytest.fixture
def opened(address, chrome, server):  # noqa: F811
    "A function that opens a page of the site; errors in its console fail the test"
    complaints, pages = [], []
    def open_page(name="index.html", before="", quiet=False, **options):
        page = chrome.new_page(**options)
        pages.append(page)
        if before: page.add_init_script(before)
        listen(page, address, [] if quiet else complaints)
        page.goto(address + name)
        return page
    yield open_page
    for page in pages: page.close()
    assert not complaints

@pytest.fixture(scope="module")
def sentences():
    "200 of them: the odd ones, the rest from the dev sentences of the demo corpus"
    from cola_nbdev.data import load_corpus
    dev = [sentence for split in load_corpus("demo").dev.values() for sentence in split.sentence]
    return ODD + dev[::5][:200 - len(ODD)]

@pytest.fixture(scope="module")
def known(site):  # noqa: F811
    "The judge whose ONNX file the page has"
    from cola_nbdev.prediction import Judge
    assert (SITE/"judge/model.bin").exists(), "the site was built without its judge"
    return Judge(ROOT/"_proc/judge/model", onnx="int8")

def ask(page, sentence, wait=WORDS):
    page.fill(".judge textarea", sentence)
    page.click(".judge button")
    if wait: page.wait_for_selector(wait, timeout=120_000)
    return page.inner_text(".judge-answer")

# --- the numbers ---

COMPUTED = """async ([sentences, files]) => {
    const worker = new Worker(document.querySelector(".judge").dataset.worker, {type: "module"});
    const next = () => new Promise((done, fail) => {
        worker.onmessage = ({data}) => data.failed ? fail(data.failed) : done(data); });
    const until = async is => { for (;;) {
        const data = await next(); if (is(data)) return data; } };
    worker.postMessage({files: new URL(files, location.href).href});
    await until(data => data.ready);
    const answers = [];
    for (const [id, sentence] of sentences.entries()) {
        worker.postMessage({id, sentence});
        answers.push(await until(data => data.id === id && !data.words));
    }
    worker.terminate();
    return answers; }"""

def test_the_page_computes_what_the_judge_does(opened, known, sentences):
    assert len(sentences) == len(set(sentences)) == 200
    answers = opened().evaluate(COMPUTED, [sentences, "judge/"])
    examples, cut = known._encode(sentences)
    wrong = [(sentence, answer["ids"], ids)
             for sentence, answer, ids in zip(sentences, answers, examples, strict=True)
             if answer["ids"] != ids]
    assert not wrong
    assert [answer["cut"] for answer in answers] == cut.tolist()
    differences = [abs(answer["probability"] - probability) for answer, probability
                   in zip(answers, known.predict_probability(sentences)[0], strict=True)]
    print(f"largest difference: {max(differences):.1e}")
    assert max(differences) < 1e-3

def test_leaving_out_a_word_is_what_if(opened, known):
    from cola_nbdev.attribution import what_if
    page = opened()
    for sentence in (SENTENCE, "“Well,” she said, ‘the keys is’ here!", "Go!", "It barks. " * 40):
        ask(page, sentence)
        table = what_if(known, sentence).table.query("change == 'deleted'")
        words, shown = (page.eval_on_selector_all(f".judge-words {part}",
                                                  "all => all.map(one => one.innerText)")
                        for part in ("span", "small"))
        assert words == table.word.to_list()
        for text, probability in zip(shown, table.probability, strict=True):
            if probability != probability: assert text == "–"  # nothing is left
            else: assert abs(float(text.rstrip("%")) - 100 * probability) <= .15

# --- what is fetched ---

def test_nothing_is_fetched_before_the_click_and_nothing_sent_after(opened, server):
    page = opened()
    page.wait_for_load_state("networkidle")
    assert not [path for path in server.asked if "/judge/" in path or path.endswith(".mjs")]
    ask(page, SENTENCE)
    loaded = {path.rpartition("/")[2] for path in server.asked if "/judge/" in path}
    assert loaded == {"runtime.bin", "runtime.mjs", "model.bin", "tokenizer.bin"}
    before = len(server.asked)
    page.context.set_offline(True)
    assert "acceptable" in ask(page, "He left early.").lower()
    assert len(server.asked) == before

def test_the_button_says_how_many_megabytes(opened):
    page = opened("pt/prediction.html")
    size = sum(path.stat().st_size for path in (SITE/"judge").glob("*.bin"))
    button = page.inner_text(".judge button")
    assert button == f"Carregar o juiz ({-(-size // 10**6)} MB) e perguntar"
    assert size < 30e6

# --- bad input ---

@pytest.mark.parametrize("before", [
    "delete window.WebAssembly", "delete window.DecompressionStream",
    "WebAssembly.validate = () => false"])
def test_an_old_browser_is_told_so(opened, server, before):
    page = opened(before=before)
    assert "lacks WebAssembly with SIMD" in ask(page, SENTENCE, wait=".judge-answer p")
    assert not [path for path in server.asked if "/judge/" in path]

@pytest.mark.parametrize("broken", ["model.bin", "runtime.mjs", "judge-worker.mjs"])
def test_a_lost_connection_is_told_and_can_be_tried_again(opened, server, monkeypatch, broken):
    page = opened(quiet=True)
    monkeypatch.setattr(server, "broken", broken)
    page.click(".judge button")
    page.wait_for_selector(".judge-answer:has-text('could not be loaded')", timeout=25_000)
    assert page.inner_text(".judge button").startswith("Load the judge")
    assert page.is_hidden(".judge progress")
    monkeypatch.setattr(server, "broken", "none")
    assert "Probability of acceptable" in ask(page, SENTENCE)

def test_a_connection_that_falls_silent_is_given_up(opened, server):
    page = opened(before="Worker.prototype.postMessage = () => 0")
    page.clock.install()
    page.reload()
    page.click(".judge button")
    page.clock.fast_forward(31_000)
    page.wait_for_selector(".judge-answer:has-text('no answer for 30 seconds')")

def test_a_page_that_was_opened_as_a_file_says_what_it_needs(chrome, site):  # noqa: F811
    page = chrome.new_page()
    page.goto((SITE/"index.html").as_uri())
    assert "python -m http.server" in ask(page, SENTENCE, wait=".judge-answer p")
    page.close()

@pytest.mark.parametrize("name, empty, unknown, cut", [
    ("index.html", "type a sentence", "none of these characters", "reads 64 tokens"),
    ("pt/index.html", "digite uma frase", "nenhum desses caracteres", "lê 64 tokens")])
def test_odd_sentences_get_a_sentence(opened, name, empty, unknown, cut):
    page = opened(name)
    cases = [("", empty), (SENTENCE, "will"), (" \n ", empty), ("\u200b\u0301", empty),
             ("🙂", unknown), ("the " * 500, cut), ("", empty), ("x" * 10_000, unknown)]
    for sentence, said in cases:
        page.fill(".judge textarea", sentence)
        page.press(".judge textarea", "Enter")
        page.wait_for_selector(f".judge-answer:has-text('{said}')", timeout=60_000)

def test_html_stays_text(opened):
    page = opened()
    text = "<img src=x onerror=alert(1)><b>He</b> left"
    ask(page, text)
    assert not page.query_selector(".judge img, .judge-words b, .judge-answer b")
    assert "onerror=alert(1)><b>He</b" in page.inner_text(".judge-words")

# --- for everybody ---

@pytest.mark.parametrize("theme, width, name", [
    ("light", 1280, "index.html"), ("dark", 1280, "prediction.html"),
    ("light", 360, "pt/index.html"), ("dark", 360, "pt/prediction.html"),
    ("light", 1280, "tokenization.html"), ("dark", 360, "pt/tokenization.html")])
def test_the_box_is_well_and_needs_no_mouse(opened, theme, width, name):
    page = opened(name, viewport={"width": width, "height": 800}, color_scheme=theme)
    page.focus(".judge textarea")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("The pilot " + "unquestionably" * 6 + " admired the waiter.")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.judge button')")
    page.keyboard.press("Enter")
    page.wait_for_selector(WORDS, timeout=120_000)
    assert page.evaluate("document.activeElement.matches('.judge :is(button, textarea)')")
    assert page.get_attribute(".judge-answer", "role") == "status"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate((DOCS/"node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    assert page.evaluate(AXE) == []

# --- the tokens ---

TILES = "all => all.map(one => [...one.children].map(part => part.innerText))"

def test_what_is_typed_is_split_as_the_tokenizer_does(opened, server, known, sentences):
    page = opened("tokenization.html")
    page.wait_for_load_state("networkidle")
    assert not [path for path in server.asked if "/judge/" in path or path.endswith(".mjs")]
    page.click(".judge button")
    page.wait_for_selector(WORDS)
    assert page.evaluate("document.activeElement.matches('.judge textarea')")
    for sentence in ["", *sentences[::5]]:
        page.fill(".judge textarea", sentence)
        ids, cut = known._encode([sentence]) if sentence else ([[101, 102]], [False])
        shown = page.eval_on_selector_all(".judge-words li", TILES)
        assert shown == [[known.tokenizer.convert_ids_to_tokens(id), str(id)] for id in ids[0]]
        said = page.inner_text(".judge-answer")
        assert said.startswith(f"{len(ids[0])} tokens") and ("rest is cut off" in said) == cut[0]

@pytest.mark.parametrize("broken", ["tokenizer.bin", "wordpiece.mjs"])
def test_a_vocabulary_that_is_lost_can_be_loaded_again(opened, server, monkeypatch, broken):
    page = opened("pt/tokenization.html", quiet=True)
    monkeypatch.setattr(server, "broken", broken)
    page.click(".judge button")
    page.wait_for_selector(".judge-answer:has-text('Não foi possível carregar')")
    monkeypatch.setattr(server, "broken", "none")
    page.click(".judge button")
    page.wait_for_selector(WORDS)
    assert page.inner_text(".judge-answer").endswith("tokens, com [CLS] e [SEP].")
