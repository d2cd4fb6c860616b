"""How fast are sentences scored? `transformers.pipeline`, the seed's loop, our `predict_logits`: python benchmarks/scoring.py [--quick]

All score the same sentences with the same fine-tuned minilm, fp32, from the text to the probability of every sentence: tokenizing included, loading not.
The pipeline is used as people use it: called sentence by sentence, or given a list and a batch size; it does not sort by length.

The matrix products of our forward pass, timed by themselves, say how much faster scoring in fp32 could become at all.
Int8 is a trial of what `torch` offers, with our order by length; it gives other answers, and the table says how many.
"""
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset
from transformers import pipeline

from cola_nbdev.data import load_corpus
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.prediction import save_judge
from cola_nbdev.tokenization import LengthSampler,encode,load_tokenizer
from cola_nbdev.settings import PLAIN,Config
from cola_nbdev.training import train

ONE, BATCHES, SEED, PRODUCTS, INT8 = "pipeline, one at a time", "pipeline, batch 32", "seed's loop", "matrix products alone", "int8 (another answer)"
ONE_SIDED = .05 # a network that gives one label more seldom has not learned enough for its labels to be compared
SETTINGS = {
    "full": {"sentences": 512, "training_sentences": 2000, "epochs": 4, "rounds": 3},
    "quick": {"sentences": 96, "training_sentences": 640, "epochs": 1, "rounds": 1},
    "tiny": {"sentences": 32, "training_sentences": 32, "epochs": 1, "rounds": 1}}

def fine_tune(folder, settings):
    """Save a network that has learned to give both labels: of one that has not, comparing labels would mean nothing

    It learns from the demo corpus, of which half is acceptable: there four epochs are enough, while on CoLA a network says *acceptable* to everything for longer than a benchmark may last."""
    config = Config(epochs=settings["epochs"], validation_fraction=0, **PLAIN)
    save_judge(train(load_corpus("demo").train.sample(settings["training_sentences"], random_state=0), config, progress=False), folder)

# --- the competitors: text in, probability of "acceptable" out ---

def one_at_a_time(judge, sentences): return acceptable(judge(sentence)[0] for sentence in sentences)
def in_batches(judge, sentences): return acceptable(judge(sentences, batch_size=32))
def acceptable(answers): return np.array([answer["score"] if answer["label"] == "acceptable" else 1 - answer["score"] for answer in answers])

def seed_loop(model, tokenizer, sentences):
    "The prediction of the seed: sentences tokenized one by one, padded to 64, in the order of the file"
    encoded = [tokenizer(sentence, max_length=64, padding="max_length", truncation=True, return_tensors="pt") for sentence in sentences]
    dataset = TensorDataset(torch.cat([one["input_ids"] for one in encoded]), torch.cat([one["attention_mask"] for one in encoded]))
    logits = []
    for input_ids, attention_mask in DataLoader(dataset, sampler=SequentialSampler(dataset), batch_size=32):
        with torch.no_grad(): logits.append(model(input_ids, token_type_ids=None, attention_mask=attention_mask).logits.numpy())
    return probability(np.concatenate(logits))

def ours(model, tokenizer, sentences): return probability(predict_logits(model, tokenizer, sentences))

def products_alone(model, tokenizer, sentences):
    "Seconds for the matrix products of `ours` by themselves: real tokens only, and in the last layer only what [CLS] needs"
    from limit import Products, seconds
    products, lengths, total = Products(model.config), [len(ids) for ids in encode(sentences, tokenizer)], 0
    for batch in LengthSampler(lengths, 64, shuffle=False): # the batches of `predict_logits`
        rows = [lengths[i] for i in batch]
        everywhere = lambda weight, count: products.linear(weight, count)[:1] # the product, without the gradients
        within = [pair for length, count in Counter(rows).items() for pair in products.attention(length, count)[:2]]
        pairs = [pair for weight in products.head for pair in on_all_processes(weight, len(rows))]
        for layer in products.layers[:-1]: pairs += [*within, *(pair for weight in layer for pair in on_all_processes(weight, sum(rows)))]
        for number, weight in enumerate(products.layers[-1]): pairs += on_all_processes(weight, sum(rows) if number in (1, 2) else len(rows)) # keys and values
        total += seconds([(left, right, torch.zeros(*left.shape[:-1], right.shape[-1])) for left, right in pairs])
    return total

def probability(logits): return 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]).astype(float)))

def quantized(model):
    "The network with its matrix products in 8-bit integers, or None where this torch no longer offers that"
    try:
        from torch.ao.quantization import quantize_dynamic
        with warnings.catch_warnings():
            warnings.simplefilter("ignore") # it is to move to another package
            return quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    except (ImportError, RuntimeError, AttributeError, NotImplementedError) as error:
        print(f"  int8 is left out: {type(error).__name__}: {error}")

