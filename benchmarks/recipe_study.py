"""The study that chose the recipe: one run of minilm on CoLA for each line of a table, scored on a
slice of the training set.

    python benchmarks/recipe_study.py                 every line of CANDIDATES without a result
    python benchmarks/recipe_study.py "no dropout"    this line

The dev sets are never read. The slice is fixed: all sentences of some sources (so that one half
asks for other books, as GLUE's dev set does) and 600 others; sentences that occur in it are taken
out of the rest. Results are added to benchmarks/results/recipe_study.jsonl: MCC at one half, area
under the ROC curve, MCC at the best threshold, and both halves of the slice. What helped is in the
package; the rest is here, so that what did not help can be tried again. All lines are one seed, in
bf16 unless they say otherwise.

The lines of round 1 come from an earlier form of this script: `regroup` drew its positions a little
differently, some of its options (judging every word, sentence and copy side by side) are no longer
here, and its options are written as they were then. Round 2 is this script, on packed batches.
"""
import argparse
import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import matthews_corrcoef, roc_auc_score
from torch.nn.functional import cross_entropy

from cola_nbdev import corruption
from cola_nbdev.data import load_corpus
from cola_nbdev.grammar import demo_corpus
from cola_nbdev.model import load_model
from cola_nbdev.tokenization import (
    LengthSampler,
    encode,
    load_tokenizer,
    make_batches,
    pad_batch,
)

RESULTS = Path(__file__).parent/"results"/"recipe_study.jsonl"
ALL = "swap+move+drop+repeat+inflect+exchange+insert"
TAUGHT = "swap+move+regroup+drop+insert"
RECIPE = f"rate=2e-4 decay=.85 corrupted=1 labeled=3 freeze=1 reinit=2 ways={TAUGHT}"
DEFAULTS = {"rate": 1e-4, "corrupted": 1., "labeled": 3., "warmup": .1, "decay": 1., "reinit": 0,
            "freeze": 0, "ways": TAUGHT, "grammar": 0, "one": 0, "balance": 1., "average": 0.,
            "smooth": 0., "dropout": .1, "pool": "cls", "rdrop": 0., "bf16": 1}
WAYS = (*ALL.split("+"), "regroup", "drop_little", "other_word", "insert_preposition")

# Group → name → options. An epoch has as many sentences as the training set, corrupted or labeled,
# so 1 + 3 epochs cost what 4 cost
CANDIDATES = {
    "one way alone, scored before any label": {
        way: f"corrupted=1 labeled=0 freeze=1 ways={way}" for way in WAYS},
    "step by step": {
        "learning rate 1e-4, 4 epochs": "corrupted=0 labeled=4",
        "one of the 4 for exercises, all ways": f"ways={ALL}",
        "only the five ways": f"ways={TAUGHT}",
        "frozen embeddings": f"freeze=1 ways={TAUGHT}",
        "top two layers reinitialized": f"freeze=1 reinit=2 ways={TAUGHT}",
        "the recipe: rate 2e-4, layer decay .85": RECIPE},
    "the recipe, but": {
        "nothing: the same recipe once more": RECIPE,
        "two epochs for exercises, two for labels": f"{RECIPE} corrupted=2 labeled=2",
        "one learning-rate schedule for both": f"{RECIPE} one=1",
        "another word with the same ending as a sixth way": f"{RECIPE}+other_word",
        "the grammar's own pairs among the exercises": f"{RECIPE} grammar=1",
        "a mistake on an acceptable sentence counts .65": f"{RECIPE} balance=.65",
        "averaged weights of the last 40%": f"{RECIPE} average=.6",
        "label smoothing .1": f"{RECIPE} smooth=.1",
        "no dropout": f"{RECIPE} dropout=0",
        "the mean of all tokens instead of [CLS]": f"{RECIPE} pool=mean",
        "R-Drop, at twice the cost": f"{RECIPE} rdrop=1"},
    "twice as long": {
        "learning rate 1e-4, 8 epochs": "corrupted=0 labeled=8",
        "the recipe, 2 + 6": f"{RECIPE} corrupted=2 labeled=6",
        "the recipe, 1 + 7": f"{RECIPE} labeled=7"}}

# Ways to corrupt a sentence that did not make it into the package

LITTLE = sorted(corruption.RELATIVES)
PREPOSITIONS = ["in", "on", "at", "to", "of", "from", "for", "with", "by", "about", "into", "out",
                "that"]
ENDINGS = ("ing", "ed", "ly", "s")
WORDS = {}  # ending → words of the training set

def without_mark(word): return re.split(r"\W", word, maxsplit=1)[0]

def is_little(word): return without_mark(word).lower() in corruption.RELATIVES

def ending(word):
    lower = word.lower()
    return next((end for end in ENDINGS if lower.endswith(end) and len(word) > len(end) + 2), "")

def drop_little(words, at, rng, little):
    positions = [position for position, word in enumerate(words) if is_little(word)]
    if not positions: return words
    at = rng.choice(positions)
    return words[:at] + words[at+1:]

