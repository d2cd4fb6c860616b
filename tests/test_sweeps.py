"""`cola search` and `cola seeds` with several processes: they share the work, one of them is
killed, and nothing that was finished is done again."""
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import faults
import pytest
from test_bad_input import refused

optuna = pytest.importorskip(
    "optuna", reason='Optuna is not installed: pip install "cola_nbdev[search]"')

from cola_nbdev import search as searching  # noqa: E402, needs nothing of Optuna but its tests do
from cola_nbdev.basics import ColaError  # noqa: E402
from cola_nbdev.data import Corpus, load_corpus  # noqa: E402
from cola_nbdev.settings import Config  # noqa: E402

HEARTBEAT = 1  # seconds; a trial is dead after four of them
VARY = ("learning_rate", "warmup")
pytestmark = [pytest.mark.xdist_group("sweeps"), pytest.mark.long]

def small():
    splits = load_corpus("demo").splits.items()
    return Corpus("small", {split: frame.head(80) for split, frame in splits})

def small_config(learning_rate=.002, **more):
    return Config(model="tiny", epochs=2, learning_rate=learning_rate, checkpoint_minutes=0, **more)

def noted(function, begun, slow, text):
    "The function, which first writes down that it begins, and then takes its time"
    def call(*arguments, **options):
        if line := text(*arguments):
            with open(begun, "a") as file: file.write(f"{line}\n")
            time.sleep(slow)  # there must be time to be killed in
        return function(*arguments, **options)
    return call

def run_search(begun, out, slow, storage, config):
    searching._train_trial = noted(searching._train_trial, begun, slow,
                                   lambda trial, sentences, config, stop: config.learning_rate)
    searching.search(small(), config, 6, out, VARY, storage, False, HEARTBEAT)

def run_seeds(begun, out, slow, storage, config):
    from cola_nbdev import experiments

    def seed_to_train(corpus, config, out, *rest):
        return None if (out/"metrics.json").exists() else config.seed
    experiments.fine_tune = noted(experiments.fine_tune, begun, slow, seed_to_train)
    experiments.run_seeds(small(), config, [1, 2, 3], out, False)

def job(work, out, begun, slow=.02, storage=None, **settings):
    "The work of one process; what it says goes to a file"
    import torch
    torch.set_num_threads(1)
    said = open(f"{begun}.said", "a", buffering=1)  # noqa: SIM115, it ends with the process
    sys.stdout = sys.stderr = said
    code = 0
    try: work(begun, out, slow, storage, small_config(**settings))
    except ColaError as error:
        print(f"cola: {error}")
        code = error.code
    except BaseException:  # a forked process would print it on the screen
        traceback.print_exc()
        code = 1
    os._exit(code)

said_by = {}  # process → the file with what it said

def start(work, out, begun, **options):
    process = faults.SERVER.Process(target=job, args=(work, out, begun), kwargs=options)
    process.start()
    said_by[process] = Path(f"{begun}.said")
    return process

def ends(process, code=0):
    "It ends with this code; returns what it said"
    process.join(120)
    said = said_by[process].read_text()
    assert process.exitcode == code and "Traceback" not in said, said
    return said

def kill(process):
    process.kill()
    process.join()

def lines(path): return path.read_text().splitlines() if path.exists() else []

def wait_for(condition, process):
    until = time.monotonic() + 60
    while not condition():
        assert process.is_alive(), said_by[process].read_text()
        assert time.monotonic() < until
        time.sleep(.02)

def load_study(out, storage=None):
    "The study as Optuna itself reads it"
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    name = f"search {out.name}" if storage else "cola"
    storage = storage or f"sqlite:///{out/'search.db'}"
    if storage.startswith("journal://"):
        storage = JournalStorage(JournalFileBackend(storage.removeprefix("journal://")))
    return optuna.load_study(study_name=name, storage=storage)

def trials(out, storage=None): return load_study(out, storage).get_trials()

def done(found): return [trial for trial in found if trial.state.name in ("COMPLETE", "PRUNED")]

# Where the study may be

