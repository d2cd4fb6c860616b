"""How fast are sentences scored? python benchmarks/scoring.py [--quick]

`transformers.pipeline`, the tutorial's loop, our `predict_logits`: all score the same sentences
with the same fine-tuned minilm, fp32, from the text to the probability of every sentence:
tokenizing included, loading not. The pipeline is used as people use it: called sentence by
sentence, or given a list and a batch size; it does not sort by length.

The matrix products of our forward pass, timed by themselves, say how much faster scoring in fp32
could become at all. Bf16 (`cola score --mixed-precision auto`, where this CPU is faster in it) and
int8 (what `cola export` writes) give other answers, and the table says how many. A table of its own
has the time until a single sentence is judged.
"""
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import side_by_side

side_by_side.stay_on_the_processor()

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset
from transformers import pipeline

from cola_nbdev.basics import ONNX_FILES, ColaError, log_odds
from cola_nbdev.data import load_corpus
from cola_nbdev.export import Quantizer, write_onnx
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.prediction import Judge, save_judge
from cola_nbdev.settings import PLAIN, Config, fastest_precision
from cola_nbdev.tokenization import LengthSampler, encode, load_tokenizer
from cola_nbdev.training import train

ONE, BATCHES, TUTORIAL = "pipeline, one at a time", "pipeline, batch 32", "tutorial's loop"
PRODUCTS, INT8, BF16 = "matrix products alone", "ours, ONNX int8", "ours, bf16"
ONE_SIDED = .05  # with fewer sentences of one label there is too little to compare
SETTINGS = {
    "full": {"sentences": 512, "training_sentences": 2000, "epochs": 4, "rounds": 3},
    "quick": {"sentences": 96, "training_sentences": 640, "epochs": 1, "rounds": 1},
    "tiny": {"sentences": 32, "training_sentences": 32, "epochs": 1, "rounds": 1}}

def fine_tune(folder, settings):
    """Save a model that has learned to give both labels: else comparing labels would mean nothing

    It learns from the demo corpus, of which half is acceptable: there four epochs are enough, while
    on CoLA a model says *acceptable* to everything for longer than a benchmark may last."""
    config = Config(epochs=settings["epochs"], validation_fraction=0, **PLAIN)
    sentences = load_corpus("demo").train.sample(settings["training_sentences"], random_state=0)
    save_judge(train(sentences, config, progress=False), folder)

# --- the competitors: text in, probability of "acceptable" out ---

def acceptable(answers):
    return np.array([answer["score"] if answer["label"] == "acceptable" else 1 - answer["score"]
                     for answer in answers])

def one_at_a_time(judge, sentences): return acceptable(judge(sentence)[0] for sentence in sentences)

def in_batches(judge, sentences): return acceptable(judge(sentences, batch_size=32))

def tutorial_loop(model, tokenizer, sentences):
    "The tutorial's prediction: sentences tokenized one by one, padded to 64, in the file's order"
    encoded = [tokenizer(sentence, max_length=64, padding="max_length", truncation=True,
                         return_tensors="pt") for sentence in sentences]
    dataset = TensorDataset(*(torch.cat([one[name] for one in encoded])
                              for name in ("input_ids", "attention_mask")))
    batches = DataLoader(dataset, sampler=SequentialSampler(dataset), batch_size=32)
    logits = []
    for input_ids, attention_mask in batches:
        with torch.no_grad():
            found = model(input_ids, token_type_ids=None, attention_mask=attention_mask)
        logits.append(found.logits.numpy())
    return probability(np.concatenate(logits))

def ours(model, tokenizer, sentences):
    return probability(predict_logits(model, tokenizer, sentences))

