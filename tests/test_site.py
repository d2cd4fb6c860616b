"""What Sphinx gets to read: cells, links and names as the site shows them."""
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))
import build_site
import staging

markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell

@pytest.fixture
def staged(tmp_path):
    "A function that stages a page of a title and the cells in question"
    def stage(*cells):
        path = tmp_path/"15_evaluation.ipynb"
        cells = [markdown("# A page\n\n> What it promises."), *cells]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return staging.stage_notebook(path, "en").cells
    return stage

def test_directives_are_not_shown(staged):
    picture = nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="})
    page = staged(code("#| slow\n#| fig-alt: A rising line.\nplot();", outputs=[picture]))
    assert page[-1].source == "plot();"
    assert page[-1].metadata["mystnb"]["image"]["alt"] == "A rising line."
    assert len(staged(code("#| hide\nx = 1"))) == 1

def test_machinery_and_tests_are_folded(staged):
    shown = [nbformat.v4.new_output("stream", text="1")]
    cells = staged(code("#| export\n#| fold\ndef read_it(): pass"),
                   code("#| export\ndef lesson(): assert True"), code("x = 1\ntest_eq(x, 1)"),
                   code("with a:\n    assert x"), code("test_eq(x, 1)\nx", outputs=shown),
                   code("#| fold\ndef helper(): pass\nhelper()", outputs=shown),
                   code("#| fold\nx = 1"))[1:]  # after what is shown, not into it
    said = [cell.metadata.get("mystnb", {}).get("code_prompt_show") for cell in cells]
    assert said == ["read_it", None, "Tests", None, "Code", "Code"]
    assert cells[2].source.endswith("1)\n\nwith a:\n    assert x")  # the next one is in it
    assert [cell.metadata.tags == ["hide-input"] for cell in cells] == [*map(bool, said)]

def test_links_lead_to_pages_and_files(staged):
    text = staged(markdown("[a](03_data.ipynb#labels), [b](../tests/conftest.py), "
                           "[c](../docs/scale.md), [d](24_search.ipynb)"))[-1].source
    assert "[a](data.ipynb#labels)" in text and "[c](scale.md)" in text
    assert "/blob/main/tests/conftest.py)" in text and "[d](cola-search.ipynb)" in text

def test_an_anchor_is_the_same_in_every_language(staged):
    text = staged(markdown('<a id="seed"></a>\n### semente\n\n[b](glossary.ipynb#seed)'))[-1].source
    assert text == "(seed)=\n### semente\n\n[b](glossary.ipynb#seed)"

def test_a_page_without_code_has_no_buttons(tmp_path):
    for cells, has in (([markdown("# A")], False), ([markdown("# A"), code("1 + 1")], True)):
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path/"a.ipynb")
        source = staging.stage_notebook(tmp_path/"a.ipynb", "en").cells[0].source
        assert ("page-links" in source) == has

def test_names_lead_to_the_api(staged):
    cell = markdown("`mcc()`, `no_such_name`, [`mcc`](03_data.ipynb)\n\n## `mcc`")
    text = staged(cell)[-1].source
    assert "{py:obj}`mcc() <cola_nbdev.evaluation.mcc>`, `no_such_name`" in text
    assert "[`mcc`](data.ipynb)" in text and "## `mcc`" in text

def test_a_table_can_be_heard(staged):
    html = '<table border="1"><thead><tr><th>a</th></tr></thead><tr><th>b</th></tr></table>'
    table = nbformat.v4.new_output("display_data", data={"text/html": html})
    shown = staged(code("table", outputs=[table]))[-1].outputs[0].data["text/html"]
    assert shown.startswith('<div class="output-table"><table><thead><tr><th scope="col">a</th>')
    assert '<th scope="row">b</th>' in shown

def test_a_broken_reference_names_notebook_and_cell(tmp_path, monkeypatch):
    (tmp_path/"en").mkdir()
    monkeypatch.setattr(build_site, "STAGE", tmp_path)
    cells = [markdown("# Evaluation", id="top"), markdown("text", id="lost")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path/"en/evaluation.ipynb")
    line = f"{tmp_path}/en/evaluation.ipynb:20003: WARNING: target not found: 'x'"
    told = build_site.located(line, "en")
    assert told == "nbs/15_evaluation.ipynb, cell lost: WARNING: target not found: 'x'"

def test_the_menu_has_every_page_once():
    pages = [page for section in staging.OWN["sections"] for page in section[2].split()]
    rooms = {build_site.page_of(path) for path in build_site.notebooks("en")} - {"index"}
    assert len(pages) == len(set(pages)) and rooms <= set(pages), rooms - set(pages)
