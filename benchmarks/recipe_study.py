"""The study that chose the recipe: one training of minilm on CoLA with what its line says, scored on a slice of the training set.

    python benchmarks/recipe_study.py                 every line of CANDIDATES that has no result yet
    python benchmarks/recipe_study.py "no dropout"    this line

The dev sets are never read. The slice is fixed: all sentences of some sources (so that one half asks for other books, as GLUE's dev set does) and 600 others; sentences that
occur in it are taken out of the rest. Results are added to benchmarks/results/recipe_study.jsonl: MCC at one half, area under the ROC curve, MCC at the best threshold, and both
halves of the slice. What helped has gone into the package; the rest stands here, so that what did not help can be tried again. All lines are one seed, in bf16 unless they say otherwise.

The lines of round 1 come from an earlier form of this script: `regroup` drew its places a little differently, some of its options (judging every word, sentence and copy side by side)
are no longer here, and its options are written as they were then. Round 2 is this script.
"""
import argparse
import json
import os
import random
import re
import time
from pathlib import Path

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from cola_nbdev import corruption
from cola_nbdev.data import load_corpus
from cola_nbdev.grammar import demo_corpus
from cola_nbdev.model import load_model
from cola_nbdev.packing import Packed,attend,pack_batch
from cola_nbdev.tokenization import LengthSampler,encode,load_tokenizer,make_batches

RESULTS = Path(__file__).parent/"results"/"recipe_study.jsonl"
ALL, TAUGHT = "swap+move+drop+repeat+inflect+exchange+insert", "swap+move+regroup+drop+insert"
RECIPE = f"rate=2e-4 decay=.85 spoiled=1 labelled=3 freeze=1 reinit=2 ways={TAUGHT}"

CANDIDATES = { # group: name: what is done. An epoch has as many sentences as the training set, whatever they are, so 1 + 3 costs what 4 cost
    "one way alone, scored before any label": {way: f"spoiled=1 labelled=0 freeze=1 ways={way}" for way in (*ALL.split("+"), "regroup", "drop_little", "other_word", "insert_preposition")},
    "step by step": {
        "learning rate 1e-4, 4 epochs": "spoiled=0 labelled=4",
        "one of the 4 for exercises, all ways": f"ways={ALL}",
        "only the five ways": f"ways={TAUGHT}",
        "frozen embeddings": f"freeze=1 ways={TAUGHT}",
        "two layers anew": f"freeze=1 reinit=2 ways={TAUGHT}",
        "the recipe: rate 2e-4, layer decay .85": RECIPE},
    "the recipe, but": {
        "nothing: the same recipe once more": RECIPE,
        "two epochs for exercises, two for labels": RECIPE + " spoiled=2 labelled=2",
        "one hill of the learning rate for both": RECIPE + " one=1",
        "another word of the same ending as a sixth way": RECIPE + "+other_word",
        "the grammar's own pairs among the exercises": RECIPE + " grammar=1",
        "a mistake on an acceptable sentence counts .65": RECIPE + " balance=.65",
        "averaged weights of the last 40%": RECIPE + " average=.6",
        "label smoothing .1": RECIPE + " smooth=.1",
        "no dropout": RECIPE + " dropout=0",
        "the mean of all pieces instead of [CLS]": RECIPE + " pool=mean",
        "R-Drop, at twice the cost": RECIPE + " rdrop=1"},
    "twice as long": {
        "learning rate 1e-4, 8 epochs": "spoiled=0 labelled=8",
        "the recipe, 2 + 6": RECIPE + " spoiled=2 labelled=6",
        "the recipe, 1 + 7": RECIPE + " labelled=7"}}
DEFAULTS = dict(rate=1e-4, spoiled=1., labelled=3., warmup=.1, decay=1., reinit=0, freeze=0, ways=TAUGHT, grammar=0, one=0, balance=1., average=0., smooth=0., dropout=.1, pool="cls", rdrop=0., bf16=1)

LITTLE, PREPOSITIONS, ENDINGS, WORDS = sorted(corruption.RELATIVES), "in on at to of from for with by about into out that".split(), ("ing", "ed", "ly", "s"), {}

def is_little(word): return re.match(r"\w*", word)[0].lower() in corruption.RELATIVES

def ending(word): return next((end for end in ENDINGS if word.lower().endswith(end) and len(word) > len(end) + 2), "")

def drop_little(words, at, chance, little):
    places = [place for place, word in enumerate(words) if is_little(word)]
    if not places: return words
    at = chance.choice(places)
    return words[:at] + words[at+1:]