def other_word(words, at, rng, little):
    "A word of another sentence with the same ending"
    positions = [position for position, word in enumerate(words)
                 if not is_little(word) and word[:1].islower()]
    if not positions: return words
    at = rng.choice(positions)
    word = without_mark(words[at])
    others, mark = WORDS.get(ending(word)), words[at].removeprefix(word)
    return words[:at] + [rng.choice(others) + mark] + words[at+1:] if others else words

def insert_preposition(words, at, rng, little):
    return words[:at] + [rng.choice(PREPOSITIONS)] + words[at:]

all_ways: dict[str, Any] = corruption.WAYS
all_ways.update(drop_little=drop_little, other_word=other_word,
                insert_preposition=insert_preposition)

def collect_words(sentences):
    for sentence in sentences:
        for word in re.findall(r"\w+", sentence)[1:]:
            if is_little(word) or not word.islower() or len(word) < 3: continue
            WORDS.setdefault(ending(word), []).append(word)

# Data

def the_slice(train):
    "What is trained on, what is scored, and which of that is from other books"
    rng = np.random.default_rng(0)
    counts = train.sentence_source.value_counts()
    outside, size = [], 0
    for source in rng.permutation(sorted(counts.index)):
        if counts[source] > 450 or size + counts[source] > 650: continue
        outside.append(source)
        size += counts[source]
    is_outside = train.sentence_source.isin(outside)
    inside = train.loc[rng.choice(train.index[~is_outside], 600, replace=False)]
    scored = pd.concat([train[is_outside], inside])
    rest = train.drop(scored.index)
    known = set(scored.sentence.str.lower())
    rest = rest[~rest.sentence.str.lower().isin(known)]
    return rest, scored, scored.sentence_source.isin(outside).to_numpy()

def exercises(sentences, extra, options, tokenizer, seed, epoch):
    "The ids and labels of an epoch of real and corrupted sentences"
    rng, rows = random.Random(seed * 1000 + epoch), []
    ways = tuple(options["ways"].split("+"))
    for sentence in rng.sample(sentences, len(sentences)):
        if corrupted := corruption.corrupt(sentence, rng, ways, LITTLE):
            rows += [(sentence, 1), (corrupted[0], 0)]
    if options["grammar"]: rows += extra
    return encode([sentence for sentence, _ in rows], tokenizer, 64), [label for _, label in rows]

# Model

def build_model(options, seed):
    model: Any = load_model("minilm", seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout): module.p = options["dropout"]
    layers = list(model.bert.encoder.layer)
    for layer in layers[len(layers) - options["reinit"]:]:
        for part in (*layer.modules(), *layer.parameters()): part._is_hf_initialized = False
        layer.apply(model._init_weights)
    if options["freeze"]: model.bert.embeddings.requires_grad_(False)
    return model

def logits_of(model, batch, options):
    "The logits of a batch, from [CLS] or from the mean of all tokens"
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if options["pool"] == "cls": return model(**inputs).logits.float()
    hidden = model.bert(**inputs).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooler = model.bert.pooler
    pooled = pooler.activation(pooler.dense((hidden * mask).sum(1) / mask.sum(1)))
    return model.classifier(model.dropout(pooled)).float()

def groups(model, rate, decay):
    "Parameters by depth; no weight decay for biases and norms"
    found, layers = {}, len(model.bert.encoder.layer)
    for name, values in model.named_parameters():
        if not values.requires_grad: continue
        layer = re.search(r"layer\.(\d+)\.", name)
        depth = layers + 1
        if layer: depth = int(layer[1]) + 1
        elif "embedding" in name: depth = 0
        found.setdefault((decay ** (layers + 1 - depth), values.ndim == 1), []).append(values)
    return [{"params": values, "lr": rate * share, "weight_decay": 0. if flat else .01}
            for (share, flat), values in found.items()]

def score(model, tokenizer, scored, outside, options):
    "MCC, area under the ROC curve, best MCC of any threshold, MCC of the two halves"
    model.eval()
    examples = encode(scored.sentence, tokenizer, 64)
    sampler = LengthSampler([len(ids) for ids in examples], 64, shuffle=False)
    batches = make_batches(examples, sampler, collate=pad_batch)
    with torch.inference_mode():
        found = torch.cat([logits_of(model, batch, options) for batch in batches]).numpy()
    logit = np.empty(len(examples))
    logit[[number for batch in sampler for number in batch]] = found[:, 1] - found[:, 0]
    labels, accepted = scored.label.to_numpy(), logit >= 0
    thresholds = np.quantile(logit, np.linspace(.02, .6, 60))
    rows = {"mcc": matthews_corrcoef(labels, accepted), "auc": roc_auc_score(labels, logit),
            "best": max(matthews_corrcoef(labels, logit > threshold) for threshold in thresholds),
            "judged_acceptable": accepted.mean(),
            "outside": matthews_corrcoef(labels[outside], accepted[outside]),
            "inside": matthews_corrcoef(labels[~outside], accepted[~outside])}
    return {name: round(float(value), 4) for name, value in rows.items()}

# Training

