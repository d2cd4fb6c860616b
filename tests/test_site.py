"""The site: built from this checkout, looked at in Chromium; and what stops a build. Skipped where there is no Chromium, no npm or no Sphinx, save in CI."""
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/"docs"))

try:
    import build_site
    import checks
    import staging
    missing = checks.what_is_missing()
except ImportError as error: missing = f"{error.name} (the extra [docs])"

MUST = bool(os.environ.get("COLA_NBDEV_SITE"))
pytestmark = [pytest.mark.xdist_group("site"), pytest.mark.skipif(bool(missing) and not MUST, reason=f"the site is looked at where there are Chromium, npm and the extra [docs]; missing: {missing}")]

def python(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True)

@pytest.fixture(scope="module")
def site():
    "The site of this checkout, built as `make docs` does"
    assert not missing, f"cannot be done without {missing}"
    result = python("docs/build_site.py")
    assert result.returncode == 0, result.stdout + result.stderr
    return ROOT/"_docs"

def test_the_site_is_as_its_readers_want_it(site):
    result = python("docs/checks.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "pages in Chromium: well" in result.stdout and "search: well" in result.stdout

# What stops a build, and names notebook and cell

@pytest.fixture
def staged(tmp_path):
    "A function that stages a page of two cells: a title, and the cell in question"
    def stage(cell, name="evaluation"):
        cell.id = "the-cell"
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page\n\n> What it promises."), cell])
        path = tmp_path/f"04_{name}.ipynb"
        nbformat.write(notebook, path)
        return staging.stage_notebook(path, "en")
    return stage

markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell

@pytest.fixture(autouse=True)
def no_terms(monkeypatch):
    if not missing: monkeypatch.setattr(staging, "TERMS", {})

@pytest.mark.parametrize("text, said", [
    ("::: {.panel-tabset}\ntext\n:::", "::: {.panel-tabset}"), ("{{< video x.mp4 >}}", "a shortcode"), ("## Heading {.unnumbered}", "attributes in braces"),
    ("See @fig-one.", "a cross-reference of Quarto"), ("[there](no_such_page.ipynb)", "leads nowhere"), ("[there](../docs/nothing.md)", "leads nowhere")])
def test_what_is_not_known_stops_the_build(staged, text, said):
    with pytest.raises(staging.Unknown) as error: staged(markdown(text))
    assert "nbs/15_evaluation.ipynb, cell the-cell: " in str(error.value) and said in str(error.value)

def test_a_missing_output_stops_the_build(staged):
    for source in ("print(1)", "1 + 1", "import os\nos.getcwd()"):
        with pytest.raises(staging.Unknown, match="cell the-cell: an output is missing"): staged(code(source))
    for source in ("x = 1", "test_eq(1, 1)", "def f(): print(1)"): staged(code(source))

def test_a_picture_needs_words(staged):
    picture = nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="})
    with pytest.raises(staging.Unknown, match="a picture without words"): staged(code("plot();", outputs=[picture]))
    page, _ = staged(code("#| fig-alt: A rising line.\nplot();", outputs=[picture]))
    assert page.cells[-1].metadata["mystnb"]["image"]["alt"] == "A rising line."

def test_a_stale_export_stops_the_build(staged):
    with pytest.raises(staging.Unknown, match="does not have this cell as it stands here: run `make export`"): staged(code("#| export\ndef mcc(): pass"))

def test_a_term_of_the_index_needs_its_cell(staged, monkeypatch):
    monkeypatch.setattr(staging, "TERMS", {"15_evaluation": {"gone": ("padding", "preenchimento")}})
    with pytest.raises(staging.Unknown, match="has no cell gone"): staged(markdown("text"))

def test_a_broken_reference_names_notebook_and_cell(tmp_path, monkeypatch):
    (tmp_path/"en").mkdir()
    monkeypatch.setattr(build_site, "STAGE", tmp_path)
    nbformat.write(nbformat.v4.new_notebook(cells=[markdown("# evaluation", id="top"), markdown("text", id="lost")]), tmp_path/"en/evaluation.ipynb")
    line = f"{tmp_path}/en/evaluation.ipynb:20003: WARNING: 'myst' cross-reference target not found: 'x' [myst.xref_missing]"
    assert build_site.located(line, "en") == "nbs/15_evaluation.ipynb, cell lost: WARNING: 'myst' cross-reference target not found: 'x' [myst.xref_missing]"

def test_links_to_symbols_go_to_their_entry(staged):
    page, _ = staged(markdown("`mcc` and `mcc()` and `no_such_name`, [`mcc`](03_data.ipynb)\n\n## `mcc`"))
    text = page.cells[-1].source
    assert "{py:obj}`mcc <cola_nbdev.evaluation.mcc>` and {py:obj}`mcc() <cola_nbdev.evaluation.mcc>` and `no_such_name`, [`mcc`](data.ipynb)" in text and "## `mcc`" in text