def other_word(words, at, chance, little):
    "A word of another sentence with the same ending"
    places = [place for place, word in enumerate(words) if not is_little(word) and word[:1].islower()]
    if not places: return words
    at = chance.choice(places)
    word, mark = re.fullmatch(r"(\w*)(.*)", words[at], re.DOTALL).groups()
    return words[:at] + [chance.choice(WORDS[ending(word)]) + mark] + words[at+1:] if WORDS.get(ending(word)) else words

corruption.WAYS.update(drop_little=drop_little, other_word=other_word, insert_preposition=lambda words, at, chance, little: words[:at] + [chance.choice(PREPOSITIONS)] + words[at:])

def the_slice(train):
    "What is trained on, and what is scored"
    chance, counts, outside, size = np.random.default_rng(0), train.sentence_source.value_counts(), [], 0
    for source in chance.permutation(sorted(counts.index)):
        if counts[source] <= 450 and size + counts[source] <= 650: outside.append(source); size += counts[source]
    is_outside = train.sentence_source.isin(outside)
    scored = pd.concat([train[is_outside], train.loc[chance.choice(train.index[~is_outside], 600, replace=False)]])
    rest = train.drop(scored.index)
    return rest[~rest.sentence.str.lower().isin(set(scored.sentence.str.lower()))], scored, scored.sentence_source.isin(outside).to_numpy()

class Network(Packed):
    "A network on strips that can also look at the mean of all pieces"
    def __init__(self, model, pool):
        super().__init__(model)
        self.pool = pool

    def logits(self, strip):
        strip = {name: strip[name] for name in ("input_ids", "positions", "slots", "starts", "mask") if name in strip}
        if self.pool == "cls": return super().forward(**strip).float()
        bert, starts = self.model.bert, strip["starts"]
        hidden = bert.embeddings(strip["input_ids"][None], position_ids=strip["positions"][None])[0]
        for layer in bert.encoder.layer: hidden = layer.feed_forward_chunk(layer.attention.output(attend(layer.attention.self, hidden, strip["slots"], starts, strip.get("mask"), False), hidden))
        sentence = torch.zeros(len(hidden), dtype=torch.long).index_fill(0, starts[1:], 1).cumsum(0)
        mean = torch.zeros(len(starts), hidden.shape[1]).index_add(0, sentence, hidden.float()) / torch.bincount(sentence)[:, None]
        return self.model.classifier(self.model.dropout(bert.pooler.activation(bert.pooler.dense(mean)))).float()

def groups(network, rate, decay):
    "Parameters by depth; no weight decay for biases and norms"
    found, layers = {}, len(network.model.bert.encoder.layer)
    for name, values in network.named_parameters():
        if not values.requires_grad: continue
        layer = re.search(r"layer\.(\d+)\.", name)
        depth = int(layer[1]) + 1 if layer else 0 if "embedding" in name else layers + 1
        found.setdefault((decay ** (layers + 1 - depth), values.ndim == 1), []).append(values)
    return [{"params": values, "lr": rate * share, "weight_decay": 0. if flat else .01} for (share, flat), values in found.items()]

def score(network, tokenizer, scored, outside):
    "MCC, area under the ROC curve, best MCC of any threshold, MCC of the two halves"
    network.eval()
    examples = encode(scored.sentence, tokenizer, 64)
    sampler = LengthSampler([len(ids) for ids in examples], 64, shuffle=False)
    with torch.inference_mode(): found = torch.cat([network.logits(strip) for strip in make_batches(examples, sampler, collate=pack_batch)]).numpy()
    logit = np.empty(len(examples))
    logit[[number for batch in sampler for number in batch]] = found[:, 1] - found[:, 0]
    network.train()
    labels = scored.label.to_numpy()
    rows = {"mcc": matthews_corrcoef(labels, logit >= 0), "auc": roc_auc_score(labels, logit), "best": max(matthews_corrcoef(labels, logit > threshold) for threshold in np.quantile(logit, np.linspace(.02, .6, 60))),
            "judged_acceptable": (logit >= 0).mean(), "outside": matthews_corrcoef(labels[outside], logit[outside] >= 0), "inside": matthews_corrcoef(labels[~outside], logit[~outside] >= 0)}
    return {name: round(float(value), 4) for name, value in rows.items()}

def exercises(sentences, labelled, options, tokenizer, seed, epoch):
    "The ids and labels of an epoch"
    chance, rows = random.Random(seed * 1000 + epoch), []
    for sentence in chance.sample(sentences, len(sentences)):
        if spoiled := corruption.corrupt(sentence, chance, tuple(options["ways"].split("+")), LITTLE): rows += [(sentence, 1), (spoiled[0], 0)]
    if options["grammar"]: rows += labelled
    return encode([sentence for sentence, _ in rows], tokenizer, 64), [label for _, label in rows]

