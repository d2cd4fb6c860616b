"""Predict, then run: what is asked, where it is asked, and whether the cells agree."""
import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from test_portuguese import lost_facts

from cola_nbdev.questions import Knob, ask

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import portuguese

WRITTEN = json.loads((ROOT/"cola_nbdev/questions.json").read_text(encoding="utf-8"))
QUESTIONS, LANGUAGES = WRITTEN["questions"], ("en", "pt")
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4)
             for path in sorted((ROOT/"nbs").glob("*.ipynb"))}
COURSE = ["tutorial", "03_data", "05_tokenization", "07_model", "attention", "10_settings",
          "14_training", "15_evaluation", "17_comparison", "18_prediction", "23_experiments",
          "25_attribution", "26_inspection"]  # pages with two to four questions
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)

each_question = pytest.mark.parametrize("name", QUESTIONS)

def asked():
    "(notebook, question, the cell that asks it, the next cell of code that doesn't ask)"
    for stem, notebook in NOTEBOOKS.items():
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        names = [portuguese.ASKED.fullmatch(cell.source) for cell in code]
        for number, found in enumerate(names):
            if not found: continue
            after = (cell for cell, other in zip(code[number:], names[number:]) if not other)
            yield stem, found[1], code[number], next(after)

ASKED = {name: rest for _, name, *rest in asked()}

def evidence(cell):
    "What a cell shows, its pictures in words; of one that shows nothing, what it asserts"
    texts = re.findall(r"^#\| fig-alt: (.*)", cell.source, re.MULTILINE)
    for output in cell.outputs:
        texts.append(output.get("text") or output.data.get("text/plain", ""))
        # pandas breaks wide tables in its plain text; the HTML has whole rows
        rows = output.get("data", {}).get("text/html", "").split("</tr>")
        texts += [re.sub(r"<[^>]*>", " ", row).replace("&lt;", "<").replace("&gt;", ">")
                  for row in rows if "<td" in row]
    return [" ".join(text.split()) for text in texts or [cell.source]]

# What is written

@each_question
def test_a_question_has_one_right_answer_and_a_reply_to_each(name):
    one = QUESTIONS[name]
    for language in LANGUAGES:
        answers, question = one[language]["answers"], ask(name, language)
        assert 3 <= len(answers) <= 6 and 0 <= one["right"] < len(answers)
        replies = [reply for *_, reply in question.replies()]
        right = [WRITTEN["words"][language]["right"] in reply for reply in replies]
        assert [number for number, is_it in enumerate(right) if is_it] == [one["right"]]
        assert all(len(reply) > 40 for reply in answers.values()), "say what the mistake is"
        assert len({*answers.values()}) == len(answers), "a mistake has a reply of its own"

@each_question
def test_both_languages_say_the_same(name):
    english, ours = (QUESTIONS[name][language] for language in LANGUAGES)
    assert len(english["answers"]) == len(ours["answers"]) and english["asks"] != ours["asks"]
    is_number = "number" in QUESTIONS[name]
    if is_number: assert [*english["answers"]] == [*ours["answers"]]  # the ranges
    pairs = [(english["asks"], ours["asks"]),
             *zip(english["answers"].values(), ours["answers"].values()),
             *(() if is_number else zip(english["answers"], ours["answers"]))]
    assert not [lost for pair in pairs for lost in lost_facts(*pair)]

@pytest.mark.parametrize("name", [name for name, one in QUESTIONS.items() if "number" in one])
def test_every_number_gets_the_reply_of_its_range(name):
    one, replies = QUESTIONS[name], ask(name, "en").replies()
    def position(value):
        return next(at for at, (low, high, _) in enumerate(replies) if low <= value <= high)
    assert position(one["number"]) == one["right"]
    assert [*one["en"]["answers"]][-1] == "*"  # whatever else is typed
    middles = [position((low + high) / 2) for low, high, _ in replies[:-1]]
    assert middles == [*range(len(replies) - 1)], "a range hides another"

# Where it is asked

def test_every_question_is_asked_once():
    names = [name for _, name, *_ in asked()]
    assert sorted(names) == sorted(QUESTIONS)

@pytest.mark.parametrize("stem", COURSE)
def test_a_page_asks_two_to_four(stem):
    page = re.sub(r"^\d+_", "", stem)
    names = [name for notebook, name, *_ in asked() if notebook == stem]
    assert 2 <= len(names) <= 4 and all(name.startswith(f"{page}-") for name in names)

@each_question
def test_the_cell_below_gives_the_answer(name):
    shown = evidence(ASKED[name][1])
    one = QUESTIONS[name]
    missing = [text for text in one["shown"] if not any(text in each for each in shown)]
    assert not missing, f"{name}: the cell below shows no {missing}, but {shown}"
    figures = re.findall(r"-?\d+(?:\.\d+)?", " ".join(one["shown"]))
    if "number" in one: assert one["number"] in map(float, figures)

