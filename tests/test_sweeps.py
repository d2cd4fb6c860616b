"""`cola search` and `cola seeds` with several processes: they share the work, one of them is killed, and nothing is done twice."""
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import faults
import pytest

from test_bad_input import cola, refused  # noqa: F401, a fixture

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install \"cola_nbdev[search]\"")

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
HEARTBEAT = 1 # seconds; a trial is lost after four of them
pytestmark = pytest.mark.xdist_group("sweeps")

def job(what, out, begun, learning_rate=.002, storage=None, slow=.02, more={}): # noqa: B006
    "The same work in a process of its own: what it begins it writes to a file, what it says to another"
    import torch

    from cola_nbdev import data,experiments,search,training
    from cola_nbdev.settings import Config
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(f"{begun}.said", "a", buffering=1)
    corpus = data.Corpus("small", {split: frame[:80].reset_index(drop=True) for split, frame in data.load_corpus("demo").splits.items()})
    config = Config(model="tiny", epochs=2, learning_rate=learning_rate, checkpoint_minutes=0, **more)
    real = training.training
    def noted(sentences, config, *rest, **options):
        with open(begun, "a") as file: file.write(f"{config.seed} {config.learning_rate!r}\n")
        steps, sent = real(sentences, config, *rest, **options), None
        try:
            while True:
                run = steps.send(sent)
                time.sleep(slow) # so that there is time to be killed in
                sent = yield run
        except StopIteration as finished: return finished.value
        finally: steps.close()
    search.training = training.training = noted
    code = 0
    try:
        if what == "search": search.search(corpus, config, 6, out, ("learning_rate", "warmup"), storage, progress=False, heartbeat=HEARTBEAT)
        else: experiments.run_seeds(corpus, config, [1, 2, 3], out, False, storage, HEARTBEAT)
    except data.ColaError as error:
        print(f"cola: {error}")
        code = error.code
    except BaseException: # a forked process would say it to the screen
        traceback.print_exc()
        code = 1
    os._exit(code)

def start(what, out, begun, **options):
    process = faults.SERVER.Process(target=job, args=(what, out, begun), kwargs=options)
    process.said = Path(f"{begun}.said")
    process.start()
    return process

def ends(process, code=0):
    "It ends with this code; what it said"
    process.join(120)
    said = process.said.read_text()
    assert process.exitcode == code and "Traceback" not in said, said
    return said

def lines(path): return path.read_text().splitlines() if path.exists() else []

def wait_for(condition, process):
    until = time.monotonic() + 60
    while not condition():
        assert process.is_alive(), process.said.read_text()
        assert time.monotonic() < until
        time.sleep(.02)

def trials(out, storage=None):
    "The states and settings that stand in the database, read with what Optuna itself has"
    from optuna.storages.journal import JournalFileBackend
    name = f"search {out.name}" if storage else "cola"
    if storage and storage.startswith("journal://"): storage = optuna.storages.JournalStorage(JournalFileBackend(storage.removeprefix("journal://")))
    study = optuna.load_study(study_name=name, storage=storage or f"sqlite:///{out/'search.db'}")
    return [trial for trial in study.get_trials() if "surplus" not in trial.user_attrs]

def done(found): return [trial for trial in found if trial.state.name in ("COMPLETE", "PRUNED")]

# Where the record may be