def by_length(model, tokenizer, sentences):
    "Padded batches in order of length: for a network whose insides `predict_logits` may not know"
    encoded = tokenizer(sentences, truncation=True, max_length=64)
    order, logits = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable"), np.empty((len(sentences), 2), dtype=np.float32)
    with torch.inference_mode():
        for chosen in np.array_split(order, range(32, len(order), 32)):
            logits[chosen] = model(**tokenizer.pad({name: [rows[i] for i in chosen] for name, rows in encoded.items()}, return_tensors="pt")).logits.numpy()
    return probability(logits)

# --- the race ---

def competitors(settings):
    "Name → function that scores the sentences and returns milliseconds per sentence; `answers`, if given, gets what was answered"
    dev = pd.concat(side_by_side.corpus().dev.values())
    sentences = dev.sentence.sample(settings["sentences"], random_state=0).tolist()
    model, tokenizer = load_model(settings["model"], trained=True), load_tokenizer(settings["model"])
    judge, answers = pipeline("text-classification", model=model, tokenizer=tokenizer), settings.get("answers", {})
    integers = quantized(model) if "answers" in settings else None # where memory is measured, a second network would be in the way
    functions = {ONE: lambda: one_at_a_time(judge, sentences), BATCHES: lambda: in_batches(judge, sentences), SEED: lambda: seed_loop(model, tokenizer, sentences),
                 "ours": lambda: ours(model, tokenizer, sentences)}
    if integers is not None: functions[INT8] = lambda: by_length(integers, tokenizer, sentences)
    def timed(name):
        started = time.perf_counter()
        answers[name] = functions[name]()
        return 1000 * (time.perf_counter() - started) / len(sentences)
    return {name: lambda name=name: timed(name) for name in functions} | {PRODUCTS: lambda: 1000 * products_alone(model, tokenizer, sentences) / len(sentences)}

def difference(answer, reference):
    "How far apart two answers are"
    return {"largest_difference": float(np.abs(answer - reference).max()), "labels_changed": float(((answer >= .5) != (reference >= .5)).mean())}

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Scoring, {size}: {settings['rounds']} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(Path(folder)/"model", settings)
        private = {"model": Path(folder)/"model", "answers": (answers := {})}
        rounds = side_by_side.interleave(competitors(settings | private), settings["rounds"], warm_up=competitors(private | {"sentences": 8, "answers": {}}))
        memory = side_by_side.memory(competitors, {"model": private["model"], "sentences": 128}, names=[ONE, BATCHES, SEED, "ours"] if size == "full" else ["ours"])
    differences = {name: difference(answer, answers[ONE]) for name, answer in answers.items() if name != ONE}
    judged = float((answers[ONE] >= .5).mean())
    rows = [[name, f"{found['largest_difference']:.1e}", f"{found['labels_changed']:.1%}"] for name, found in differences.items()]
    notes = [f"Against the pipeline one at a time our probabilities differ by at most {differences['ours']['largest_difference']:.1e}, and {differences['ours']['labels_changed']:.1%} of our labels are others.",
             f"{judged:.0%} of the sentences are judged acceptable; the network was trained on {settings['training_sentences']:,} sentences of the demo corpus, epochs: {settings['epochs']}."]
    share, ceiling = (side_by_side.spread(times[above] / times[below] for times in rounds) for above, below in ((PRODUCTS, "ours"), (ONE, PRODUCTS)))
    notes.append(f"The matrix products of our forward pass, by themselves, would take {share['median']:.0%} of our time: with nothing else to do at all, fp32 on this machine "
                 f"could be {side_by_side.in_words(ceiling, '×')} as fast as the pipeline one at a time.")
    if INT8 in differences:
        changed = differences[INT8]["labels_changed"]
        notes.append(f"Int8 changes {changed:.1%} of the labels" + (": it is not the same answer, and its speed does not count." if changed > .01 else ", which is within the 1% allowed."))
    if min(judged, 1 - judged) < ONE_SIDED: notes.append("Almost all sentences have the same label: labels would not change even if the answers did.")
    notes.append("Memory was measured over 128 sentences; here the network counts among what was there before.")
    side_by_side.result("scoring", size, title="Scoring", corpus=side_by_side.corpus().name, unit="ms per sentence", settings=settings,
        question=f"How long does it take to score a sentence, tokenizing included? A fine-tuned minilm, fp32, {settings['sentences']:,} sentences of {side_by_side.corpus_in_words()}'s dev sets.",
        rounds=rounds, memory=memory, differences=differences, share_judged_acceptable=judged,
        tables=[side_by_side.table(["against the pipeline, one at a time", "largest difference of a probability", "labels changed"], rows)], notes=notes)

if __name__ == "__main__": main()