@each_question
def test_a_notebook_keeps_the_question_as_it_is(name):
    cell, _ = ASKED[name]
    assert cell.outputs == portuguese.question_outputs(cell, "en"), "make outputs"

def test_portuguese_pages_ask_in_portuguese():
    cells = portuguese.in_portuguese(ROOT/"nbs/tutorial.ipynb").cells
    kept = [cell.outputs[0].data["text/html"] for cell in cells
            if portuguese.ASKED.fullmatch(cell.source)]
    assert len(kept) == 4 and all('lang="pt"' in html and "Responder" in html for html in kept)

# In a browser

@pytest.fixture(scope="module")
def page(tmp_path_factory):
    "A page with a choice, a number in Portuguese and a knob, opened from a file"
    if not (CHROMIUM and find_spec("playwright")): pytest.skip("needs Playwright and Chromium")
    from playwright.sync_api import sync_playwright
    knob = Knob("draws", {"1": "at first", "1,000": "<i>many", "9": "at last"})
    questions = [ask("tutorial-mask", "en"), ask("training-by-heart", "pt")]
    path = tmp_path_factory.mktemp("page")/"page.html"
    html = "\n".join(question._repr_html_() for question in (*questions, knob))
    path.write_text(f'<!doctype html><meta charset="utf-8"><p>{html}', encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield lambda **options: open_page(browser, path, **options)
        browser.close()

def open_page(browser, path, **options):
    opened = browser.new_page(**options)
    opened.goto(path.as_uri())
    return opened

@pytest.mark.xdist_group("browser")
def test_an_answer_is_locked_by_keyboard_alone(page):
    tab = page()
    choice, number = tab.locator("form.question").all()
    assert choice.locator("button").is_disabled()
    for key in ("Tab", "Space", "ArrowDown", "ArrowDown", "Tab", "Enter"): tab.keyboard.press(key)
    assert "as fixed as everything else" in choice.locator("output").inner_text()
    assert choice.locator("input:disabled").count() == 4
    assert choice.locator("input:checked").get_attribute("value") == "2"
    assert tab.evaluate("document.activeElement.tagName") == "BUTTON"  # the focus stays
    said = choice.locator("output").inner_text()
    tab.keyboard.press("Enter")
    assert choice.locator("output").inner_text() == said

    tab.keyboard.press("Tab")
    tab.keyboard.type("many")
    assert number.locator("button").is_disabled()
    tab.keyboard.press("Control+a")
    tab.keyboard.type("0,1")
    tab.keyboard.press("Enter")
    assert number.locator("output").inner_text().startswith("Certo. Não é preciso")
    tab.close()

@pytest.mark.xdist_group("browser")
def test_without_scripts_it_can_be_read_and_gives_nothing_away(page):
    tab = page(java_script_enabled=False)
    text = tab.locator("body").inner_text()
    question = ask("tutorial-mask", "en")
    assert all(answer in text for answer in (question.text, *question.answers))
    assert not [reply for reply in question.answers.values() if reply[:30] in text]
    tab.locator("input").first.check()
    assert tab.locator("button").first.is_disabled()
    tab.close()

@pytest.mark.xdist_group("browser")
def test_a_screen_reader_hears_question_choices_and_reply(page):
    tab = page()
    group = tab.get_by_role("group", name="Before you run it: Compared with the sentence alone")
    assert group.get_by_role("radio").count() == 4
    group.get_by_role("radio", name="They differ in any case: the head is random.").check()
    group.get_by_role("button", name="Answer").click()
    assert tab.get_by_role("status").first.inner_text().startswith("Not quite. It was drawn")
    assert tab.get_by_role("textbox", name="O seu número:").count() == 1
    tab.close()

# A knob

@pytest.mark.xdist_group("browser")
def test_a_knob_turns_by_keyboard_and_says_where_it_is(page):
    tab = page()
    slider = tab.get_by_role("slider", name="draws")
    results = {each: tab.get_by_text(each) for each in ("at first", "<i>many", "at last")}
    def seen(): return [each for each, found in results.items() if found.is_visible()]
    assert seen() == ["at first"] and slider.get_attribute("aria-valuetext") == "1"
    for key, shown, value in (("ArrowRight", "<i>many", "1,000"), ("End", "at last", "9"),
                              ("ArrowRight", "at last", "9"), ("Home", "at first", "1")):
        slider.press(key)
        assert seen() == [shown] and slider.get_attribute("aria-valuetext") == value
        assert tab.locator(".knob output").inner_text() == value

@pytest.mark.xdist_group("browser")
def test_a_knob_without_scripts_shows_its_first_result(page):
    text = page(java_script_enabled=False).locator("body").inner_text()
    assert "at first" in text and "many" not in text