class Postgres:
    "A PostgreSQL of our own: a free port of this machine, a folder of its own, a password"
    def __init__(self, folder):
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"),
                           key=lambda path: int(path.parts[4]))
        program = shutil.which("initdb") or next(map(str, installed[-1:]), None)
        if not program: pytest.skip("PostgreSQL is not installed: apt install postgresql")
        if not importlib.util.find_spec("psycopg"):
            pytest.skip("the driver of PostgreSQL is not installed: "
                        'pip install "cola_nbdev[servers]"')
        self.root = os.geteuid() == 0
        if self.root and subprocess.run(["id", "postgres"], capture_output=True).returncode:
            pytest.skip("root may not run PostgreSQL, and there is no user postgres")
        self.folder, self.programs = folder, Path(program).resolve().parent
        (folder/"password").write_text("secret\n")
        if self.root:
            for path in (folder, folder/"password"): shutil.chown(path, "postgres")
        self._run("initdb", "--username", "cola", "--pwfile", folder/"password",
                  "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--no-locale",
                  "-D", folder/"data")
        with socket.create_server(("127.0.0.1", 0)) as free: self.port = free.getsockname()[1]
        self.start()

    def _run(self, program, *arguments):
        user = ["runuser", "-u", "postgres", "--"] if self.root else []
        ended = subprocess.run([*user, self.programs/program, *arguments], text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.folder)
        assert not ended.returncode, ended.stderr

    def start(self):
        options = f"-F -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {self.port}"
        self._run("pg_ctl", "-D", self.folder/"data", "-l", self.folder/"log", "-w",
                  "-o", options, "start")

    def stop(self):  # as if the machine had been switched off
        self._run("pg_ctl", "-D", self.folder/"data", "-m", "immediate", "-w", "stop")

    def database(self, name):
        "The address of a new database"
        import psycopg
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.address(name)

    def address(self, name, password="secret"):
        return f"postgresql://cola:{password}@127.0.0.1:{self.port}/{name}"

@pytest.fixture(scope="module")
def postgres():
    "A PostgreSQL that runs; in a folder that its user can reach, which pytest's are not"
    with tempfile.TemporaryDirectory(prefix="cola-postgres-") as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop()

@pytest.fixture
def storage(tmp_path, request):
    "The address of the study, or None for the file in the folder of the search"
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").database(tmp_path.name)
    return {"folder": None, "sqlite": f"sqlite:///{tmp_path/'elsewhere.db'}",
            "journal": f"journal://{tmp_path/'elsewhere.log'}"}[request.param]

def kept_in(*kinds): return pytest.mark.parametrize("storage", kinds, indirect=True)

# Searching

@kept_in("folder", "journal", "postgresql")
def test_two_processes_share_a_search(tmp_path, tried, storage):
    out, begun = tmp_path/"search", [tmp_path/"first.txt", tmp_path/"second.txt"]
    for process in [start(run_search, out, file, storage=storage) for file in begun]: ends(process)
    found = trials(out, storage)
    assert len(done(found)) == len(found) in (6, 7)  # each may begin the last one
    by_process = [lines(file) for file in begun]
    assert all(by_process) and sum(map(len, by_process)) == len(found)
    tried_settings = {json.dumps(trial.params, sort_keys=True) for trial in found}
    assert len(tried_settings) == len(found)  # nothing was tried twice
    completed = [trial for trial in found if trial.state.name == "COMPLETE"]
    best = max(completed, key=lambda trial: trial.value).params["learning_rate"]
    assert json.loads((out/"best.json").read_text())["learning_rate"] == best
    ends(start(run_search, out, tmp_path/"third.txt", storage=storage))
    assert not lines(tmp_path/"third.txt")  # nothing was left to do
    tried("two processes that share a search")

def kill_one_of_two(tmp_path, storage, slow):
    "A process is killed in its first trial while another searches; what that trial was"
    out, begun = tmp_path/"search", [tmp_path/"killed.txt", tmp_path/"other.txt"]
    killed = start(run_search, out, begun[0], storage=storage, slow=60)
    wait_for(lambda: lines(begun[0]), killed)
    other = start(run_search, out, begun[1], storage=storage, slow=slow)
    wait_for(lambda: lines(begun[1]), other)
    kill(killed)
    ends(other)
    return lines(begun[0])[0], lines(begun[1]), trials(out, storage)

@kept_in("sqlite", "postgresql")
def test_the_trial_of_a_killed_process_is_retried(tmp_path, tried, storage):
    lost, by_other, found = kill_one_of_two(tmp_path, storage, slow=1.5)
    assert len(done(found)) == 6 and lost in by_other  # with the very same settings
    assert [trial.state.name for trial in found].count("FAIL") == 1 and len(found) == 7
    tried("kill -9 of a process that shares a search")

@kept_in("journal")
def test_in_a_journal_another_trial_takes_its_place(tmp_path, tried, storage):
    lost, by_other, found = kill_one_of_two(tmp_path, storage, slow=.02)
    assert len(done(found)) == len(by_other) == 6 and lost not in by_other
    assert [trial.number for trial in found if trial.state.name == "RUNNING"] == [0]
    tried("kill -9 of a process that shares a search")

