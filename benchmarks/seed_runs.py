"""What every seed said about the dev sentences of CoLA, kept so that statistics can be redone.

    python benchmarks/seed_runs.py NAME FOLDER      a folder made by `cola seeds`, as NAME

Trained models are too large to keep; what they said is not. Logits go to results/seed_runs.csv, a
row for each dev sentence (its number and label, never its text), a column for each run. A line for
each run goes to results/seed_runs.jsonl: settings, minutes, processor, by how much
`match_label_prior` moves its log-odds, and what three rules for drawing the line score on the
held-out tenth: drawn on one half of it, scored on the other, sixty times. No rule sees the dev
sentences. A run that is there already is replaced.
"""
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import side_by_side
from sklearn.metrics import matthews_corrcoef

from cola_nbdev.basics import log_odds
from cola_nbdev.calibration import best_threshold
from cola_nbdev.data import load_corpus, split_sentences
from cola_nbdev.evaluation import read_predictions
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.prediction import read_metrics
from cola_nbdev.tokenization import load_tokenizer
from cola_nbdev.training import match_label_prior

RESULTS = Path(__file__).parent/"results"
LOGITS, RUNS = RESULTS/"seed_runs.csv", RESULTS/"seed_runs.jsonl"

def rules(label, logit, rng):
    "Rule → mean MCC on halves of the held-out sentences"
    found = []
    for _ in range(60):
        drawn, scored = np.split(rng.permutation(len(label)), [len(label) // 2])
        lines = {"at one half": 0, "highest MCC": best_threshold(label[drawn], logit[drawn]),
                 "matched share": np.quantile(logit[drawn], 1 - label[drawn].mean())}
        found.append({name: matthews_corrcoef(label[scored], logit[scored] >= line)
                      for name, line in lines.items()})
    return pd.DataFrame(found).mean().to_dict()

def facts_of(folder, metrics):
    "What the held-out tenth says about a run, and how it was made"
    config, machine = metrics["config"], side_by_side.machine()
    model, tokenizer = load_model(folder/"model"), load_tokenizer(folder/"model")
    held_out = split_sentences(load_corpus("cola").train, config["validation_fraction"],
                               config["split_seed"] or config["seed"])[1]
    logit = log_odds(predict_logits(model, tokenizer, held_out.sentence))
    found = rules(held_out.label.to_numpy(), logit, np.random.default_rng(config["seed"]))
    return {"shift": match_label_prior(model, tokenizer, held_out), "rules": found,
            "best_epoch": metrics["best_epoch"], "minutes": metrics["seconds"] / 60,
            "processor": machine["gpu"] or machine["processor"], "versions": metrics["versions"],
            "config": config}

def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    table = pd.read_csv(LOGITS) if LOGITS.exists() else None
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    kept = {(run["name"], run["seed"]): run for run in map(json.loads, lines)}
    for path in sorted(folder.glob("seed-*/predictions.csv")):
        predictions, metrics = read_predictions(path), read_metrics(path.parent)
        asked = predictions[["split", "label"]]
        asked.insert(1, "row", asked.groupby("split").cumcount())
        if table is None: table = asked
        assert (table[["split", "row", "label"]] == asked).to_numpy().all(), "other sentences"
        seed = metrics["config"]["seed"]
        table[f"{name} {seed}"] = predictions.logit.round(4)
        kept[name, seed] = {"name": name, "seed": seed, **facts_of(path.parent, metrics)}
        print(name, seed, kept[name, seed]["rules"], flush=True)
    if table is None: raise SystemExit(f"there is no finished run in {folder}")
    table.to_csv(LOGITS, index=False)
    RUNS.write_text("".join(json.dumps(kept[key]) + "\n" for key in sorted(kept)))

if __name__ == "__main__": main()
