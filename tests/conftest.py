"""What every test shares: no network, no screen, and the real corpus where somebody has it."""
import os
from pathlib import Path

import pytest

# Before anything imports transformers, which reads it once: a test that needs the Hub must fail,
# not download.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["TQDM_DISABLE"] = "1"  # as `cola` does where no terminal is

@pytest.fixture(scope="session")
def needs_cola():
    "The folder of the real corpus, from COLA_NBDEV_DATA; without it the test is skipped"
    folder = os.environ.get("COLA_NBDEV_DATA")
    if not folder:
        pytest.skip("needs the real corpus: set COLA_NBDEV_DATA to the unpacked folder cola_public")
    if not any(Path(folder).rglob("in_domain_train.tsv")):
        pytest.skip(f"needs the real corpus: COLA_NBDEV_DATA={folder} has no in_domain_train.tsv")
    return Path(folder)

@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "The folder of a tiny judge"
    from cola_nbdev.data import load_corpus
    from cola_nbdev.prediction import save_judge
    from cola_nbdev.settings import Config
    from cola_nbdev.training import train
    run = train(load_corpus("demo").train[:100], Config(model="tiny", epochs=1), progress=False)
    return save_judge(run, tmp_path_factory.mktemp("judge")/"model")

@pytest.fixture(scope="module")
def judge(model):
    "The judge of that folder"
    from cola_nbdev.prediction import Judge
    return Judge(model)

@pytest.fixture
def cola(capsys, monkeypatch, tmp_path):
    "The command in this process: what it printed to its two outputs, and its exit code"
    monkeypatch.chdir(tmp_path)
    def run(*arguments):
        from cola_nbdev import cli
        code = 0
        try: cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped: code = stopped.code
        printed = capsys.readouterr()
        return printed.out, printed.err, code
    return run

@pytest.fixture
def tried(record_property):
    "Call it with the name of a fault, once for every time it was survived"
    counts = {}
    def note(fault): counts[fault] = counts.get(fault, 0) + 1
    yield note
    for fault, count in counts.items(): record_property("fault", (fault, count))

@pytest.fixture
def counted(record_property, request):
    "How many cases were made up, for the table of `make faults`"
    yield
    used = getattr(request.function, "_hypothesis_internal_use_settings", None)
    record_property("cases", getattr(used, "max_examples", 0))

def pytest_make_parametrize_id(val):
    "Contents make no name for a test: that of a gz file holds the time, which differs by process"
    if isinstance(val, bytes): return "bytes"
    return "text" if isinstance(val, str) and len(val) > 60 else None

# The table of the fault suite: every test says which faults it tried, and with how many cases

def pytest_terminal_summary(terminalreporter):
    import reliability
    reports = [report for found in terminalreporter.stats.values() for report in found
               if getattr(report, "when", "") == "teardown" or getattr(report, "failed", False)]
    table = reliability.table(reports)
    if table and os.environ.get("COLA_NBDEV_LONG"):
        terminalreporter.write_line("\n" + table)
        if not terminalreporter.config.option.keyword:  # the page shows whole runs
            reliability.write(table)