def products_alone(model, tokenizer, sentences):
    """Seconds for the matrix products of `ours` by themselves

    Real tokens only, and in the last layer only what [CLS] needs."""
    # here: limit.py imports Trainer, which must not be in the memory of the competitors
    from limit import Products, seconds, with_room
    products = Products(model.config)
    lengths = [len(ids) for ids in encode(sentences, tokenizer)]

    def forward(weight, rows): return products.linear(weight, rows)[:1]  # without the gradients

    total = 0
    for batch in LengthSampler(lengths, 64, shuffle=False):  # the batches of `predict_logits`
        rows = [lengths[row] for row in batch]
        tokens = sum(rows)
        within = [pair for length, count in Counter(rows).items()
                  for pair in products.attention(length, count)[:2]]
        pairs = [pair for weight in products.head for pair in forward(weight, len(rows))]
        for layer in products.layers[:-1]:
            pairs += within
            for weight in layer: pairs += forward(weight, tokens)
        for number, weight in enumerate(products.layers[-1]):
            pairs += forward(weight, tokens if number in (1, 2) else len(rows))  # keys and values
        total += seconds(with_room(pairs))
    return total

def probability(logits): return expit(log_odds(logits.astype(float)))

def export(folder):
    "Write ONNX beside a model; int8 with its promise, where it can be kept"
    rows = side_by_side.corpus().train  # of which the model has seen none, where it is CoLA's
    unseen = rows.sample(min(len(rows), 2000), random_state=1).sentence
    judge = Judge(folder)
    try:
        quantizer = Quantizer(judge.tokenizer, unseen[:64], unseen[64:])
        write_onnx(judge.model, judge.tokenizer, folder, quantizer)
    except ColaError as error:
        print(f"  int8 is left out: {error}")
        write_onnx(judge.model, judge.tokenizer, folder)
        return ""
    return f"Int8: {quantizer.promise}."

def exported(folder):
    "Name → judge, for the files that were written"
    formats = [name for name, file in ONNX_FILES.items() if (folder/"onnx"/file).exists()]
    return {f"ours, ONNX {name}": Judge(folder, onnx=name) for name in formats}

# --- the race ---

def competitors(settings):
    """Name → function that scores the sentences and returns milliseconds per sentence

    `answers` of the settings, if given, gets what was answered."""
    dev = pd.concat(side_by_side.corpus().dev.values())
    sentences = dev.sentence.sample(settings["sentences"], random_state=0).tolist()
    model = load_model(settings["model"], trained=True)
    tokenizer: Any = load_tokenizer(settings["model"])
    judge = pipeline("text-classification", model=model, tokenizer=tokenizer)
    answers = settings.get("answers", {})
    functions = {ONE: partial(one_at_a_time, judge, sentences),
                 BATCHES: partial(in_batches, judge, sentences),
                 TUTORIAL: partial(tutorial_loop, model, tokenizer, sentences),
                 "ours": partial(ours, model, tokenizer, sentences)}
    if "answers" in settings:  # where memory is measured, a second model would be in the way
        functions |= {name: partial(ours, onnx.model, tokenizer, sentences)
                      for name, onnx in exported(settings["model"]).items()}
        if fastest_precision() == "bf16":
            rounded = Judge(settings["model"]).to_precision("bf16").model
            functions[BF16] = partial(ours, rounded, tokenizer, sentences)

    def timed(name):
        started = time.perf_counter()
        answers[name] = functions[name]()
        return 1000 * (time.perf_counter() - started) / len(sentences)

    def products(): return 1000 * products_alone(model, tokenizer, sentences) / len(sentences)

    return {name: partial(timed, name) for name in functions} | {PRODUCTS: products}

def latency(folder, count, rounds):
    "Who judges → milliseconds for a single sentence, half of them and 99 of 100 at most"
    dev = pd.concat(side_by_side.corpus().dev.values())
    sentences = dev.sentence.sample(count, random_state=1).tolist()
    judges = {"ours": Judge(folder), **exported(folder)}
    calls = {"pipeline": pipeline("text-classification", str(folder))}
    calls |= {name: judge.predict_proba for name, judge in judges.items()}
    times = {name: [] for name in calls}
    for number in range(rounds + 1):  # the first is not counted
        for name, call in calls.items():
            for sentence in sentences:
                started = time.perf_counter()
                call(sentence)
                if number: times[name].append(1000 * (time.perf_counter() - started))
    return {name: dict(zip(("p50", "p99"), np.quantile(each, [.5, .99]).tolist()))
            for name, each in times.items()}

