"""Two processes on the CPU, started by torchrun as people start them: the same losses as one.

Every launch takes some seconds of imports, so one launch tries several things: run as a program,
this file is what torchrun starts.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from cola_nbdev import distributed, training
from cola_nbdev.basics import ColaError
from cola_nbdev.checkpoints import checkpoints, find_corruption
from cola_nbdev.data import load_corpus
from cola_nbdev.model import load_model
from cola_nbdev.settings import Config

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
ROOT = Path(__file__).resolve().parent.parent
CONFIG = Config(model="tiny", epochs=6, dropout=0.0, learning_rate=3e-3)
ONE_EPOCH = replace(CONFIG, epochs=1, validation_fraction=0)
pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.long]

def torchrun(*command, cwd, processes=2):
    "Start a command in several processes of this machine"
    arguments = [sys.executable, "-m", "torch.distributed.run",
                 "--nproc_per_node", str(processes), *map(str, command)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "IN_TEST": ""}
    return subprocess.Popen(arguments, cwd=cwd, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def recorded(sentences, config, **options):
    "A run, and the losses of all its steps, as every process knows them in the end"
    losses, diagnose = [], training.diagnose

    def noting(row, of_epoch, *rest):
        losses.extend(of_epoch.tolist())
        return diagnose(row, of_epoch, *rest)

    with patch.object(training, "diagnose", noting):
        return training.train(sentences, config, progress=False, **options), losses

def weights_of(model):
    return {name: values.tolist() for name, values in model.state_dict().items()
            if values.is_floating_point()}

def furthest(some, other):
    "The largest difference between two sets of weights"
    import torch
    return max((torch.tensor(some[name]) - torch.tensor(other[name])).abs().max().item()
               for name in some)

def few():
    "A corpus that takes a second to train on"
    demo = load_corpus("demo")
    splits = {split: frame.head(255 if split == "train" else 60).reset_index(drop=True)
              for split, frame in demo.splits.items()}
    return type(demo)("demo", splits)

def steps_of(folder): return [int(path.name[5:]) for path in checkpoints(folder)]

# --- what torchrun starts ---

def message_of(work):
    "What an error says, and whether the command would print it"
    try: work()
    except ColaError as error:
        is_local = isinstance(error, distributed.LocalError)
        return [str(error), distributed.rank() == 0 or is_local]

def fail_in(number):
    "Work that fails in one process"
    def work():
        if distributed.rank() == number: raise ColaError("no such model")
        return "fine"
    return work

def talk():
    "What the processes tell each other, and how they fail together"
    process, demo = distributed.rank(), load_corpus("demo").train
    other = replace(CONFIG, batch_size=32 - 16 * process, seed=1 + process)
    single = replace(CONFIG, batch_size=1)
    train = partial(training.train, progress=False)
    return {
        "place": [process, distributed.world_size()],
        "on_main_process": distributed.on_main_process(lambda: ["told by", process]),
        "failed in the first": message_of(lambda: distributed.on_main_process(fail_in(0))),
        "failed in the second": message_of(lambda: distributed.on_all_processes(fail_in(1))),
        "other settings": message_of(lambda: train(demo.head(100), other)),
        "too few": message_of(lambda: train(demo.head(40), single))}

def learn(folder):
    "Whole runs, and what they write"
    demo = load_corpus("demo").train
    # 230 sentences are left: the last batch of each epoch has 6
    run, losses = recorded(demo.head(255), CONFIG, folder=folder/"checkpoints")
    return {
        "losses": losses, "history": run.history, "weights": weights_of(run.model),
        "written": sorted(path.name for path in (folder/"checkpoints").iterdir()),
        "begun by one": recorded(demo.head(255), CONFIG, folder=folder/"begun", resume=True)[1],
        # in the last batch one sentence for two processes
        "one is left over": recorded(demo.head(65), ONE_EPOCH)[1]}

def stop(folder):
    "Runs that are asked to stop"
    from cola_nbdev.prediction import fine_tune
    stopped = partial(fine_tune, few(), CONFIG, folder/"stopped", progress=False)
    return {"stopped": message_of(lambda: stopped_in_the_second(stopped, 5))}

def drop_out(folder):
    "Runs with dropout: repeated, and resumed"
    sentences = load_corpus("demo").train.head(65)
    config, saved = replace(ONE_EPOCH, dropout=0.1, batch_size=8), folder/"dropout"
    found: dict = {"dropout": [recorded(sentences, config)[1] for _ in range(2)]}
    run = partial(training.train, sentences, config, folder=saved, progress=False)
    stopped_in_the_second(run, 3)
    found["steps"] = steps_of(saved)
    found["dropout, resumed"] = recorded(sentences, config, folder=saved, resume=True)[1]
    return found

def scenarios(folder):
    "Everything that needs no kill, in the same two processes; each writes what it saw"
    found = talk() | learn(folder) | stop(folder) | drop_out(folder)
    (folder/f"{distributed.rank()}.json").write_text(json.dumps(found))

def stopped_in_the_second(work, at):
    "A signal reaches one process only, in a certain step"
    backward, calls = distributed.Processes.backward, []

    def interrupted(processes, *arguments):
        calls.append(1)
        if len(calls) == at and processes.rank == 1: signal.raise_signal(signal.SIGTERM)
        return backward(processes, *arguments)

    with patch.object(distributed.Processes, "backward", interrupted): return work()

# --- the same losses ---

def begin(folder, steps):
    "One process trains, and is asked to stop in a certain step"
    accumulate, calls = distributed.accumulate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == steps: signal.raise_signal(signal.SIGTERM)
        return accumulate(*arguments)

    with patch.object(distributed, "accumulate", interrupted):
        run = training.train(load_corpus("demo").train.head(255), CONFIG, folder, progress=False)
    assert run.saved == steps

@pytest.fixture(scope="module")
def two(tmp_path_factory):
    "What two processes saw"
    folder = tmp_path_factory.mktemp("two")
    begin(folder/"begun", 11)
    process = torchrun("--standalone", __file__, folder, cwd=folder)
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    found = [json.loads((folder/f"{number}.json").read_text()) for number in (0, 1)]
    return types.SimpleNamespace(first=found[0], second=found[1], printed=printed, folder=folder)

def scores_of(row): return {name: value for name, value in row.items() if "seconds" not in name}

def test_two_processes_have_the_losses_of_one(two):
    first, second = two.first, two.second
    assert first["place"] == [0, 2] and second["place"] == [1, 2]
    alone, losses = recorded(few().train, CONFIG)
    assert len(losses) == 6 * 8
    assert furthest(weights_of(alone.model), weights_of(load_model("tiny"))) > .03, \
        "a run that goes nowhere would prove nothing"
    assert losses == pytest.approx(first["losses"], abs=1e-5)
    assert first["losses"] == second["losses"], "both know the losses of the whole batch"
    assert furthest(first["weights"], second["weights"]) == 0, \
        "the models stay the same to the last digit"
    assert furthest(first["weights"], weights_of(alone.model)) < 1e-3
    for row, other, mine in zip(first["history"], second["history"], alone.history, strict=True):
        scores = scores_of(row)
        assert scores == scores_of(other), "both choose the same best epoch"
        assert scores == pytest.approx({name: mine[name] for name in scores}, abs=1e-5)

def test_what_one_began_two_continue(two):
    losses = two.first["begun by one"]
    assert len(losses) == 5 * 8  # it stopped in the second of six epochs
    assert losses == pytest.approx(two.first["losses"][-len(losses):], abs=1e-5)

def test_a_process_without_a_sentence_of_its_own_changes_nothing(two):
    _, losses = recorded(load_corpus("demo").train.head(65), ONE_EPOCH)
    assert losses == pytest.approx(two.first["one is left over"], abs=1e-5)

def test_dropout_can_be_repeated(two):
    once, again = two.first["dropout"]
    assert len(set(once)) == len(once) == 9 and once == again
    assert two.first["steps"] == [3]
    assert two.first["dropout, resumed"] == once, "also from the middle of an epoch"

def test_only_the_main_process_writes_and_prints(two):
    assert two.first["written"] == ["step-00000040", "step-00000048"]
    assert not two.printed.strip()
    assert not list(two.folder.glob(".*")), "no lock is left"

def test_a_signal_to_one_stops_all_and_saves(two, tried):
    message, spoken = two.first["stopped"]
    assert message.startswith("stopped in epoch 1 of 6 and saved in ")
    assert message.endswith("continue with --resume") and spoken
    assert not two.second["stopped"][1], "only the main process says so"
    saved = two.folder/"stopped.unfinished"/"checkpoints"
    assert steps_of(saved) == [5], "asked in the fifth step, heard after it"
    _, losses = recorded(load_corpus("demo").train.head(255), CONFIG, folder=saved, resume=True)
    assert losses == pytest.approx(two.first["losses"], abs=1e-5), \
        "what two saved in the middle of an epoch, one resumes"
    tried("SIGTERM to one of two processes")

# --- what is refused ---

def told_once(two, what):
    "The message of both processes, of which only the first would print it"
    (first, spoken), (second, also_spoken) = two.first[what], two.second[what]
    assert first == second and spoken and not also_spoken
    return first

def test_different_settings_are_refused_everywhere(two):
    assert told_once(two, "other settings") == (
        "the processes were given different settings: batch_size is 16 in process 1 and 32 in "
        "process 0, seed is 2 in process 1 and 1 in process 0; start all of them with the same "
        "command")

def test_more_processes_than_sentences_in_a_batch(two):
    assert told_once(two, "too few") == (
        "batch_size is 1, and there are 2 processes; each needs a sentence of every batch: start "
        "at most 1")

def test_an_error_in_one_process_ends_all(two):
    first, second = two.first, two.second
    assert first["on_main_process"] == second["on_main_process"] == ["told by", 0]
    assert first["failed in the first"] == ["no such model", True]
    assert second["failed in the first"] == ["no such model", False]
    assert first["failed in the second"] == ["process 1 of 2: no such model", True]
    assert second["failed in the second"] == ["process 1 of 2: no such model", False]

# --- the command ---

COLA = [sys.executable, "-c", "from cola_nbdev.cli import main; main()"]
TRAIN = ["train", "--data", "data", "--model", "tiny", "--epochs", "12", "--dropout", "0",
         "--checkpoint-minutes", "0", "--out", "run", "--resume"]

def cola(folder, *more): return torchrun("--standalone", "--no-python", *COLA, *more, cwd=folder)

def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

def on_machine(number, folder, port):
    "One of two machines, played by this one"
    address = ["--nnodes", 2, "--node_rank", number, "--master_addr", "127.0.0.1",
               "--master_port", port]
    return torchrun(*address, "--no-python", *COLA, *TRAIN, cwd=folder, processes=1)

def saved_in(folder): return folder/"run.unfinished"/"checkpoints"

def until(folder, process, step):
    """Wait for a checkpoint of at least so many steps

    Returns the processes that torchrun started, in the order of their ranks."""
    import psutil
    end = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < end:
        if max(steps_of(saved_in(folder)), default=0) >= step: break
        time.sleep(.02)
    assert process.poll() is None, process.communicate()[1]
    return sorted(psutil.Process(process.pid).children(), key=lambda child: child.environ()["RANK"])

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "A folder with a corpus in data/, and the run that nobody disturbs with its losses"
    folder = tmp_path_factory.mktemp("small")
    few().export(folder/"data")
    config = Config(model="tiny", epochs=12, dropout=0.0)
    return folder, *recorded(load_corpus(folder/"data").train, config)

def on_two_machines(folder):
    "Resume where only the first machine has the corpus and the checkpoints"
    elsewhere, port = folder/"elsewhere", free_port()
    elsewhere.mkdir()
    machines = [on_machine(0, folder, port), on_machine(1, elsewhere, port)]
    (printed, error), (also_printed, _) = (machine.communicate(timeout=180)
                                           for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], error
    assert printed.count("saved in run: open run/report.html") == 1
    assert not also_printed.strip() and not list(elsewhere.iterdir())

@pytest.mark.parametrize("killed", (0, 1) if LONG else (0,))  # the one that writes, and another
def test_killed_and_resumed(small, tmp_path, tried, killed):
    data, alone, losses = small
    folder = shutil.copytree(data, tmp_path/"folder")
    process = cola(folder, *TRAIN)
    workers = until(folder, process, 20)
    workers[killed].kill()
    _, error = process.communicate(timeout=180)
    assert process.returncode
    assert not any(worker.is_running() for worker in workers), "every process ends"
    assert error.count("cola: another process has ended, so this one ends too; run the same "
                       "command with --resume") <= killed
    assert "Traceback (most recent call last):\n  File \"<string>\"" not in error
    assert not (folder/"run").exists()
    assert not any(map(find_corruption, checkpoints(saved_in(folder)))), "nothing is half written"
    tried("one of two processes killed with kill -9")

    shutil.copytree(saved_in(folder), folder/"copy")
    one, of_one = recorded(load_corpus(folder/"data").train, alone.config, folder=folder/"copy",
                           resume=True)
    assert of_one == pytest.approx(losses[-len(of_one):], abs=1e-5)
    on_two_machines(folder)
    facts = json.loads((folder/"run"/"metrics.json").read_text())
    assert facts["best_epoch"] == one.best_epoch == alone.best_epoch
    assert sorted(path.name for path in folder.iterdir()) == ["copy", "data", "elsewhere", "run"]

def test_other_commands_stay_alone(tmp_path):
    process = cola(tmp_path, "data", "demo")
    printed, error = process.communicate(timeout=180)
    assert process.returncode and not printed.strip()
    assert error.count("cola: data works in one process; start only cola train in several") == 1

if __name__ == "__main__": scenarios(Path(sys.argv[1]))