class Postgres:
    "A PostgreSQL of our own, on a free port of this machine, with a folder of its own and a password"
    def __init__(self, folder):
        programs = shutil.which("initdb") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))[-1:]), None)
        if not programs: pytest.skip("PostgreSQL is not installed: apt install postgresql")
        if not importlib.util.find_spec("psycopg"): pytest.skip('the driver of PostgreSQL is not installed: pip install "cola_nbdev[servers]"')
        if os.geteuid() == 0 and subprocess.run(["id", "postgres"], capture_output=True).returncode: pytest.skip("root may not run PostgreSQL, and there is no user postgres")
        self.folder, self.programs = folder, Path(programs).resolve().parent
        (folder/"password").write_text("secret\n")
        if os.geteuid() == 0:
            for path in (folder, folder/"password"): shutil.chown(path, "postgres")
            for path in (folder.parent, *folder.parent.parents[:2]): path.chmod(path.stat().st_mode | 0o011) # on the way to it
        self._as_postgres("initdb", "--username", "cola", "--pwfile", folder/"password", "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--no-locale", "-D", folder/"data")
        with socket.create_server(("127.0.0.1", 0)) as free: self.port = free.getsockname()[1]
        self.start()

    def _as_postgres(self, program, *arguments):
        leave = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run([*leave, self.programs/program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        assert not done.returncode, done.stderr

    def start(self): self._as_postgres("pg_ctl", "-D", self.folder/"data", "-l", self.folder/"log", "-w", "-o", f"-F -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {self.port}", "start")

    def stop(self): self._as_postgres("pg_ctl", "-D", self.folder/"data", "-m", "immediate", "-w", "stop") # as if the machine had been switched off

    def database(self, name):
        "The address of a new database"
        import psycopg
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection: connection.execute(f'CREATE DATABASE "{name}"')
        return self.address(name)

    def address(self, name, password="secret"): return f"postgresql://cola:{password}@127.0.0.1:{self.port}/{name}"

@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    "A PostgreSQL that runs"
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()

@pytest.fixture
def storage(tmp_path, request):
    "The address of the record, or nothing for a file in the folder of the work"
    if request.param == "postgresql": return request.getfixturevalue("postgres").database(tmp_path.name)
    return {"folder": None, "sqlite": f"sqlite:///{tmp_path/'elsewhere.db'}", "journal": f"journal://{tmp_path/'elsewhere.log'}"}[request.param]

def kept_in(*kinds, long=()):
    skipped = pytest.mark.skipif(not LONG, reason="others do the same: set COLA_NBDEV_LONG=1")
    return pytest.mark.parametrize("storage", [*kinds, *(pytest.param(kind, marks=skipped) for kind in long)], indirect=True)

# Searching

@kept_in("folder", "journal", "postgresql")
def test_two_processes_share_a_search(tmp_path, tried, storage):
    out, begun = tmp_path/"search", [tmp_path/"first.txt", tmp_path/"second.txt"]
    for process in [start("search", out, file, storage=storage) for file in begun]: ends(process)
    found = trials(out, storage)
    assert len(done(found)) == len(found) == 6 # exactly as many as were asked for
    by = [lines(file) for file in begun]
    assert all(by) and len(by[0]) + len(by[1]) == len({*by[0], *by[1]}) == 6 # each did some, and no settings were tried twice
    assert len({json.dumps(trial.params, sort_keys=True) for trial in found}) == 6
    assert json.loads((out/"best.json").read_text())["learning_rate"] == max(done(found), key=lambda trial: trial.value if trial.state.name == "COMPLETE" else -2).params["learning_rate"]
    ends(start("search", out, tmp_path/"third.txt", storage=storage))
    assert not lines(tmp_path/"third.txt") # nothing was left to do
    tried("two processes that share a search")

@kept_in("sqlite", "journal", "postgresql")
def test_a_trial_whose_process_is_killed_is_taken_up_again(tmp_path, tried, storage):
    out = tmp_path/"search"
    killed = start("search", out, tmp_path/"killed.txt", storage=storage, slow=2)
    wait_for(lambda: len(lines(tmp_path/"killed.txt")) == 1, killed)
    other = start("search", out, tmp_path/"other.txt", storage=storage)
    wait_for(lambda: lines(tmp_path/"other.txt"), other)
    killed.kill()
    killed.join()
    ends(other)
    found = trials(out, storage)
    lost = lines(tmp_path/"killed.txt")[-1]
    assert len(done(found)) == 6 and lost in lines(tmp_path/"other.txt") # with the very same settings
    assert [trial.state.name for trial in found].count("FAIL") == 1 and len(found) == 7
    tried("kill -9 of a process that shares a search")

def test_a_signal_gives_a_trial_back(tmp_path, tried):
    out = tmp_path/"search"
    stopped = start("search", out, tmp_path/"stopped.txt", slow=.3)
    wait_for(lambda: lines(tmp_path/"stopped.txt"), stopped)
    os.kill(stopped.pid, signal.SIGTERM)
    assert ends(stopped, 143) == "cola: stopped in trial 0, with 0 of 6 done; give the same command again to go on\n"
    ends(start("search", out, tmp_path/"other.txt"))
    assert len(done(trials(out))) == 6 and lines(tmp_path/"stopped.txt")[0] in lines(tmp_path/"other.txt")
    tried("SIGTERM")

def test_a_server_that_is_switched_off_costs_nothing_that_was_done(tmp_path, tried, postgres):
    out, storage = tmp_path/"search", postgres.database(tmp_path.name)
    process = start("search", out, tmp_path/"first.txt", storage=storage, slow=.2)
    wait_for(lambda: len(lines(tmp_path/"first.txt")) == 2, process) # one is done, one is being done
    postgres.stop()
    error = ends(process, 2)
    postgres.start()
    assert len(error.splitlines()) == 1 and f"postgresql://…@127.0.0.1:{postgres.port}/{tmp_path.name} no longer answers (" in error and "what is done is safe: give the same command again when it does" in error and "secret" not in error, error
    ends(start("search", out, tmp_path/"second.txt", storage=storage))
    found, begun = trials(out, storage), lines(tmp_path/"first.txt")
    assert len(done(found)) == 6 and begun[0] not in lines(tmp_path/"second.txt") and begun[1] in lines(tmp_path/"second.txt")
    tried("a database server that is switched off")

# Seeds

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "What one process comes to"
    folder = tmp_path_factory.mktemp("alone")
    ends(start("seeds", folder/"seeds", folder/"begun.txt", slow=0))
    assert len(lines(folder/"begun.txt")) == 3
    return result(folder/"seeds")

def result(out):
    "What must be the same however many processes shared the work"
    return (out/"summary.json").read_text(), (out/"seeds.csv").read_text(), [(out/f"seed-{seed}"/"model"/"model.safetensors").read_bytes() for seed in (1, 2, 3)]

def seeds_of(*files): return sorted(int(line.split()[0]) for file in files for line in lines(file))

def left_behind(out): return {path.name for path in out.iterdir()} - {"recipe.json", "seeds.csv", "seeds.png", "summary.json", *(f"seed-{seed}" for seed in (1, 2, 3))}

def test_a_trial_that_two_processes_took_counts_once(tmp_path):
    "SQLite locks no row: two that ask at the same moment can be given the same trial, and the slower one finds it ended"
    from cola_nbdev.checkpoints import StopSignals
    from cola_nbdev.search import Shared
    shared, taken = Shared(tmp_path/"out", None, "search", {}), []
    other = optuna.load_study(study_name="cola", storage=f"sqlite:///{tmp_path/'out'/'search.db'}")
    def work(trial):
        taken.append(trial.number)
        if not trial.number: other.tell(trial.number, .5)
        return .4
    with StopSignals() as stop: shared.run(work, 2, stop)
    assert taken == [0, 1] and [(trial.state.name, trial.value) for trial in trials(tmp_path/"out")] == [("COMPLETE", .5), ("COMPLETE", .4)]
    def mistaken(trial): raise KeyError("a mistake in the work")
    with StopSignals() as stop, pytest.raises(KeyError, match="a mistake in the work"): shared.run(mistaken, 3, stop)

@kept_in("folder", "sqlite", long=("journal", "postgresql"))
def test_two_processes_share_the_seeds(tmp_path, alone, tried, storage):
    out, files = tmp_path/"seeds", [tmp_path/"first.txt", tmp_path/"second.txt"]
    for process in [start("seeds", out, file, storage=storage) for file in files]: ends(process)
    assert seeds_of(*files) == [1, 2, 3] and all(map(seeds_of, files)) # every seed once, some by each
    assert result(out) == alone and not left_behind(out)
    tried("two processes that share the seeds")

@kept_in("folder", "journal", "postgresql", long=("sqlite",))
def test_a_seed_whose_process_is_killed_is_taken_up_again(tmp_path, alone, tried, storage):
    out, files = tmp_path/"seeds", [tmp_path/"killed.txt", tmp_path/"other.txt"]
    killed = start("seeds", out, files[0], storage=storage, slow=2)
    wait_for(lambda: seeds_of(files[0]), killed)
    other = start("seeds", out, files[1], storage=storage)
    wait_for(lambda: seeds_of(files[1]), other)
    killed.kill()
    killed.join()
    ends(other)
    lost = seeds_of(files[0])[-1]
    assert seeds_of(*files) == sorted([1, 2, 3, lost]) and lost in seeds_of(files[1]) # begun twice, finished once
    assert result(out) == alone
    tried("kill -9 of a process that shares the seeds")

# What is refused

@pytest.mark.parametrize("what, kind, message", [
    ("search", "", "holds another search: weight_decay"), ("search", "storage", "holds another search: weight_decay"), ("seeds", "", "holds runs of another recipe: learning_rate 0.002 (now 0.005)"), ("seeds", "storage", "holds runs of another recipe: learning_rate 0.002 (now 0.005)")])
def test_other_settings_are_refused_while_the_first_still_runs(tmp_path, what, kind, message):
    storage = f"sqlite:///{tmp_path/'shared.db'}" if kind else None
    first = start(what, tmp_path/"out", tmp_path/"first.txt", storage=storage, slow=.3)
    wait_for(lambda: lines(tmp_path/"first.txt"), first)
    more = {"weight_decay": .5, "label_smoothing": .1} if what == "search" else {}
    error = ends(start(what, tmp_path/"out", tmp_path/"second.txt", learning_rate=.005, storage=storage, more=more), 2)
    first.kill()
    first.join()
    assert message in error and len(error.splitlines()) == 1 and not lines(tmp_path/"second.txt")
    if what == "search": assert "weight_decay 0.01 (now 0.5), label_smoothing 0.0 (now 0.1); choose another --out" in error

def given(cola, what, address): # noqa: F811
    "What the command says to it"
    outcome = cola(what, "--model", "tiny", "--epochs", "2", "--out", "out", "--storage", address)
    assert "secret" not in outcome[1]
    return outcome

@pytest.mark.parametrize("address, says", [("sqlite:////nowhere/at/all.db", "unable to open database file"), ("nowhere://x", "Can't load plugin"), ("journal:///nowhere/at/all.log", "(No such file or directory); check --storage"), ("journal:///", "(Is a directory); check --storage")])
@pytest.mark.parametrize("what", ["search", "seeds"])
def test_a_storage_that_cannot_be_reached_is_one_line(cola, what, address, says): # noqa: F811
    outcome = given(cola, what, address)
    refused(outcome, f"cannot be used as the database of a {what} (")
    assert says in outcome[1]

def test_a_server_that_does_not_answer_or_refuses_is_one_line(cola, postgres): # noqa: F811
    for address, says in [(postgres.address("cola").replace(f":{postgres.port}/", ":1/"), "port 1 failed: Connection refused"), (postgres.address("none"), 'database "none" does not exist'), (postgres.address("postgres", "secretly"), "password authentication failed")]:
        outcome = given(cola, "search", address)
        refused(outcome, "cannot be used as the database of a search (")
        assert says in outcome[1] and "; check --storage" in outcome[1], outcome[1]

@pytest.mark.parametrize("driver, package", [("psycopg", "psycopg[binary]"), ("psycopg2", "psycopg2-binary")])
def test_a_driver_that_is_missing_is_named(cola, monkeypatch, driver, package): # noqa: F811
    monkeypatch.setitem(sys.modules, driver, None)
    refused(given(cola, "search", f"postgresql+{driver}://ana:secret@127.0.0.1:1/cola"), f'postgresql+{driver}://…@127.0.0.1:1/cola needs {driver}, which is not installed; run: pip install "{package}"')

@pytest.mark.parametrize("content", ["Milk, bread", "Milk\nbread\nmore\n", '["op_code"]\n'])
def test_a_file_that_is_no_journal_is_left_alone(cola, tmp_path, content): # noqa: F811
    (tmp_path/"notes.txt").write_text(content)
    refused(given(cola, "search", f"journal://{tmp_path/'notes.txt'}"), "notes.txt cannot be used as the database of a search (it is no journal of Optuna); check --storage")
    assert (tmp_path/"notes.txt").read_text() == content

def test_a_journal_that_is_damaged_is_one_line(tmp_path, tried):
    from cola_nbdev.basics import ColaError
    from cola_nbdev.search import Shared
    address, path = f"journal://{tmp_path/'record.log'}", tmp_path/"record.log"
    again = lambda: Shared(tmp_path, address, "search", {"a": 1})
    for number in range(3): again().study.enqueue_trial({"a": number})
    whole = path.read_bytes()
    for cut in (*range(len(whole) - len(whole.splitlines()[-1]), len(whole), 30), len(whole) - 1): # in the middle of the last line
        path.write_bytes(whole[:cut])
        again().study.enqueue_trial({"a": 7})
        assert [trial.system_attrs["fixed_params"]["a"] for trial in again().trials()] == [0, 1, 7]
    middle = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*middle[:2], middle[2][:9] + b"\n", *middle[3:]]))
    with pytest.raises(ColaError, match="record.log cannot be used as the database of a search .the journal cannot be read: .*check --storage"): again()
    tried("a line of a journal cut off")