def difference(answer, reference):
    "How far apart two answers are"
    return {"largest_difference": float(np.abs(answer - reference).max()),
            "labels_changed": float(((answer >= .5) != (reference >= .5)).mean())}

def notes_of(settings, promise, rounds, differences, judged):
    "Sentences to go below the table"
    share, ceiling = (side_by_side.spread(times[above] / times[below] for times in rounds)
                      for above, below in ((PRODUCTS, "ours"), (ONE, PRODUCTS)))
    notes = [
        "Against the pipeline one at a time our probabilities differ by at most "
        f"{differences['ours']['largest_difference']:.1e}, and "
        f"{differences['ours']['labels_changed']:.1%} of our labels are others.",
        f"{judged:.0%} of the sentences are judged acceptable; the model was trained on "
        f"{settings['training_sentences']:,} sentences of the demo corpus, epochs: "
        f"{settings['epochs']}.",
        "The matrix products of our forward pass, by themselves, would take "
        f"{share['median']:.0%} of our time: with nothing else to do at all, fp32 on this machine "
        f"could be {side_by_side.in_words(ceiling, '×')} as fast as the pipeline one at a time."]
    if INT8 in differences:
        changed = differences[INT8]["labels_changed"]
        verdict = ", which is within the 1% allowed."
        if changed > .01: verdict = ": it is not the same answer, and its speed does not count."
        notes.append(f"{promise} Here it changes {changed:.1%} of the labels{verdict}")
    if min(judged, 1 - judged) < ONE_SIDED:
        notes.append("Almost all sentences have the same label: labels would not change even if "
                     "the answers did.")
    return [*notes, "Memory was measured over 128 sentences; here the model counts among what was "
                    "there before."]

def main():
    size = side_by_side.chosen_size()
    settings, answers = SETTINGS[size], {}
    print(f"Scoring, {size}: {settings['rounds']} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = {"model": Path(folder)/"model"}
        fine_tune(model["model"], settings)
        promise = export(model["model"])
        rounds = side_by_side.interleave(
            competitors(settings | model | {"answers": answers}), settings["rounds"],
            warm_up=competitors(model | {"sentences": 8, "answers": {}}))
        single = latency(model["model"], min(settings["sentences"], 200), settings["rounds"])
        memory = side_by_side.memory(
            competitors, model | {"sentences": 128},
            names=[ONE, BATCHES, TUTORIAL, "ours"] if size == "full" else ["ours"])
    differences = {name: difference(answer, answers[ONE])
                   for name, answer in answers.items() if name != ONE}
    judged = float((answers[ONE] >= .5).mean())
    header = ["against the pipeline, one at a time", "largest difference of a probability",
              "labels changed"]
    rows = [[name, f"{found['largest_difference']:.1e}", f"{found['labels_changed']:.1%}"]
            for name, found in differences.items()]
    waits = [[name, f"{each['p50']:.2f}", f"{each['p99']:.2f}",
              f"{single['pipeline']['p50'] / each['p50']:.1f}×"] for name, each in single.items()]
    one = ["one sentence at a time", "ms, p50", "ms, p99", "times as fast, p50"]
    side_by_side.result(
        "scoring", size, title="Scoring", corpus=side_by_side.corpus().name,
        unit="ms per sentence", settings=settings, rounds=rounds, memory=memory,
        differences=differences, share_judged_acceptable=judged,
        question="How long does it take to score a sentence, tokenizing included? A fine-tuned "
                 f"minilm, fp32, {settings['sentences']:,} sentences of "
                 f"{side_by_side.corpus_in_words()}'s dev sets.",
        latency=single,
        tables=[side_by_side.table(header, rows), side_by_side.table(one, waits)],
        notes=notes_of(settings, promise, rounds, differences, judged))

if __name__ == "__main__": main()
