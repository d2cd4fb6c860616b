"""A student with several seeds, taught by the same teachers: what does it gain?

    python benchmarks/distillation.py RUN [RUN ...] --out runs/distilled [--corrupted 6]
        [--seeds 101 102] [--text FILE] [--epochs 8] [--learning-rate 2e-4] ...

As `cola distill`, but the teachers are asked once for all seeds; their answers are kept beside the
runs, and what is finished is not done again. Started twice, two processes share the seeds. Any
setting of a run can be given. `seed_runs.py` keeps what the students say about the dev sentences.
"""
import argparse
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from cola_nbdev.data import load_corpus
from cola_nbdev.experiments import ask_teachers, unlabelled_sentences
from cola_nbdev.prediction import Judge, fine_tune
from cola_nbdev.settings import Config


def options():
    parser = argparse.ArgumentParser(description="Distillation with several seeds")
    parser.add_argument("teachers", nargs="+", help="runs of cola train on CoLA")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corrupted", type=int, default=2)
    parser.add_argument("--text", type=Path, help="more sentences, as for cola distill")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    for field in fields(Config):
        if field.name == "seed": continue
        kind = str(field.type).split(" |")[0]
        parser.add_argument(f"--{field.name.replace('_', '-')}", dest=field.name,
                            type={"int": int, "float": float, "str": str}.get(kind, bool))
    return parser.parse_args()

def main():
    asked, corpus = options(), load_corpus("cola")
    given = {field.name: value for field in fields(Config)
             if (value := getattr(asked, field.name, None)) is not None}
    asked.out.mkdir(parents=True, exist_ok=True)
    answers = asked.out/"taught.parquet"
    with FileLock(f"{answers}.lock"):
        if not answers.exists():
            text = unlabelled_sentences(asked.text)[0] if asked.text else []
            taught = ask_teachers([Judge(run) for run in asked.teachers], corpus, text,
                                  asked.corrupted)
            taught.to_parquet(answers)
    taught = pd.read_parquet(answers)
    print(f"{len(taught):,} sentences, mean probability {taught.label.mean():.3f}", flush=True)
    for seed in asked.seeds:
        try:
            with FileLock(asked.out/f".{seed}.lock", timeout=0):
                report = fine_tune(corpus, replace(Config(**given), seed=seed),
                                   asked.out/f"seed-{seed}", resume=True, taught=taught)
                print(report.metrics.mcc.round(3).to_dict(), flush=True)
        except Timeout: continue

if __name__ == "__main__": main()
