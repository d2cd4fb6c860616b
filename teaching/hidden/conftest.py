"""pytest teaching/hidden/test_week1.py --submission handed_in/ana/week1.py"""
import importlib.util
import re
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--submission", help="a student's file")


def load(path):
    "A student's file as a module; it must be their own code"
    text = Path(path).read_text(encoding="utf-8")
    pattern = r"^\s*(?:from|import) (cola_nbdev|sklearn|transformers|torch)\b"
    borrowed = re.findall(pattern, text, re.MULTILINE)
    assert not borrowed, f"{path} imports {borrowed[0]}: write it yourself; NumPy is enough"
    spec = importlib.util.spec_from_file_location("submission", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def submission(request):
    path = request.config.getoption("--submission")
    if not path: pytest.exit("give the file to grade: --submission FILE", returncode=2)
    return load(path)
