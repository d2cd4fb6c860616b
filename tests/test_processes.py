"""Two processes on the processor, started by torchrun as people start them: the same losses as one, whatever is killed.

Every launch takes some seconds of imports, so a launch tries several things: run as a program, this file is what torchrun starts.
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
from pathlib import Path

import pytest

from cola_nbdev import training
from cola_nbdev.checkpoints import checkpoints,find_corruption
from cola_nbdev.basics import ColaError
from cola_nbdev.data import load_corpus
from cola_nbdev.model import load_model
from cola_nbdev.settings import Config

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
ROOT = Path(__file__).resolve().parent.parent
CONFIG = Config(model="tiny", epochs=6, dropout=0.0, learning_rate=3e-3)
pytestmark = pytest.mark.xdist_group("processes")

def torchrun(*command, cwd, processes=2, **environment):
    "Start a command in several processes of this machine"
    arguments = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), *map(str, command)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "IN_TEST": ""} | environment
    return subprocess.Popen(arguments, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def recorded(sentences, config, **options):
    "A run, and the losses of all its steps, as every process knows them in the end"
    losses, diagnose = [], training.diagnose
    def noting(row, of_epoch, *rest):
        losses.extend(of_epoch.tolist())
        return diagnose(row, of_epoch, *rest)
    training.diagnose = noting
    try: run = training.train(sentences, config, progress=False, **options)
    finally: training.diagnose = diagnose
    return run, losses

def weights_of(run): return {name: values.tolist() for name, values in run.model.state_dict().items() if values.is_floating_point()}

def furthest(some, other):
    "The largest difference between two sets of weights"
    import torch
    return max((torch.tensor(some[name]) - torch.tensor(other[name])).abs().max().item() for name in some)

def few():
    "A corpus whose training takes a second"
    demo = load_corpus("demo")
    return type(demo)("demo", {split: frame[:255 if split == "train" else 60].reset_index(drop=True) for split, frame in demo.splits.items()})

# --- what torchrun starts ---

def message_of(work):
    "What an error says, and whether the command would print it"
    from cola_nbdev.distributed import LocalError, rank
    try: work()
    except ColaError as error: return [str(error), rank() == 0 or isinstance(error, LocalError)]

def scenarios(folder):
    "Everything that needs no kill, one after the other in the same two processes; each writes what it saw"
    from dataclasses import replace

    from cola_nbdev.prediction import fine_tune
    from cola_nbdev.distributed import on_all_processes, on_main_process, rank, world_size
    process = rank()
    demo, found = load_corpus("demo").train, {"place": [process, world_size()]}
    def fail_in(number):
        def work():
            if rank() == number: raise ColaError("no such model")
            return "fine"
        return work
    found["on_main_process"] = on_main_process(lambda: ["told by", process])
    found["failed in the first"] = message_of(lambda: on_main_process(fail_in(0)))
    found["failed in the second"] = message_of(lambda: on_all_processes(fail_in(1)))
    found["other settings"] = message_of(lambda: training.train(demo[:100], replace(CONFIG, batch_size=32 - 16 * process, seed=1 + process), progress=False))
    found["too few"] = message_of(lambda: training.train(demo[:40], replace(CONFIG, batch_size=1), progress=False))
    run, found["losses"] = recorded(demo[:255], CONFIG, folder=folder/"checkpoints") # 230 sentences are left: the last batch of each epoch has 6
    found["history"], found["weights"] = run.history, weights_of(run)
    found["written"] = sorted(path.name for path in (folder/"checkpoints").iterdir())
    found["stopped"] = message_of(lambda: stopped_in_the_second(lambda: fine_tune(few(), CONFIG, folder/"stopped", progress=False), 5))
    found["begun by one"] = recorded(demo[:255], CONFIG, folder=folder/"begun", resume=True)[1]
    alike = replace(CONFIG, epochs=1, validation_fraction=0)
    found["one is left over"] = recorded(demo[:65], alike)[1] # in the last batch one sentence for two
    dropped = replace(alike, dropout=0.1, batch_size=8)
    found["dropout"] = [recorded(demo[:65], dropped)[1] for _ in range(2)]
    stopped_in_the_second(lambda: training.train(demo[:65], dropped, progress=False, folder=folder/"dropout"), 3)
    found["steps"] = [int(path.name[5:]) for path in checkpoints(folder/"dropout")]
    found["dropout, resumed"] = recorded(demo[:65], dropped, folder=folder/"dropout", resume=True)[1]
    (folder/f"{process}.json").write_text(json.dumps(found))

def stopped_in_the_second(work, at):
    "A signal reaches one process only, in a certain step"
    from cola_nbdev.distributed import Processes
    backward, calls = Processes.backward, []

    def interrupted(processes, *arguments):
        calls.append(1)
        if len(calls) == at and processes.rank == 1: signal.raise_signal(signal.SIGTERM)
        return backward(processes, *arguments)

    Processes.backward = interrupted
    try: return work()
    finally: Processes.backward = backward

# --- the same losses ---

def stopped_after(steps, work):
    "One process is asked to stop in a certain step"
    from cola_nbdev import distributed
    accumulate, calls = distributed.accumulate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == steps: signal.raise_signal(signal.SIGTERM)
        return accumulate(*arguments)

    distributed.accumulate = interrupted
    try: return work()
    finally: distributed.accumulate = accumulate

def begin(folder, steps):
    "One process trains for so many steps and is asked to stop"
    run = stopped_after(steps, lambda: training.train(load_corpus("demo").train[:255], CONFIG, folder, progress=False))
    assert run.saved == steps

@pytest.fixture(scope="module")
def two(tmp_path_factory):
    "What two processes saw"
    folder = tmp_path_factory.mktemp("two")
    begin(folder/"begun", 11)
    process = torchrun("--standalone", __file__, folder, cwd=folder)
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return [json.loads((folder/f"{number}.json").read_text()) for number in (0, 1)], printed, folder

def test_two_processes_have_the_losses_of_one(two):
    (first, second), _, _ = two
    assert first["place"] == [0, 2] and second["place"] == [1, 2]
    alone, losses = recorded(few().train, CONFIG)
    assert len(losses) == 6 * 8 and furthest(weights_of(alone), weights_of(types.SimpleNamespace(model=load_model("tiny")))) > .03, "a training that goes nowhere would prove nothing"
    assert losses == pytest.approx(first["losses"], abs=1e-5)
    assert first["losses"] == second["losses"], "both know the losses of the whole batch"
    assert furthest(first["weights"], second["weights"]) == 0, "the networks stay the same to the last digit"
    assert furthest(first["weights"], weights_of(alone)) < 1e-3
    for row, other, mine in zip(first["history"], second["history"], alone.history, strict=True):
        scores = {name: value for name, value in row.items() if "seconds" not in name}
        assert scores == {name: value for name, value in other.items() if "seconds" not in name}, "both choose the same best epoch"
        assert scores == pytest.approx({name: mine[name] for name in scores}, abs=1e-5)

def test_what_one_began_two_go_on_with(two):
    losses = two[0][0]["begun by one"]
    assert losses == pytest.approx(two[0][0]["losses"][-len(losses):], abs=1e-5) and len(losses) == 5 * 8 # it stopped in the second of six epochs

def test_nobody_comes_out_empty(two):
    _, losses = recorded(load_corpus("demo").train[:65], Config(model="tiny", epochs=1, dropout=0.0, learning_rate=3e-3, validation_fraction=0))
    assert losses == pytest.approx(two[0][0]["one is left over"], abs=1e-5)

def test_dropout_can_be_repeated(two):
    once, again = two[0][0]["dropout"]
    assert len(set(once)) == len(once) == 9 and once == again
    assert two[0][0]["steps"] == [3] and two[0][0]["dropout, resumed"] == once, "also from the middle of an epoch"

def test_only_the_first_writes_and_speaks(two):
    (first, _), printed, folder = two
    assert first["written"] == ["step-00000040", "step-00000048"] and not printed.strip()
    assert not list(folder.glob(".*")), "no lock is left"

def test_a_signal_to_one_stops_all_and_saves(two, tried):
    (first, second), _, folder = two
    message, spoken = first["stopped"]
    assert message.startswith("stopped in epoch 1 of 6 and saved in ") and message.endswith("resume with --resume") and spoken
    assert not second["stopped"][1], "only the first says so"
    saved = checkpoints(folder/"stopped.unfinished"/"checkpoints")
    assert [path.name for path in saved] == ["step-00000005"], "asked in the fifth step, heard after it"
    _, losses = recorded(load_corpus("demo").train[:255], CONFIG, folder=saved[0].parent, resume=True)
    assert losses == pytest.approx(first["losses"], abs=1e-5), "what two saved in the middle of an epoch, one goes on with"
    tried("SIGTERM to one of two processes")

# --- what is refused ---

def test_different_settings_are_refused_everywhere(two):
    (first, spoken), (second, also_spoken) = (found["other settings"] for found in two[0])
    assert first == second and spoken and not also_spoken
    assert first == "the processes were given different settings: batch_size is 16 in process 1 and 32 in process 0, seed is 2 in process 1 and 1 in process 0; start all of them with the same command"

def test_more_processes_than_sentences_in_a_batch(two):
    (first, spoken), (second, also_spoken) = (found["too few"] for found in two[0])
    assert first == second and spoken and not also_spoken
    assert first == "batch_size is 1, and there are 2 processes; each needs a sentence of every batch: start at most 1"

def test_an_error_in_one_process_ends_all(two):
    first, second = two[0]
    assert first["on_main_process"] == second["on_main_process"] == ["told by", 0]
    assert [first["failed in the first"], second["failed in the first"]] == [["no such model", True], ["no such model", False]]
    assert [first["failed in the second"], second["failed in the second"]] == [["process 1 of 2: no such model", True], ["process 1 of 2: no such model", False]]

# --- the command ---

COLA = [sys.executable, "-c", "from cola_nbdev.cli import main; main()"]

def cola(folder, *more): return torchrun("--standalone", "--no-python", *COLA, *more, cwd=folder)

def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

def on_machine(number, folder, port):
    "One of two machines, played by this one"
    address = ["--nnodes", 2, "--node_rank", number, "--master_addr", "127.0.0.1", "--master_port", port]
    return torchrun(*address, "--no-python", *COLA, *TRAIN, cwd=folder, processes=1)

TRAIN = ["train", "--data", "data", "--model", "tiny", "--epochs", "12", "--dropout", "0", "--checkpoint-minutes", "0", "--out", "run", "--resume"]

def newest(folder):
    "Steps of the newest checkpoint, 0 if there is none"
    return max((int(path.name[5:]) for path in checkpoints(folder/"run.unfinished"/"checkpoints")), default=0)

def until(folder, process, step):
    "Wait for a checkpoint of at least so many steps; the processes that torchrun started, the first of them first"
    import psutil
    until = time.monotonic() + 180
    while process.poll() is None and newest(folder) < step and time.monotonic() < until: time.sleep(.02)
    assert process.poll() is None, process.communicate()[1]
    return sorted(psutil.Process(process.pid).children(), key=lambda child: child.environ()["RANK"])

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "A folder with a corpus in data/, and the losses of the training that nobody disturbs"
    folder = tmp_path_factory.mktemp("small")
    few().export(folder/"data")
    return folder, recorded(load_corpus(folder/"data").train, Config(model="tiny", epochs=12, dropout=0.0))

@pytest.mark.parametrize("killed", (0, 1) if LONG else (0,)) # the one that writes, and another
def test_killed_and_resumed(small, tmp_path, tried, killed):
    data, (alone, losses) = small
    folder = shutil.copytree(data, tmp_path/"folder")
    process = cola(folder, *TRAIN)
    workers = until(folder, process, 20)
    workers[killed].kill()
    _, error = process.communicate(timeout=180)
    assert process.returncode and not any(worker.is_running() for worker in workers), "every process ends"
    assert error.count("cola: another process has ended, and so does this one; the same command with --resume goes on") <= killed and "Traceback (most recent call last):\n  File \"<string>\"" not in error
    assert not (folder/"run").exists() and not any(find_corruption(path) for path in checkpoints(folder/"run.unfinished"/"checkpoints")), "nothing is half written"
    tried("one of two processes killed with kill -9")

    shutil.copytree(folder/"run.unfinished"/"checkpoints", folder/"copy")
    one, of_one = recorded(load_corpus(folder/"data").train, alone.config, folder=folder/"copy", resume=True)
    assert of_one == pytest.approx(losses[-len(of_one):], abs=1e-5)
    (folder/"elsewhere").mkdir() # a second machine has neither the corpus nor the checkpoints
    port = free_port()
    machines = [on_machine(0, folder, port), on_machine(1, folder/"elsewhere", port)]
    (printed, error), (also_printed, _) = (machine.communicate(timeout=180) for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], error
    assert printed.count("saved in run: open run/report.html") == 1 and not also_printed.strip() and not list((folder/"elsewhere").iterdir())
    history = json.loads((folder/"run"/"metrics.json").read_text())
    assert history["best_epoch"] == one.best_epoch == alone.best_epoch
    assert sorted(path.name for path in folder.iterdir()) == ["copy", "data", "elsewhere", "run"]

def test_other_commands_stay_alone(tmp_path):
    process = cola(tmp_path, "data", "demo")
    printed, error = process.communicate(timeout=180)
    assert process.returncode and not printed.strip() and error.count("cola: data works in one process; start only cola train in several") == 1

if __name__ == "__main__": scenarios(Path(sys.argv[1]))
