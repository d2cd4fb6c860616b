"""Which settings suit a base model? Runs of mpnet on CoLA, scored on a slice of the training set.

    python benchmarks/base_study.py               every line of CANDIDATES, each with every seed
    python benchmarks/base_study.py "rate 2e-5"   this line

The dev sets are never read: the slice is that of recipe_study.py, half of it whole sources. Only
the package's own settings are tried. A line for each run is added to results/base_study.jsonl, and
a run that is there is not made again. A run takes ten seconds on an H100 and twenty minutes on two
cores; MPNET names a folder with the weights, where their packages are not installed.
"""
import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import side_by_side
import torch
from recipe_study import the_slice
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from cola_nbdev.basics import log_odds
from cola_nbdev.data import load_corpus
from cola_nbdev.packing import predict_logits
from cola_nbdev.settings import Config
from cola_nbdev.training import train

RESULTS = Path(__file__).parent/"results"/"base_study.jsonl"
SEEDS = (1, 2, 3, 4, 5)
CANDIDATES = {  # name → what differs from the recipe of mpnet: rate 3e-5, 4 epochs, batches of 32
    "the recipe": {},
    "rate 1e-5": {"learning_rate": 1e-5},
    "rate 2e-5": {"learning_rate": 2e-5},
    "rate 5e-5": {"learning_rate": 5e-5},
    "10 epochs, rate 2e-5": {"epochs": 10, "learning_rate": 2e-5},
    "batches of 16, rate 2e-5": {"batch_size": 16, "learning_rate": 2e-5},
    "layer decay .9, rate 5e-5": {"layer_decay": .9, "learning_rate": 5e-5},
    "frozen embeddings": {"frozen_embeddings": True},
    "top layer reinitialized": {"reinitialized_layers": 1},
    "first an epoch of exercises": {"epochs": 5, "corrupted_epochs": 1},
    "exercises in place of the first epoch": {"corrupted_epochs": 1},
    "first two epochs of exercises": {"epochs": 6, "corrupted_epochs": 2},
    "exercises, top layer reinitialized": {"epochs": 5, "corrupted_epochs": 1,
                                           "reinitialized_layers": 1},
    "exercises, batches of 16, rate 2e-5": {"epochs": 5, "corrupted_epochs": 1, "batch_size": 16,
                                            "learning_rate": 2e-5},
    "exercises, then 10 epochs, rate 2e-5": {"epochs": 11, "corrupted_epochs": 1,
                                             "learning_rate": 2e-5}}

def score(run, scored, outside):
    "What the slice says about a model: at its own line, and whatever the line"
    logit = log_odds(predict_logits(run.model, run.tokenizer, scored.sentence))
    label, accepted = scored.label.to_numpy(), logit >= 0
    rows = {"mcc": matthews_corrcoef(label, accepted), "auc": roc_auc_score(label, logit),
            "outside": matthews_corrcoef(label[outside], accepted[outside]),
            "inside": matthews_corrcoef(label[~outside], accepted[~outside])}
    return {name: round(float(value), 4) for name, value in rows.items()}

def measure(name, seed):
    "One run"
    fitted: Any
    fitted, scored, outside = the_slice(load_corpus("cola").train)
    changed = {"warmup": .1, "match_label_prior": True, "learning_rate": 3e-5} | CANDIDATES[name]
    config = Config(model=os.environ.get("MPNET", "mpnet"), seed=seed, mixed_precision="bf16",
                    **changed)
    started = time.perf_counter()
    run = train(fitted.reset_index(drop=True), config, progress=False)
    minutes = (time.perf_counter() - started) / 60
    return {"name": name, "seed": seed, **score(run, scored, outside),
            "best_epoch": run.best_epoch, "epochs": config.epochs, "minutes": round(minutes, 2),
            "settings": CANDIDATES[name],
            "machine": side_by_side.machine().get("gpu") or side_by_side.machine()["processor"]}

def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="lines of the table; default: all")
    names = parser.parse_args().names or list(CANDIDATES)
    if unknown := sorted(set(names) - set(CANDIDATES)):
        parser.error(f"no line is called {unknown[0]!r}; there are: {', '.join(CANDIDATES)}")
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    done = {(run["name"], run["seed"]) for run in map(json.loads, lines)}
    for seed in SEEDS:
        for name in names:
            if (name, seed) in done: continue
            found = measure(name, seed)
            with RESULTS.open("a") as file: file.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
            if torch.cuda.is_available(): torch.cuda.empty_cache()

if __name__ == "__main__": main()