class Schedule:
    "A linear rise and fall of the learning rates, over one stage or over both"
    def __init__(self, optimizer, steps, warmup):
        self.optimizer, self.steps, self.done = optimizer, steps, 0
        self.rise = max(1, round(warmup * steps))
        self.highest = [group["lr"] for group in optimizer.param_groups]

    def set_rates(self):
        "For the next step"
        left = max(0, self.steps - self.done) / max(1, self.steps - self.rise)
        share = self.done / self.rise if self.done < self.rise else left
        for group, rate in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = rate * share
        self.done += 1

class Average:
    "The mean of the weights at some steps"
    def __init__(self): self.count, self.means = 0, None

    def add(self, model):
        self.count += 1
        now = [values.detach().clone() for values in model.parameters()]
        if self.means is None: self.means = now
        self.means = [mean.lerp(values, 1 / self.count)
                      for mean, values in zip(self.means, now, strict=True)]

    def put_into(self, model):
        if self.means is None: return
        for values, mean in zip(model.parameters(), self.means, strict=True):
            values.data.copy_(mean)

def loss_of(model, batch, options, labeled):
    weight = torch.tensor([1., options["balance"] if labeled else 1.])
    smooth = options["smooth"] if labeled else 0.
    def forward():
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(options["bf16"])):
            return logits_of(model, batch, options)

    def error(logits): return cross_entropy(logits, batch["labels"], weight, label_smoothing=smooth)
    logits = forward()
    if not (labeled and options["rdrop"]): return error(logits)
    again = forward()  # Liang et al. 2021, eq. 3: a second pass should agree with the first
    one, other = logits.log_softmax(1), again.log_softmax(1)
    distance = ((one.exp() - other.exp()) * (one - other)).sum(1).mean() / 2
    return (error(logits) + error(again)) / 2 + options["rdrop"] * distance

def run_stage(model, optimizer, schedule, epochs, steps, options, labeled, seed):
    "So many steps on exercises or on labels; `epochs` makes the examples of an epoch"
    average, step, epoch = Average(), 0, 0
    model.train()
    while step < steps:
        examples, labels = epochs(epoch)
        sampler = LengthSampler([len(ids) for ids in examples], 32, seed)
        sampler.set_epoch(epoch)
        for numbers in list(sampler)[:steps - step]:
            schedule.set_rates()
            batch = pad_batch([(examples[number], int(labels[number])) for number in numbers])
            loss_of(model, batch, options, labeled).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            late = options["average"] and step >= options["average"] * steps
            if labeled and late and step % 10 == 0: average.add(model)
        epoch += 1
    average.put_into(model)

def train(options, seed=42):
    "One line of the table"
    changed = (each.split("=", 1) for each in options.split())
    options = DEFAULTS | {key: type(DEFAULTS[key])(value) for key, value in changed}
    started = time.perf_counter()
    fitted, scored, outside = the_slice(load_corpus("cola").train)
    torch.manual_seed(seed)
    tokenizer, model = load_tokenizer("minilm"), build_model(options, seed)
    acceptable = fitted.sentence[fitted.label == 1].tolist()
    collect_words(acceptable)
    grammar = [(row[3], int(row[1])) for row in demo_corpus()["train"]]
    known = encode(fitted.sentence, tokenizer, 64), fitted.label.tolist()

    def corrupted(epoch): return exercises(acceptable, grammar, options, tokenizer, seed, epoch)
    def labeled(epoch): return known

    stages = [(round(options[name] * len(fitted) / 32), epochs, name == "labeled")
              for name, epochs in (("corrupted", corrupted), ("labeled", labeled))]
    optimizer = schedule = None
    for steps, epochs, is_labeled in stages:
        if not steps: continue
        if optimizer is None or not options["one"]:
            parameters = groups(model, options["rate"], options["decay"])
            optimizer = torch.optim.AdamW(parameters, fused=True)
            length = sum(steps for steps, *_ in stages) if options["one"] else steps
            schedule = Schedule(optimizer, length, options["warmup"])
        run_stage(model, optimizer, schedule, epochs, steps, options, is_labeled, seed)
    minutes = round((time.perf_counter() - started) / 60, 1)
    return {"seed": seed, **score(model, tokenizer, scored, outside, options), "minutes": minutes,
            "threads": torch.get_num_threads(), "options": options}

def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="lines of the table; default: those without one")
    names = parser.parse_args().names
    lines = {name: (group, options) for group, each in CANDIDATES.items()
             for name, options in each.items()}
    if unknown := sorted(set(names) - set(lines)):
        parser.error(f"no line is called {unknown[0]!r}; there are: {', '.join(lines)}")
    done = set()
    if RESULTS.exists():
        done = {json.loads(line)["name"] for line in RESULTS.read_text().splitlines()}
    for name in names or [name for name in lines if name not in done]:
        group, options = lines[name]
        found = {"group": group, "name": name, "round": 2, **train(options)}
        with RESULTS.open("a") as file: file.write(json.dumps(found) + "\n")
        shown = {key: value for key, value in found.items() if key != "options"}
        print(json.dumps(shown), flush=True)

if __name__ == "__main__": main()