def train(options, seed=42):
    "One line of the table"
    options = DEFAULTS | {key: type(DEFAULTS[key])(value) for key, value in (each.split("=", 1) for each in options.split())}
    started, (fitted, scored, outside) = time.perf_counter(), the_slice(load_corpus("cola").train)
    torch.manual_seed(seed)
    tokenizer, model = load_tokenizer("minilm"), load_model("minilm", seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout): module.p = options["dropout"]
    network = Network(model, options["pool"])
    for layer in list(model.bert.encoder.layer)[len(model.bert.encoder.layer) - options["reinit"]:]:
        for part in (*layer.modules(), *layer.parameters()): part._is_hf_initialized = False
        layer.apply(model._init_weights)
    if options["freeze"]: model.bert.embeddings.requires_grad_(False)
    acceptable, state, done = fitted.sentence[fitted.label == 1].tolist(), None, 0
    for sentence in acceptable:
        for word in re.findall(r"\w+", sentence)[1:]:
            if not is_little(word) and word.islower() and len(word) > 2: WORDS.setdefault(ending(word), []).append(word)
    grammar = [(row[3], int(row[1])) for row in demo_corpus()["train"]]
    known = encode(fitted.sentence, tokenizer, 64), fitted.label.tolist()
    stages = [("spoiled", round(options["spoiled"] * len(fitted) / 32)), ("labels", round(options["labelled"] * len(fitted) / 32))]
    for stage, steps in stages:
        if not steps: continue
        if not state or not options["one"]:
            optimizer = torch.optim.AdamW(groups(network, options["rate"], options["decay"]), fused=True)
            highest, state = [group["lr"] for group in optimizer.param_groups], True
        whole, first = (sum(count for _, count in stages), done) if options["one"] else (steps, 0)
        rise, step, epoch, average, averaged = max(1, round(options["warmup"] * whole)), 0, 0, None, 0
        weight = torch.tensor([1., options["balance"] if stage == "labels" else 1.])
        network.train()
        while step < steps:
            examples, labels = known if stage == "labels" else exercises(acceptable, grammar, options, tokenizer, seed, epoch)
            sampler = LengthSampler([len(ids) for ids in examples], 32, seed)
            sampler.set_epoch(epoch)
            for batch in sampler:
                if step == steps: break
                at = first + step
                for group, rate in zip(optimizer.param_groups, highest): group["lr"] = rate * (at / rise if at < rise else max(0, whole - at) / max(1, whole - rise))
                strip = pack_batch([(examples[number], int(labels[number])) for number in batch])
                smooth = options["smooth"] if stage == "labels" else 0.
                with torch.autocast("cpu", torch.bfloat16, enabled=bool(options["bf16"])): logits = network.logits(strip)
                loss = torch.nn.functional.cross_entropy(logits, strip["labels"], weight=weight, label_smoothing=smooth)
                if options["rdrop"] and stage == "labels": # Liang et al. 2021, eq. 3: once more, and both shall agree
                    with torch.autocast("cpu", torch.bfloat16, enabled=bool(options["bf16"])): again = network.logits(strip)
                    one, other = logits.log_softmax(1), again.log_softmax(1)
                    loss = (loss + torch.nn.functional.cross_entropy(again, strip["labels"], weight=weight, label_smoothing=smooth)) / 2 + options["rdrop"] * ((one.exp() - other.exp()) * (one - other)).sum(1).mean() / 2
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.)
                optimizer.step(); optimizer.zero_grad()
                step += 1
                if stage == "labels" and options["average"] and step >= options["average"] * steps and step % 10 == 0:
                    averaged += 1
                    average = [values.detach().clone() for values in network.parameters()] if average is None else [mean.lerp(values.detach(), 1 / averaged) for mean, values in zip(average, network.parameters())]
            epoch += 1
        done += steps
        if average:
            for values, mean in zip(network.parameters(), average): values.data.copy_(mean)
    return {"seed": seed, **score(network, tokenizer, scored, outside), "minutes": round((time.perf_counter() - started) / 60, 1), "threads": torch.get_num_threads(), "options": options}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="lines of the table; default: those without a result")
    names = parser.parse_args().names
    lines = {name: (group, options) for group, each in CANDIDATES.items() for name, options in each.items()}
    if unknown := set(names) - set(lines): parser.error(f"no line is called {sorted(unknown)[0]!r}; there are: {', '.join(lines)}")
    done = {json.loads(line)["name"] for line in RESULTS.read_text().splitlines()} if RESULTS.exists() else set()
    for name in names or [name for name in lines if name not in done]:
        group, options = lines[name]
        found = {"group": group, "name": name, "round": 2, **train(options)}
        with RESULTS.open("a") as file: file.write(json.dumps(found) + "\n")
        print(json.dumps({key: value for key, value in found.items() if key != "options"}), flush=True)
