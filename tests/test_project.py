"""What stands around the notebooks leads where it says: links, the map in CONTRIBUTING.md, make targets, workflows, forms."""
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT/"Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, flags=re.MULTILINE))
TEXTS = [ROOT/name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "README.md", "README.pt.md", "nbs/pt/README.md")]
WORKFLOWS = sorted((ROOT/".github"/"workflows").glob("*.y*ml"))
PINNED = re.compile(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v[\d.]+)")

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)

def steps(path):
    "(the job's name, step) for every step of a workflow"
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items(): yield from ((name, step) for step in job["steps"])

# Words

@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))}
    lost = [target for target in targets if target and not re.match(r"[a-z]+:", target) and not (path.parent/target).exists()]
    assert not lost, f"{path.name} links to {lost}, which are not there"

def test_the_map_has_every_room():
    text = (ROOT/"CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {f"{path.stem[:2]}_" if path.stem[:2].isdigit() else path.stem for path in (ROOT/"nbs").glob("*.ipynb")}
    missing = sorted(room for room in rooms if f"`{room}" not in text)
    assert not missing, f"the map in CONTRIBUTING.md lacks {missing}: add a row, or name it in one"

def test_every_make_target_that_is_named_exists():
    named = {(path.name, target) for path in [*TEXTS, ROOT/".github"/"pull_request_template.md"] for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)}
    assert len(named) > 10
    unknown = sorted(f"{name}: make {target}" for name, target in named if target not in TARGETS)
    assert not unknown, f"the Makefile has no such target: {unknown}"

def test_make_help_names_every_target():
    phony = set(re.search(r"^\.PHONY:(.*)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    told = set(re.findall(r"^([a-z][\w-]*):.*## ", MAKEFILE, flags=re.MULTILINE))
    assert phony == told, f"a target needs a place in .PHONY and a comment behind ##: {sorted(phony ^ told)}"

# A release

@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_tag_that_is_not_the_version_is_refused():
    result = subprocess.run(["make", "-o", ".venv/.made", "dist", "tag=v0.0.0-never"], cwd=ROOT, text=True, capture_output=True)
    assert result.returncode and "The tag is v0.0.0-never, and settings.ini says version = " in result.stdout + result.stderr
    assert "Building" not in result.stdout

# Workflows: `make workflows` looks at them with actionlint and zizmor; these are the rules of the house

@each_workflow
def test_a_workflow_calls_make(path):
    commands = [step["run"] for job, step in steps(path) if "run" in step and (path.stem, job) != ("docs", "portuguese")] # that one may write, so it runs nothing of ours
    called = [target for command in commands for target in re.findall(r"[\w-]+", re.fullmatch(r"make((?: [a-z][\w-]*)+)(?: tag=\"\$GITHUB_REF_NAME\")? PYTHON=python", command)[1])]
    unknown = set(called) - TARGETS
    assert called and not unknown, f"{path.name} calls targets that the Makefile does not have: {sorted(unknown)}"

@each_workflow
def test_actions_are_pinned_by_hash(path):
    text = path.read_text(encoding="utf-8")
    loose = [line.strip() for line in text.splitlines() if "uses:" in line and not PINNED.search(line)]
    assert not loose, f"{path.name}: pin these by commit, with the version behind it: {loose}"

def test_an_action_has_one_version_everywhere():
    found = {match.groups() for path in WORKFLOWS for match in PINNED.finditer(path.read_text(encoding="utf-8"))}
    assert len(found) == len({action for action, *_ in found}), sorted(found)

@each_workflow
def test_a_job_may_do_only_what_it_says(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] and job["timeout-minutes"], name
        if "write" in job["permissions"].values(): # what may write runs no code of this repository
            assert not any("actions/checkout" in step.get("uses", "") or step.get("run", "").startswith("make") for step in job["steps"]), name

# Forms

@pytest.mark.parametrize("path", sorted((ROOT/".github"/"ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_a_form_can_be_filled_in(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form["contact_links"] and all(link.keys() == {"name", "url", "about"} for link in form["contact_links"])
        return
    assert form["name"] and form["description"]
    labels = [field["attributes"]["label"] for field in form["body"]]
    assert len(labels) == len(set(labels)) and any(field.get("validations", {}).get("required") for field in form["body"])
    assert all(field["type"] in ("textarea", "input", "dropdown") and ("options" in field["attributes"]) == (field["type"] == "dropdown") for field in form["body"])

def test_the_container_makes_what_make_test_needs():
    text = (ROOT/".devcontainer"/"devcontainer.json").read_text(encoding="utf-8")
    container = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert container["postCreateCommand"].endswith("&& make .venv/.dev") and "\n.venv/.dev: " in MAKEFILE
