"""How fast is fine-tuning on a GPU? Trainer and ours: python benchmarks/gpu.py [--tiny]

BERT-base has random weights here, which take as long as any; minilm has its own. Three tables:
a training step, 4 epochs of CoLA in all, and scoring. A step of Trainer is timed in its steady
state, after its first 20 steps; a step of ours over whole training runs, the launched and the
captured steps included. "In all" is everything from the sentences to the trained model: loading,
tokenizing, capturing or compiling, training.

Without a CUDA device nothing is measured and nothing is written; --tiny runs anywhere, with a toy
model and without torch.compile, only to see that the benchmark works. COLA_NBDEV_DATA says where
CoLA is; MINILM, where the package with the weights of minilm isn't installed, names a folder that
holds them (fp16 serves). About 8 minutes on an H100, three and a half of them for torch.compile.
"""
import contextlib
import functools
import os
import tempfile
import time
from typing import Any
from unittest.mock import patch

import gpu_checks
import gpu_variants
import side_by_side
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
)

from cola_nbdev import training
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import encode, find_minilm, load_tokenizer

DYNAMIC, GROUPED = "Trainer, dynamic padding", "Trainer, grouped by length, 2 workers"
COMPILED, LAUNCHED = "Trainer, dynamic padding, torch.compile", "ours without CUDA graphs"
PEERS = {  # `logging_nan_inf_filter` waits for the GPU in every step: off, as a fast Trainer has it
    DYNAMIC: {"logging_nan_inf_filter": False},
    GROUPED: {"logging_nan_inf_filter": False,
              "train_sampling_strategy": "group_by_length",
              "dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    COMPILED: {"logging_nan_inf_filter": False, "torch_compile": True}}
SETTINGS = {
    "full": {"sentences": 8551, "epochs": 4, "rounds": 3, "warm_up": 20, "steps": 60,
             "piped": 2048},
    "quick": {"sentences": 2048, "epochs": 1, "rounds": 1, "warm_up": 5, "steps": 20,
              "piped": 512},
    "tiny": {"sentences": 192, "epochs": 1, "rounds": 1, "warm_up": 1, "steps": 3, "piped": 64}}
TOY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "intermediate_size": 64}

# --- models ---

def save_models(folder, toy):
    "Folders of BERT-base with random weights and of minilm, each with its tokenizer"
    minilm = os.environ.get("MINILM", "minilm")
    tokenizer = AutoTokenizer.from_pretrained(minilm) if "MINILM" in os.environ \
        else load_tokenizer(minilm)
    torch.manual_seed(0)
    base = BertForSequenceClassification(BertConfig(**(TOY if toy else {})))
    small = base if toy else AutoModelForSequenceClassification.from_pretrained(
        minilm if "MINILM" in os.environ else find_minilm(), num_labels=2).float()
    folders = {}
    for name, model in (("BERT-base", base), ("minilm", small)):
        folders[name] = os.path.join(folder, name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name]) # BERT-base has the same 30,522 tokens
    return folders

def wait():
    "Until the GPU has done what it was asked to do"
    if torch.cuda.is_available(): torch.cuda.synchronize()

@contextlib.contextmanager
def peak_memory(peaks, name):
    "Note the most GPU memory that tensors took, in megabytes"
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if torch.cuda.is_available(): peaks[name] = round(torch.cuda.max_memory_allocated() / 1e6)

# --- training ---

class Stopwatch(TrainerCallback):
    "Notes when the step `first` and the step `last` of Trainer are done, and stops it then"
    def __init__(self, first, last): self.first, self.last, self.times = first, last, {}

    def on_step_end(self, arguments, state, control, **more):
        if state.global_step not in (self.first, self.last): return
        wait()
        self.times[state.global_step] = time.perf_counter()
        if state.global_step == self.last: control.should_training_stop = True

    @property
    def milliseconds(self):
        "Per step"
        seconds = self.times[self.last] - self.times[self.first]
        return 1000 * seconds / (self.last - self.first)

def run_trainer(name, folder, sentences, epochs, first, last=10**9):
    "Train with Trainer in bf16: its stopwatch, and seconds in all"
    started = time.perf_counter()
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer(list(sentences.sentence), truncation=True, max_length=64)
    examples = [dict(zip([*encoded, "label"], row, strict=True))
                for row in zip(*encoded.values(), map(int, sentences.label), strict=True)]
    stopwatch = Stopwatch(first, last)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch, per_device_train_batch_size=32, num_train_epochs=epochs, learning_rate=2e-5,
            bf16=True, save_strategy="no", report_to="none", disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), **PEERS[name])
        trainer = Trainer(load_model(folder), arguments, train_dataset=examples,
                          data_collator=DataCollatorWithPadding(tokenizer), callbacks=[stopwatch])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        wait()
    return stopwatch, time.perf_counter() - started

