"""Does the work per sentence stay the same when there are more sentences? python benchmarks/growth.py [--quick]

Scoring and training of 1×, 4× and 16× as many sentences, in turns: the time per sentence, and the peak memory of each in a process of its own.
The sentences of 1× are repeated with a number behind each, so that no two are equal and every size has the same mix of lengths.

What is measured of scoring is `predict_logits` over one chunk of sentences after the other, as a reader of a stream would call it; files themselves are the matter of bulk.py:
no more than a chunk of texts is held, and one logit per sentence.
"""
import itertools
import time

import side_by_side

side_by_side.stay_on_the_processor()

import numpy as np
import pandas as pd

from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.tokenization import load_tokenizer
from cola_nbdev.settings import PLAIN,Config
from cola_nbdev.training import train

SETTINGS = { # how many sentences are 1×
    "full": {"scoring": 256, "training": 96, "rounds": 3},
    "quick": {"scoring": 32, "training": 32, "rounds": 1},
    "tiny": {"scoring": 4, "training": 4, "rounds": 1}}
TIMES = (1, 4, 16)
CHUNK = 256 # sentences
FLAT = 1.1 # at 16×, at most this many times the figure of 1×

def numbered(size, # How many sentences are 1×
             count, # How many are wanted
            ):
    "Sentences with their labels, no two of them equal, one at a time"
    rows = side_by_side.corpus().train.sample(size, random_state=0)
    for number, row in zip(range(count), itertools.cycle(rows.itertuples())):
        # six digits, as mixed for the first sentences as for the last; they repeat only after 900,000, which has no factor in common with the multiplier
        yield f"{row.sentence} {100_000 + number * 523_717 % 900_000}", row.label

def score(size, count):
    "Milliseconds per sentence to score so many sentences, a chunk at a time"
    model, tokenizer = load_model("minilm"), load_tokenizer("minilm")
    stream, started, logits = (sentence for sentence, _ in numbered(size, count)), time.perf_counter(), []
    while chunk := list(itertools.islice(stream, CHUNK)):
        found = predict_logits(model, tokenizer, chunk)
        logits.append(found[:, 1] - found[:, 0])
    assert len(np.concatenate(logits)) == count
    return 1000 * (time.perf_counter() - started) / count

def learn(size, count):
    "Milliseconds per sentence to train on so many sentences, for an epoch"
    sentences = pd.DataFrame(numbered(size, count), columns=["sentence", "label"])
    return 1000 * train(sentences, Config(model="minilm", epochs=1, validation_fraction=0, **PLAIN), progress=False).history[0]["training_seconds"] / count

def competitors(settings):
    "Name → function that returns milliseconds per sentence"
    work = {"scoring": score, "training": learn}
    return {f"{name} {times}×": lambda name=name, times=times: work[name](settings[name], settings[name] * times) for name in work for times in TIMES}

def main():
    size = side_by_side.chosen_size()
    settings, small, large = SETTINGS[size], f"{TIMES[0]}×", f"{TIMES[-1]}×"
    print(f"Growth, {size}: {settings['rounds']} rounds", flush=True)
    warm_up = {name: competitor for name, competitor in competitors(SETTINGS["tiny"]).items() if name.endswith(f" {small}")}
    rounds = side_by_side.interleave(competitors(settings), settings["rounds"], warm_up)
    measured = [f"scoring {small}", f"scoring {large}", f"training {small}", f"training {large}"]
    memory = side_by_side.memory(competitors, settings, names=measured if size == "full" else [])
    growth, rows, notes = {}, [], []
    for name in ("scoring", "training"):
        first, last = f"{name} {small}", f"{name} {large}"
        growth[name] = {"time": side_by_side.spread(times[last] / times[first] for times in rounds)}
        if first in memory: growth[name]["memory"] = memory[last]["peak_megabytes"] / memory[first]["peak_megabytes"]
        per_sentence = [side_by_side.in_words(side_by_side.spread(times[f"{name} {many}×"] for times in rounds)) for many in TIMES]
        rows.append([f"{name}, 1× is {settings[name]} sentences", *per_sentence, side_by_side.in_words(growth[name]["time"], "×"),
                     *(f"{memory[which]['peak_megabytes']:,}" if which in memory else "" for which in (first, last))])
        flat = {what: (value["median"] if what == "time" else value) <= FLAT for what, value in growth[name].items()}
        growth[name]["flat"] = flat
        notes.append(f"{name.capitalize()}: " + ", ".join(f"{what} {'is flat' if is_flat else 'grows'}" for what, is_flat in flat.items()) + ".")
    side_by_side.result("growth", size, title="Growth", corpus=side_by_side.corpus().name, settings=settings, per_round=rounds, growth=growth, memory_of_processes=memory,
        question=f"Does the work per sentence stay the same when there are more sentences? minilm, fp32, sentences of {side_by_side.corpus_in_words()}.",
        tables=[side_by_side.table(["ms per sentence", *(f"{many}×" for many in TIMES), f"{large} over {small}", f"peak memory (MB) {small}", large], rows)],
        notes=[*notes, f"Flat: at {large} at most {FLAT} times the figure of {small}, memory being that of the whole process.",
               f"Of scoring, `predict_logits` over chunks of {CHUNK} sentences is measured; files are the matter of bulk."])

if __name__ == "__main__": main()
