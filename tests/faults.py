"""What the fault suite runs in other processes, where it can be killed: a small training, and ways to break it.

The processes come from a fork server that has imported what takes long, so a trial takes a second and not five.
"""
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "transformers.models.bert.modeling_bert", "accelerate", "pandas", "sklearn.metrics", "matplotlib.pyplot", "seaborn",
                               "cola_nbdev.prediction", "cola_nbdev.evaluation", "cola_nbdev.packing"])
TORN = {"os": ("fsync", "rename"), "shutil": ("rmtree",), "hashlib": ("file_digest",), "cola_nbdev.checkpoints": ("save_file",)} # what a checkpoint is made with

def small():
    "A corpus and settings whose training takes a second: 27 steps, a checkpoint after each"
    from cola_nbdev.data import Corpus,load_corpus
    from cola_nbdev.settings import Config
    demo = load_corpus("demo")
    corpus = Corpus("demo", {split: frame[:300 if split == "train" else 60].reset_index(drop=True) for split, frame in demo.splits.items()})
    return corpus, Config(model="tiny", epochs=3, checkpoint_minutes=0)

def kill_at(number):
    "Kill this process at so many calls of the functions that write, hash, rename and remove; before every other one, after the rest"
    import importlib
    calls = 0
    def torn(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == number and number % 2: os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if calls == number: os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    for module, names in TORN.items():
        module = importlib.import_module(module)
        for name in names: setattr(module, name, torn(getattr(module, name)))
    return lambda: calls

def job(folder, die_at=0, most_bytes=0, stop_after=0):
    "Train with resume, and note in a file what was promised: every checkpoint that save_checkpoint returned"
    import torch

    from cola_nbdev import checkpoints,training
    from cola_nbdev.basics import ColaError
    from cola_nbdev.prediction import fine_tune
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(folder/"printed.txt", "a", buffering=1)
    promised, calls = folder/"promised.txt", kill_at(die_at)
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
    with contextlib.suppress(OSError): (folder/"calls.txt").write_text(str(calls()))
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
    "What must be the same however often a training was interrupted: weights, history without the seconds, predictions"
    history = (folder/"run"/"metrics.json").read_text(), (folder/"run"/"history.csv").read_text()
    import pandas as pd
    table = pd.read_csv(folder/"run"/"history.csv")
    return {"weights": (folder/"run"/"model"/"model.safetensors").read_bytes(), "predictions": (folder/"run"/"predictions.csv").read_bytes(),
            "history": table[[name for name in table if "seconds" not in name]].to_csv(), "best": json.loads(history[0])["best_epoch"]}

def steps(folder):
    "The steps of the whole checkpoints and of those that were promised"
    from cola_nbdev.checkpoints import checkpoints,find_corruption
    whole = [int(path.name[5:]) for path in checkpoints(Path(folder)/"run.unfinished"/"checkpoints") if not find_corruption(path)]
    promised = Path(folder)/"promised.txt"
    return whole, [int(line) for line in promised.read_text().split()] if promised.exists() else []
