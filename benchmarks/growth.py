"""Does the work per sentence grow with the sentences? python benchmarks/growth.py [--quick]

Scoring and training of 1×, 4× and 16× as many sentences, in turns: the time per sentence, and the
peak memory of each in a process of its own. The sentences of 1× are repeated with a number behind
each, so that no two are equal and every size has the same mix of lengths.

What is measured of scoring is `predict_logits` over one chunk of sentences after the other, as a
reader of a stream would call it: no more than a chunk of texts is held, and one logit per sentence.
Files themselves are what bulk.py is about.
"""
import itertools
import time
from functools import partial
from typing import Any

import side_by_side

side_by_side.stay_on_the_processor()

import numpy as np
import pandas as pd

from cola_nbdev.basics import log_odds
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.settings import PLAIN, Config
from cola_nbdev.tokenization import load_tokenizer
from cola_nbdev.training import train

SETTINGS = {  # how many sentences are 1×
    "full": {"scoring": 256, "training": 96, "rounds": 3},
    "quick": {"scoring": 32, "training": 32, "rounds": 1},
    "tiny": {"scoring": 4, "training": 4, "rounds": 1}}
TIMES = (1, 4, 16)
SMALL, LARGE = f"{TIMES[0]}×", f"{TIMES[-1]}×"
CHUNK = 256  # sentences
FLAT = 1.1   # at 16×, at most this many times the figure of 1×

def numbered(size,   # how many sentences are 1×
             count,  # how many are wanted
            ):
    "Sentences with their labels, no two of them equal, one at a time"
    rows = itertools.cycle(side_by_side.corpus().train.sample(size, random_state=0).itertuples())
    for number in range(count):
        row: Any = next(rows)
        # six digits, as mixed for the first sentences as for the last; they repeat only after
        # 900,000, which has no factor in common with the multiplier
        yield f"{row.sentence} {100_000 + number * 523_717 % 900_000}", row.label

def score(size, count):
    "Milliseconds per sentence to score so many sentences, a chunk at a time"
    model, tokenizer = load_model("minilm"), load_tokenizer("minilm")
    stream = (sentence for sentence, _ in numbered(size, count))
    started, odds = time.perf_counter(), []
    while chunk := list(itertools.islice(stream, CHUNK)):
        odds.append(log_odds(predict_logits(model, tokenizer, chunk)))
    assert len(np.concatenate(odds)) == count
    return 1000 * (time.perf_counter() - started) / count

def learn(size, count):
    "Milliseconds per sentence to train on so many sentences, for an epoch"
    sentences = pd.DataFrame(list(numbered(size, count)), columns=["sentence", "label"])
    config = Config(model="minilm", epochs=1, validation_fraction=0, **PLAIN)
    run = train(sentences, config, progress=False)
    return 1000 * run.history[0]["training_seconds"] / count

def competitors(settings):
    "Name → function that returns milliseconds per sentence"
    work = {"scoring": score, "training": learn}
    return {f"{name} {times}×": partial(work[name], settings[name], settings[name] * times)
            for name in work for times in TIMES}

def growth_of(name, rounds, memory):
    "How many times the figures of 1× those of 16× are, and whether that is flat"
    first, last = f"{name} {SMALL}", f"{name} {LARGE}"
    growth = {"time": side_by_side.spread(times[last] / times[first] for times in rounds)}
    figures = {"time": growth["time"]["median"]}
    if first in memory:
        growth["memory"] = memory[last]["peak_megabytes"] / memory[first]["peak_megabytes"]
        figures["memory"] = growth["memory"]
    return growth | {"flat": {what: figure <= FLAT for what, figure in figures.items()}}

def row_of(name, size, rounds, memory, growth):
    "A row of the table"
    per_sentence = [side_by_side.in_words(side_by_side.spread(times[f"{name} {many}×"]
                                                              for times in rounds))
                    for many in TIMES]
    peaks = [f"{memory[which]['peak_megabytes']:,}" if which in memory else ""
             for which in (f"{name} {SMALL}", f"{name} {LARGE}")]
    return [f"{name}, 1× is {size} sentences", *per_sentence,
            side_by_side.in_words(growth["time"], "×"), *peaks]

def note_of(name, growth):
    "Scoring: time is flat, memory grows."
    found = [f"{what} {'is flat' if flat else 'grows'}" for what, flat in growth["flat"].items()]
    return f"{name.capitalize()}: {', '.join(found)}."

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Growth, {size}: {settings['rounds']} rounds", flush=True)
    warm_up = {name: competitor for name, competitor in competitors(SETTINGS["tiny"]).items()
               if name.endswith(f" {SMALL}")}
    rounds = side_by_side.interleave(competitors(settings), settings["rounds"], warm_up)
    names = ("scoring", "training")
    measured = [f"{name} {times}" for name in names for times in (SMALL, LARGE)]
    memory = side_by_side.memory(competitors, settings, measured if size == "full" else [])
    growth = {name: growth_of(name, rounds, memory) for name in names}
    header = ["ms per sentence", *(f"{many}×" for many in TIMES), f"{LARGE} over {SMALL}",
              f"peak memory (MB) {SMALL}", LARGE]
    rows = [row_of(name, settings[name], rounds, memory, growth[name]) for name in names]
    side_by_side.result(
        "growth", size, title="Growth", corpus=side_by_side.corpus().name, settings=settings,
        per_round=rounds, growth=growth, memory_of_processes=memory,
        question="Does the work per sentence stay the same when there are more sentences? minilm, "
                 f"fp32, sentences of {side_by_side.corpus_in_words()}.",
        tables=[side_by_side.table(header, rows)],
        notes=[*(note_of(name, growth[name]) for name in names),
               f"Flat: at {LARGE} at most {FLAT} times the figure of {SMALL}, memory being that of "
               "the whole process.",
               f"Scoring is `predict_logits` over chunks of {CHUNK} sentences; for files, see "
               "*Files of any size*."])

if __name__ == "__main__": main()
