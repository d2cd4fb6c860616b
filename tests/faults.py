"""What the fault suite runs in processes that can be killed: a small run, and ways to break it.

The processes come from a fork server that has imported what takes long: a trial takes a second
instead of five.
"""
import contextlib
import importlib
import json
import multiprocessing
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg",
               "TQDM_DISABLE": "1"}

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([
    "torch", "transformers.models.bert.modeling_bert", "accelerate", "pandas", "sklearn.metrics",
    "matplotlib.pyplot", "seaborn", "cola_nbdev.prediction", "cola_nbdev.evaluation",
    "cola_nbdev.packing"])
# What a checkpoint is written, hashed, renamed and removed with
TORN = {"os": ("fsync", "rename"), "shutil": ("rmtree",), "hashlib": ("file_digest",),
        "cola_nbdev.checkpoints": ("save_file",)}

def small():
    "A corpus and settings whose run takes a second: 27 steps, a checkpoint after each"
    from cola_nbdev.data import Corpus, load_corpus
    from cola_nbdev.settings import Config
    splits = {split: frame.head(300 if split == "train" else 60).reset_index(drop=True)
              for split, frame in load_corpus("demo").splits.items()}
    return Corpus("demo", splits), Config(model="tiny", epochs=3, checkpoint_minutes=0)

@dataclass
class Killer:
    "Kills this process at one of the calls in TORN: before it if the number is odd, else after it"
    number: int    # 0 lets it live
    calls: int = 0 # so far

    def strike(self):
        if self.calls == self.number: os.kill(os.getpid(), signal.SIGKILL)

    def torn(self, function):
        def call(*arguments, **options):
            self.calls += 1
            if self.number % 2: self.strike()
            result = function(*arguments, **options)
            self.strike()
            return result
        return call

    def lie_in_wait(self):
        for name, functions in TORN.items():
            module = importlib.import_module(name)
            for function in functions:
                setattr(module, function, self.torn(getattr(module, function)))

def job(folder, die_at=0, most_bytes=0, stop_after=0):
    "Train with resume, and write down what was promised: every checkpoint that was saved"
    import torch

    from cola_nbdev import checkpoints, training
    from cola_nbdev.basics import ColaError
    from cola_nbdev.prediction import fine_tune
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(folder/"printed.txt", "a", buffering=1)  # noqa: SIM115 (stays open)
    promised, killer = folder/"promised.txt", Killer(die_at)
    killer.lie_in_wait()
    def noting(folder_, step, *rest):
        done = checkpoints.save_checkpoint(folder_, step, *rest)
        with open(promised, "a") as file: file.write(f"{step}\n")
        if stop_after and step >= stop_after: os.kill(os.getpid(), signal.SIGTERM)
        return done
    training.save_checkpoint = noting
    if most_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    code = 0
    try: fine_tune(*small(), folder/"run", resume=True)
    except ColaError as error:
        print(f"cola: {error}")
        code = error.code
    with contextlib.suppress(OSError): (folder/"calls.txt").write_text(str(killer.calls))
    os._exit(code)

def run(folder, wait=None, **options):
    "Let the job run in a process of its own; its exit code. After `wait` seconds it is killed"
    folder.mkdir(parents=True, exist_ok=True)
    process = SERVER.Process(target=job, args=(folder,), kwargs=options)
    process.start()
    process.join(wait)
    if process.is_alive(): process.kill()
    process.join()
    return process.exitcode

def result(folder):
    "What must be the same however often a run was interrupted"
    import pandas as pd
    run = folder/"run"
    table = pd.read_csv(run/"history.csv")
    return {"weights": (run/"model"/"model.safetensors").read_bytes(),
            "predictions": (run/"predictions.csv").read_bytes(),
            "history": table[[name for name in table if "seconds" not in name]].to_csv(),
            "best": json.loads((run/"metrics.json").read_text())["best_epoch"]}

def steps(folder):
    "The steps of the whole checkpoints and of those that were promised"
    from cola_nbdev.checkpoints import checkpoints, find_corruption
    saved = checkpoints(Path(folder)/"run.unfinished"/"checkpoints")
    whole = [int(path.name[5:]) for path in saved if not find_corruption(path)]
    promised = Path(folder)/"promised.txt"
    return whole, [int(line) for line in promised.read_text().split()] if promised.exists() else []