def run_ours(folder, sentences, epochs):
    "Train with `train` in bf16: milliseconds per step, and seconds in all"
    started = time.perf_counter()
    config = Config(model=folder, epochs=epochs, learning_rate=2e-5, mixed_precision="bf16",
                    validation_fraction=0)
    run = training.train(sentences, config, progress=False)
    wait()
    seconds = sum(row["training_seconds"] for row in run.history)
    return 1000 * seconds / run.step, time.perf_counter() - started

def choose_sentences(count):
    "Training sentences of the corpus, repeated where it has fewer"
    rows = side_by_side.corpus().train
    return rows.iloc[[number % len(rows) for number in range(count)]].reset_index(drop=True)

def competitors(folder, settings, in_all, peaks):
    "Name → function that trains and returns milliseconds per step"
    sentences, epochs = choose_sentences(settings["sentences"]), settings["epochs"]
    first, last = settings["warm_up"], settings["warm_up"] + settings["steps"]

    def peer(name):
        with peak_memory(peaks, name):
            return run_trainer(name, folder, sentences, epochs, first, last)[0].milliseconds

    def ours():
        with peak_memory(peaks, "ours"):
            milliseconds, seconds = run_ours(folder, sentences, epochs)
        in_all.append(seconds)
        return milliseconds

    def launched():
        def plain(step, optimizer): return step
        with patch.object(training, "GraphedStep", plain), peak_memory(peaks, LAUNCHED):
            return run_ours(folder, sentences[:32 * last], 1)[0]

    return {DYNAMIC: functools.partial(peer, DYNAMIC), GROUPED: functools.partial(peer, GROUPED),
            LAUNCHED: launched, "ours": ours}

def trainer_in_all(folder, settings):
    "Seconds of one whole run of Trainer"
    sentences = choose_sentences(settings["sentences"])
    seconds = run_trainer(GROUPED, folder, sentences, settings["epochs"], 1)[1]
    print(f"  {GROUPED}: {seconds:.1f} s in all", flush=True)
    return seconds

