"""A student with several seeds, taught by the same teachers: what does it gain?

    python benchmarks/distillation.py RUN [RUN ...] --out runs/distilled [--corrupted 6]
        [--seeds 101 102] [--text FILE] [--epochs 8] [--learning-rate 2e-4] ...

As `cola distill`, but the teachers are asked once for all seeds; their answers are kept beside the
runs, and what is finished is not done again. Started twice, two processes share the seeds. Any
setting of a run can be given. `seed_runs.py` keeps what the students say about the dev sentences.
"""
from dataclasses import replace
from pathlib import Path

import pandas as pd
import tyro
from filelock import FileLock, Timeout
from tyro.conf import OmitArgPrefixes, Positional

from cola_nbdev.data import load_corpus
from cola_nbdev.experiments import ask_teachers, unlabelled_sentences
from cola_nbdev.prediction import Judge, fine_tune
from cola_nbdev.settings import Config


def lesson(corpus, teachers, out, text, corrupted):
    "What the teachers think, asked once and kept"
    answers = out/"taught.parquet"
    with FileLock(f"{answers}.lock"):
        if not answers.exists():
            more = unlabelled_sentences(text)[0] if text else []
            judges = [Judge(run) for run in teachers]
            ask_teachers(judges, corpus, more, corrupted).to_parquet(answers)
    return pd.read_parquet(answers)

def main(
    teachers: Positional[tuple[str, ...]],  # runs of cola train on CoLA
    config: OmitArgPrefixes[Config],  # the settings of the students; their seed does not matter
    out: Path,  # gets a folder per seed, and what the teachers said
    corrupted: int = 2,  # half training sets of corrupted sentences
    text: Path | None = None,  # more sentences, as for cola distill
    seeds: tuple[int, ...] = (42,),  # of the students
):
    corpus = load_corpus("cola")
    out.mkdir(parents=True, exist_ok=True)
    taught = lesson(corpus, teachers, out, text, corrupted)
    print(f"{len(taught):,} sentences, mean probability {taught.label.mean():.3f}", flush=True)
    for seed in seeds:
        try:
            with FileLock(out/f".{seed}.lock", timeout=0):
                report = fine_tune(corpus, replace(config, seed=seed), out/f"seed-{seed}",
                                   resume=True, taught=taught)
                print(report.metrics.mcc.round(3).to_dict(), flush=True)
        except Timeout: continue

if __name__ == "__main__": tyro.cli(main)
