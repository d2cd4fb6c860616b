"""What is around the notebooks is in order: links, the map, make targets, workflows, forms."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT/".github"
MAKEFILE = (ROOT/"Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, flags=re.MULTILINE))
TEXTS = [ROOT/name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "README.md",
                                "README.pt.md", "nbs/pt/README.md")]
WORKFLOWS = sorted((GITHUB/"workflows").glob("*.y*ml"))
PINNED = re.compile(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v[\d.]+)")
CALL = re.compile(r"make((?: [a-z][\w-]*)+)"
                  r"(?: all=1)?(?: tag=\"\$GITHUB_REF_NAME\")? PYTHON=python")

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)

def read(path): return path.read_text(encoding="utf-8")

def steps(path):
    "(the job's name, step) for every step of a workflow"
    for name, job in yaml.safe_load(read(path))["jobs"].items():
        yield from ((name, step) for step in job["steps"])

# The tests themselves

@pytest.mark.xdist_group("alone")
def test_a_group_of_tests_stays_in_one_process(request):
    "A pytest that is newer than its xdist forgets groups in silence; minilm is then trained twice"
    if not os.environ.get("PYTEST_XDIST_WORKER"): pytest.skip("one process runs all tests: no -n")
    assert request.node.nodeid.endswith("@alone")

# Words

@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    found = re.findall(r"\]\(([^)\s]+)\)", read(path))
    targets = {target.partition("#")[0] for target in found if not re.match(r"[a-z]+:", target)}
    lost = [target for target in targets if target and not (path.parent/target).exists()]
    assert not lost, f"{path.name} links to {lost}, which are not there"

def test_the_map_has_every_room():
    stems = [path.stem for path in (ROOT/"nbs").glob("*.ipynb")]
    rooms = {f"{stem[:2]}_" if stem[:2].isdigit() else stem for stem in stems}
    missing = sorted(room for room in rooms if f"`{room}" not in read(ROOT/"CONTRIBUTING.md"))
    assert not missing, f"the map in CONTRIBUTING.md lacks {missing}: add a row, or name it in one"

def test_a_clone_hides_the_package_from_nobody():
    "Beside a folder cola_nbdev without __init__.py, only a path in site-packages is found"
    makefile = read(ROOT/"Makefile")
    assert "here := --config-settings editable_mode=compat -e" in makefile
    assert makefile.count("$(install) $(here)") == 4 and "$(install) -e" not in makefile

def test_every_make_target_that_is_named_exists():
    named = {(path.name, target) for path in [*TEXTS, GITHUB/"pull_request_template.md"]
             for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", read(path), re.MULTILINE)}
    assert len(named) > 10
    unknown = sorted(f"{name}: make {target}" for name, target in named if target not in TARGETS)
    assert not unknown, f"the Makefile has no such target: {unknown}"

def test_make_help_names_every_target():
    phony = set(re.search(r"^\.PHONY:(.*)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    told = set(re.findall(r"^([a-z][\w-]*):.*## ", MAKEFILE, flags=re.MULTILINE))
    assert phony == told, f"a target needs .PHONY and a comment after ##: {sorted(phony ^ told)}"

# A release

@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_tag_that_is_not_the_version_is_refused():
    command = ["make", "-o", ".venv/.made", "dist", "tag=v0.0.0-never"]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    said = "The tag is v0.0.0-never, and settings.ini says version = "
    assert result.returncode and said in result.stdout + result.stderr
    assert "Building" not in result.stdout

def test_what_is_not_code_is_installed_too():
    "The word lists of the grammars, the questions, and the words of plots"
    setup = read(ROOT/"setup.py")
    for pattern in ("*.toml", "*.json", "locale/*/LC_MESSAGES/*.mo"):
        assert list((ROOT/"cola_nbdev").glob(pattern)) and f'"{pattern}"' in setup

# Workflows: `make workflows` looks at them with actionlint and zizmor; these are our own rules

@each_workflow
def test_a_workflow_calls_make(path):
    may_write = ("docs", "portuguese")  # so it runs nothing of ours
    commands = [step["run"] for job, step in steps(path)
                if "run" in step and (path.stem, job) != may_write]
    called = {target for command in commands for target in CALL.fullmatch(command)[1].split()}
    unknown = sorted(called - TARGETS)
    assert called and not unknown, f"{path.name} calls make {unknown}, which doesn't exist"

@each_workflow
def test_actions_are_pinned_by_hash(path):
    loose = [line.strip() for line in read(path).splitlines()
             if "uses:" in line and not PINNED.search(line)]
    assert not loose, f"{path.name}: pin these by commit, with the version behind it: {loose}"

def test_an_action_has_one_version_everywhere():
    found = {match.groups() for path in WORKFLOWS for match in PINNED.finditer(read(path))}
    assert len(found) == len({action for action, *_ in found}), sorted(found)

@each_workflow
def test_a_job_may_do_only_what_it_says(path):
    workflow = yaml.safe_load(read(path))
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] and job["timeout-minutes"], name
        if "write" not in job["permissions"].values(): continue
        for step in job["steps"]:  # what may write runs no code of this repository
            assert "actions/checkout" not in step.get("uses", ""), name
            assert not step.get("run", "").startswith("make"), name

# Forms

FORMS = sorted((GITHUB/"ISSUE_TEMPLATE").glob("*.yml"))

@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_can_be_filled_in(path):
    form = yaml.safe_load(read(path))
    if path.stem == "config":
        links = form["contact_links"]
        assert links and all(link.keys() == {"name", "url", "about"} for link in links)
        return
    assert form["name"] and form["description"]
    labels = [field["attributes"]["label"] for field in form["body"]]
    assert len(labels) == len(set(labels))
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown")
        assert ("options" in field["attributes"]) == (field["type"] == "dropdown")

def test_the_container_makes_what_make_test_needs():
    text = read(ROOT/".devcontainer"/"devcontainer.json")
    container = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert container["postCreateCommand"].endswith("&& make .venv/.dev")
    assert "\n.venv/.dev: " in MAKEFILE