def compiled_trainer(folder, settings):
    "Trainer with torch.compile: its first steps, its rate after them, and both together"
    sentences, epochs = choose_sentences(settings["sentences"]), settings["epochs"]
    steps = epochs * -(-len(sentences) // 32)
    first = min(80, steps // 2)
    last = min(first + settings["steps"], steps)
    started = time.perf_counter()
    stopwatch, _ = run_trainer(COMPILED, folder, sentences, epochs, first, last)
    begun = stopwatch.times[first] - started
    found = {"first_steps": first, "first_seconds": begun, "timed_steps": last - first,
             "milliseconds": stopwatch.milliseconds,
             "seconds": begun + stopwatch.milliseconds * (steps - first) / 1000}
    print(f"  {COMPILED}: {found}", flush=True)
    return found

# --- scoring ---

def scoring(folder, settings):
    "Name → sentences per second on one pass over the training sentences, medians of 3"
    sentences = choose_sentences(settings["sentences"]).sentence.tolist()
    fewer = sentences[:settings["piped"]]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer: Any = load_tokenizer(folder)
    model, half = load_model(folder), load_model(folder)
    torch.nn.Module.to(model, device)  # called so because transformers' own `to` has no types
    torch.nn.Module.to(half, device, torch.bfloat16)
    judge = {name: pipeline("text-classification", model=one, tokenizer=tokenizer, device=device)
             for name, one in (("fp32", model), ("bf16", half))}

    def ours(batch_size, precision):
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return predict_logits(model, tokenizer, sentences, batch_size=batch_size)

    runs = {f"pipeline, {precision}, batches of {size}":
            functools.partial(judge[precision], fewer, batch_size=size)
            for precision, size in (("fp32", 32), ("bf16", 32), ("bf16", 256))}
    runs |= {f"ours, {precision}, batches of {size}": functools.partial(ours, size, precision)
             for precision in ("fp32", "bf16") for size in (64, 256, 1024)}
    found = {}
    for name, run in runs.items():
        times = []
        for _ in range(settings["rounds"]):
            started = time.perf_counter()
            run()
            wait()
            times.append(time.perf_counter() - started)
        count = len(fewer) if name.startswith("pipeline") else len(sentences)
        found[name] = side_by_side.spread(count / seconds for seconds in times)
        print(f"  scoring: {name} {found[name]['median']:,.0f} sentences a second", flush=True)
    return found

# --- the page ---

def in_all_table(found):
    "4 epochs in all, Trainer and ours"
    ours = side_by_side.spread(found["in_all"])
    runs = len(found["in_all"])
    plural = "s" if runs > 1 else ""
    rows = [["ours", side_by_side.in_words(ours), f"{runs} whole run{plural}"]]
    if "trainer_in_all" in found:
        rows.append([GROUPED, f"{found['trainer_in_all']:.1f}", "1 whole run"])
    if whole := found.get("compiled_trainer"):
        rows.append([COMPILED, f"{whole['seconds']:.1f}",
                     f"the first {whole['first_steps']} steps {whole['first_seconds']:.1f} s, the "
                     f"rest at {whole['milliseconds']:.1f} ms, the rate of the next "
                     f"{whole['timed_steps']}"])
    return side_by_side.table(["BERT-base, all epochs", "seconds in all", "measured"], rows)

def memory_table(found):
    "Peaks of GPU memory"
    rows = [[name, f"{value:,}"] for name, value in found["memory_mb"].items()]
    return side_by_side.table(["BERT-base, training", "peak GPU memory (MB)"], rows)

def step_table(found):
    "minilm, and what else was tried with BERT-base"
    rows = [[f"minilm: {name}", f"{value:.2f}", ""]
            for name, value in found.get("minilm", {}).items()]
    for name, one in found.get("variants", {}).items():
        figures = [one, ""] if isinstance(one, str) \
            else [f"{one['ms']:.2f}", f"{one['first_seconds']:.1f}"]
        rows.append([f"BERT-base: {name}", *figures])
    header = ["one run each", "ms per step", f"seconds for the first {gpu_variants.STEPS} steps"]
    return side_by_side.table(header, rows)

def scoring_table(found):
    "Sentences per second"
    rows = [[name, side_by_side.in_words(values)]
            for name, values in found.get("scoring", {}).items()]
    return side_by_side.table(["scoring, BERT-base", "sentences per second"], rows)

def left_out(found):
    "What the faster variants would have saved, and what they cost"
    variants = {name: one for name, one in found.get("variants", {}).items()
                if not isinstance(one, str)}
    if not {gpu_variants.OURS, gpu_variants.JAGGED} <= set(variants): return []
    ours = variants[gpu_variants.OURS]["ms"]
    saved = ours - variants[gpu_variants.JAGGED]["ms"]
    notes = [f"Left out: flash attention on jagged tensors saves {saved:.1f} of {ours:.1f} ms and "
             "needs a second attention path through a prototype interface of torch. "
             "torch.nn.attention.varlen has no dropout: with it the model would be another."]
    if compiled := variants.get(gpu_variants.COMPILED):
        notes.append(f"Left out: torch.compile inside the captured step saves "
                     f"{ours - compiled['ms']:.1f} ms a step and takes "
                     f"{compiled['first_seconds']:.0f} s before it does, for every shape.")
    return notes

def write(size, settings, found):
    "The results so far"
    side_by_side.result(
        "gpu", size, title="GPU", corpus=side_by_side.corpus().name, unit="ms per step",
        question=f"How long does a training step of BERT-base take? bf16, batches of 32, "
                 f"{settings['sentences']:,} sentences of {side_by_side.corpus_in_words()}, "
                 f"{settings['epochs']} epochs.",
        settings=settings, **found,
        tables=[in_all_table(found), memory_table(found), step_table(found), scoring_table(found)],
        notes=[f"Trainer: steps {settings['warm_up'] + 1} to "
               f"{settings['warm_up'] + settings['steps']} of a run; ours: all steps of whole "
               "runs, the first, launched ones and capturing included; without CUDA graphs: the "
               "same steps launched, one run over fewer sentences.",
               *found.get("checks", {}).get("sentences", []), *left_out(found)])

def measure(size, settings, folders):
    "Everything that this benchmark finds, written as it goes"
    base, gpu = folders["BERT-base"], torch.cuda.is_available()
    found = {"in_all": [], "memory_mb": {}}
    runs = competitors(base, settings, found["in_all"], found["memory_mb"])
    trial = competitors(folders["minilm"], SETTINGS["tiny"], [], {})
    found["rounds"] = side_by_side.interleave(runs, settings["rounds"], warm_up=trial)
    sentences = choose_sentences(settings["sentences"])
    examples = encode(sentences.sentence, load_tokenizer(folders["minilm"]))
    if gpu: found["checks"] = gpu_checks.check_all(folders, sentences, examples)
    small = competitors(folders["minilm"], settings, [], {})
    found["minilm"] = {name: run() for name, run in small.items()}
    print(f"  minilm: {found['minilm']}", flush=True)
    found["scoring"] = scoring(base, settings)
    write(size, settings, found)
    found["trainer_in_all"] = trainer_in_all(base, settings)
    if gpu: found["variants"] = gpu_variants.measure(base, examples, sentences.label)
    write(size, settings, found)
    if not gpu: return  # compiling for a CPU takes minutes and says nothing about a GPU
    found["compiled_trainer"] = compiled_trainer(base, settings)
    write(size, settings, found)
    found["variants"] |= gpu_variants.measure(base, examples, sentences.label, True)
    write(size, settings, found)

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    if size != "tiny" and not torch.cuda.is_available():
        return print("GPU: there is none here, so nothing is measured")
    print(f"GPU, {size}: {settings['rounds']} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measure(size, settings, save_models(folder, toy=size == "tiny"))

if __name__ == "__main__": main()