def test_a_signal_gives_a_trial_back(tmp_path, tried):
    out = tmp_path/"search"
    stopped = start(run_search, out, tmp_path/"stopped.txt", slow=.5)
    wait_for(lambda: lines(tmp_path/"stopped.txt"), stopped)
    stopped.terminate()
    assert ends(stopped, 143) == ("cola: stopped in trial 0, with 0 of 6 done; "
                                  "give the same command again to resume\n")
    ends(start(run_search, out, tmp_path/"other.txt"))
    assert len(done(trials(out))) == 6
    assert lines(tmp_path/"stopped.txt")[0] == lines(tmp_path/"other.txt")[0]
    tried("SIGTERM")

def test_a_server_that_is_switched_off_costs_nothing_that_was_done(tmp_path, tried, postgres):
    out, storage = tmp_path/"search", postgres.database(tmp_path.name)
    begun = [tmp_path/"first.txt", tmp_path/"second.txt"]
    process = start(run_search, out, begun[0], storage=storage, slow=2)
    wait_for(lambda: len(lines(begun[0])) == 2, process)  # one is done, one is being trained
    postgres.stop()
    try: error = ends(process, 2)
    finally: postgres.start()
    assert f"postgresql://…@127.0.0.1:{postgres.port}/{tmp_path.name} no longer answers (" in error
    assert "what is done is safe: give the same command again when it does" in error
    assert len(error.splitlines()) == 1 and "secret" not in error
    time.sleep(4 * HEARTBEAT + 1)  # until the trial counts as dead
    ends(start(run_search, out, begun[1], storage=storage))
    assert len(done(trials(out, storage))) == 6
    first, lost = lines(begun[0])
    assert first not in lines(begun[1]) and lost in lines(begun[1])
    tried("a database server that is switched off")

def run_here(tmp_path, monkeypatch, work, count=2):
    "A search of this process whose trials do this work; the numbers of the trials it began"
    begun = []
    def train_trial(trial, *_):
        begun.append(trial.number)
        return work(trial)
    monkeypatch.setattr(searching, "_train_trial", train_trial)
    searching.search(small(), small_config(), count, tmp_path/"out", VARY, progress=False)
    return begun

def test_a_trial_that_another_process_ended_is_left(tmp_path, monkeypatch):
    "A process that slept for too long is taken for dead; it leaves the trial and begins the next"
    def work(trial):
        if trial.number == 0:
            load_study(tmp_path/"out").tell(0, state=optuna.trial.TrialState.FAIL)
        return .4
    assert run_here(tmp_path, monkeypatch, work) == [0, 1, 2]
    states = [trial.state.name for trial in trials(tmp_path/"out")]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]

def test_a_trial_that_two_processes_took_counts_once(tmp_path, monkeypatch):
    "SQLite locks no row: two that ask at the same moment can be given the same waiting trial"
    def work(trial):
        if trial.number == 0: load_study(tmp_path/"out").tell(0, .5)
        return .4
    assert run_here(tmp_path, monkeypatch, work) == [0, 1]
    assert [trial.value for trial in trials(tmp_path/"out")] == [.5, .4]

def test_a_mistake_in_the_work_is_told(tmp_path, monkeypatch):
    def work(trial): raise ValueError("a mistake of ours")
    with pytest.raises(ValueError, match="a mistake of ours"): run_here(tmp_path, monkeypatch, work)

def test_a_storage_that_goes_away_is_one_line(tmp_path, monkeypatch):
    def gone(*_, **__):
        raise optuna.exceptions.StorageInternalError("the server has gone away\nand more")
    def work(trial): monkeypatch.setattr(trial.study, "get_trials", gone)
    says = r"search.db no longer answers \(the server has gone away\); what is done is safe"
    with pytest.raises(ColaError, match=says): run_here(tmp_path, monkeypatch, work)

# Seeds

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "What one process comes to"
    folder = tmp_path_factory.mktemp("alone")
    ends(start(run_seeds, folder/"seeds", folder/"begun.txt", slow=0))
    assert len(lines(folder/"begun.txt")) == 3
    return result(folder/"seeds")

def result(out):
    "What must be the same however many processes shared the work"
    weights = [(out/f"seed-{seed}"/"model"/"model.safetensors").read_bytes() for seed in (1, 2, 3)]
    return (out/"summary.json").read_text(), (out/"seeds.csv").read_text(), weights

def seeds_of(*files): return sorted(int(line) for file in files for line in lines(file))

def left_behind(out):
    wanted = {"recipe.json", "seeds.csv", "seeds.png", "summary.json", "seed-1", "seed-2", "seed-3",
              ".cola-written"}
    return {path.name for path in out.iterdir()} - wanted

def test_two_processes_share_the_seeds(tmp_path, alone, tried):
    out, files = tmp_path/"seeds", [tmp_path/"first.txt", tmp_path/"second.txt"]
    for process in [start(run_seeds, out, file) for file in files]: ends(process)
    assert seeds_of(*files) == [1, 2, 3] and all(map(seeds_of, files))  # every seed once
    assert result(out) == alone and not left_behind(out)
    tried("two processes that share the seeds")