def test_a_storage_that_goes_away_is_one_line(tmp_path, monkeypatch):
    from cola_nbdev.checkpoints import StopSignals
    from cola_nbdev.basics import ColaError
    from cola_nbdev.search import Shared
    shared = Shared(tmp_path, None, "search", {"a": 1})
    def gone(*_, **__): raise optuna.exceptions.StorageInternalError("the server has gone away\nand more")
    with StopSignals() as stop, pytest.raises(ColaError, match=r"search.db no longer answers \(the server has gone away\); what is done is safe"):
        shared.run(lambda trial: monkeypatch.setattr(shared.study, "get_trials", gone) or trial.suggest_float("a", 0, 1), 2, stop)

def test_whoever_slept_too_long_takes_the_next(tmp_path):
    from cola_nbdev.checkpoints import StopSignals
    from cola_nbdev.search import Shared
    shared, numbers = Shared(tmp_path, None, "search", {"a": 1}, [{"a": .5}], heartbeat=30), []
    def work(trial):
        numbers.append((trial.number, trial.suggest_float("a", 0, 1)))
        if not trial.number: # what another process does that finds no sign of life
            shared.study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
            shared.study.enqueue_trial({"a": .5})
        return 1
    with StopSignals() as stop: shared.run(work, 2, stop)
    assert [number for number, _ in numbers] == [0, 1, 2] and numbers[1][1] == .5

def test_a_mistake_in_the_work_is_told(tmp_path):
    from cola_nbdev.checkpoints import StopSignals
    from cola_nbdev.search import Shared
    def work(trial): raise ValueError("a mistake of ours")
    with StopSignals() as stop, pytest.raises(ValueError, match="a mistake of ours"): Shared(tmp_path, None, "search", {"a": 1}).run(work, 2, stop)