def test_the_seed_of_a_killed_process_is_trained_again(tmp_path, alone, tried):
    out, files = tmp_path/"seeds", [tmp_path/"killed.txt", tmp_path/"other.txt"]
    killed = start(run_seeds, out, files[0], slow=60)
    wait_for(lambda: seeds_of(files[0]), killed)
    other = start(run_seeds, out, files[1])
    wait_for(lambda: seeds_of(files[1]), other)
    kill(killed)
    ends(other)
    lost = seeds_of(files[0])[-1]
    assert seeds_of(*files) == sorted([1, 2, 3, lost])  # begun twice, finished once
    assert lost in seeds_of(files[1]) and result(out) == alone
    tried("kill -9 of a process that shares the seeds")

# What is refused

def other_settings(work, tmp_path, storage=None, **more):
    "What a process with other settings is told while the first still runs"
    first = start(work, tmp_path/"out", tmp_path/"first.txt", storage=storage, slow=60)
    wait_for(lambda: lines(tmp_path/"first.txt"), first)
    error = ends(start(work, tmp_path/"out", tmp_path/"second.txt", learning_rate=.005,
                       storage=storage, **more), 2)
    kill(first)
    assert len(error.splitlines()) == 1 and not lines(tmp_path/"second.txt")
    return error

@kept_in("folder", "sqlite")
def test_other_settings_are_refused(tmp_path, storage):
    error = other_settings(run_search, tmp_path, storage, weight_decay=.5)
    assert ("holds another search: learning_rate 0.002 (now 0.005), weight_decay 0.01 (now 0.5); "
            "choose another --out") in error

def test_seeds_of_another_recipe_are_refused(tmp_path):
    error = other_settings(run_seeds, tmp_path)
    assert "holds runs of another recipe: learning_rate 0.002 (now 0.005)" in error

def given(cola, address):
    "What the command says to this address"
    outcome = cola("search", "--model", "tiny", "--epochs", "2", "--out", "out",
                   "--storage", address)
    assert "secret" not in outcome[1]
    return outcome

@pytest.mark.parametrize("address, says", [
    ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ("nowhere://x", "Can't load plugin"),
    ("journal:///nowhere/at/all.log", "(no such file or directory); check --storage"),
    ("journal:///", "(is a directory); check --storage")])
def test_a_storage_that_cannot_be_reached_is_one_line(cola, address, says):
    outcome = given(cola, address)
    refused(outcome, "cannot be used as the database of a search (")
    assert says in outcome[1]

def test_a_server_that_does_not_answer_or_refuses_is_one_line(cola, postgres):
    closed = postgres.address("cola").replace(f":{postgres.port}/", ":1/")
    for address, says in [
            (closed, "port 1 failed: Connection refused"),
            (postgres.address("none"), 'database "none" does not exist'),
            (postgres.address("postgres", "secretly"), "password authentication failed")]:
        outcome = given(cola, address)
        refused(outcome, "cannot be used as the database of a search (")
        assert says in outcome[1] and "; check --storage" in outcome[1], outcome[1]

@pytest.mark.parametrize("driver, package", [("psycopg", "psycopg[binary]"),
                                             ("psycopg2", "psycopg2-binary")])
def test_a_driver_that_is_missing_is_named(cola, monkeypatch, driver, package):
    monkeypatch.setitem(sys.modules, driver, None)
    refused(given(cola, f"postgresql+{driver}://ana:secret@127.0.0.1:1/cola"),
            f"postgresql+{driver}://…@127.0.0.1:1/cola needs {driver}, which is not installed; "
            f'run: pip install "{package}"')

@pytest.mark.parametrize("content", ["Milk, bread", "Milk\nbread\nmore\n", '["op_code"]\n'])
def test_a_file_that_is_no_journal_is_left_alone(cola, tmp_path, content):
    (tmp_path/"notes.txt").write_text(content)
    refused(given(cola, f"journal://{tmp_path/'notes.txt'}"),
            "notes.txt cannot be used as the database of a search (not a journal of Optuna); "
            "check --storage")
    assert (tmp_path/"notes.txt").read_text() == content

def test_a_damaged_journal_is_one_line(cola, tmp_path):
    path = tmp_path/"record.log"
    open_again = lambda: searching._open_study(f"journal://{path}", "a", HEARTBEAT, "record.log")
    for number in range(3): open_again().enqueue_trial({"a": number})
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:2], whole[2][:9] + b"\n", *whole[3:]]))
    refused(given(cola, f"journal://{path}"),
            "record.log cannot be used as the database of a search (")
