"""How fast is a training step? python benchmarks/training.py [--quick]

The tutorial's loop, three ways to set transformers' Trainer, and our `train`. All train minilm on
batches of 32 of the same random sentences, in fp32; the two fastest also in bf16. A competitor's
time per step is that of its loop alone, from before the first batch is fetched to after the last
step: for Trainer between its callbacks `on_epoch_begin` and `on_step_end`, for ours what `train`
reports as `training_seconds`.
Tokenizing, loading, saving and evaluating are counted for nobody.

A loop that pads every sentence to the same length needs the same time for every step, so a few
steps are enough. The others need a fair mix of lengths: ours passes over all the sentences;
Trainer's grouped batches are all of those its sampler makes of them; of its dynamically padded ones
a part is run whose lengths are spread evenly over those of all.
"""
import contextlib
import tempfile
import time
from functools import partial
from unittest.mock import patch

import side_by_side

side_by_side.stay_on_the_processor()

import pandas as pd
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    get_linear_schedule_with_warmup,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from cola_nbdev.model import load_model
from cola_nbdev.settings import PLAIN, Config
from cola_nbdev.tokenization import LengthSampler, encode, load_tokenizer
from cola_nbdev.training import train

TUTORIAL, RUN_GLUE = "tutorial's loop", "Trainer as run_glue sets it"
DYNAMIC, GROUPED = "Trainer, dynamic padding", "Trainer, grouped by length"
BATCH = 32
SETTINGS = {  # the steps of TUTORIAL, RUN_GLUE and DYNAMIC; the others take a whole pass
    "full": {"sentences": 50 * BATCH, "steps": {TUTORIAL: 8, RUN_GLUE: 4, DYNAMIC: 16},
             "rounds": 3, "check_steps": 8},
    "quick": {"sentences": 12 * BATCH, "steps": {TUTORIAL: 2, RUN_GLUE: 1, DYNAMIC: 4},
              "rounds": 1, "check_steps": 3},
    "tiny": {"sentences": 3 * BATCH, "steps": {TUTORIAL: 1, RUN_GLUE: 1, DYNAMIC: 1},
             "rounds": 1, "check_steps": 2}}
WARM_UP = {"sentences": BATCH, "steps": {TUTORIAL: 1, RUN_GLUE: 1, DYNAMIC: 1}}
MEMORY = {"sentences": 8 * BATCH, "longest_of": 50 * BATCH,
          "steps": {TUTORIAL: 2, RUN_GLUE: 2, DYNAMIC: 8}}

# --- the competitors' loops ---

def tutorial_loop(model, tokenizer, sentences, in_order=False, weight_decay=.01):
    """Seconds per step of the tutorial's loop, its calls kept as they are

    Pad to 64, AdamW as it comes, the loss read in every step."""
    encoded = tokenizer(list(sentences.sentence), max_length=64, padding="max_length",
                        truncation=True, return_tensors="pt")
    dataset = TensorDataset(encoded["input_ids"], encoded["attention_mask"],
                            torch.tensor(sentences.label.to_numpy()))
    sampler = SequentialSampler(dataset) if in_order else RandomSampler(dataset)
    batches = DataLoader(dataset, sampler=sampler, batch_size=BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, eps=1e-8, weight_decay=weight_decay)
    scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0,
                                                num_training_steps=len(batches))
    model.train()
    total_train_loss, started = 0, time.perf_counter()
    for input_ids, attention_mask, labels in batches:
        model.zero_grad()
        loss = model(input_ids, token_type_ids=None, attention_mask=attention_mask,
                     labels=labels).loss
        total_train_loss += loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return (time.perf_counter() - started) / len(batches)

class Stopwatch(TrainerCallback):
    "Notes when Trainer is about to fetch its first batch and when its last step is done"
    def on_epoch_begin(self, *_, **__): self.started = time.perf_counter()
    def on_step_end(self, *_, **__): self.finished = time.perf_counter()

def trainer_loop(model, tokenizer, sentences, pad_to=None, in_order=False, bf16=False):
    """Seconds per step of Trainer, its defaults kept (fused AdamW among them)

    Sentences are padded to `pad_to`, or each batch to its longest sentence."""
    padding = {"padding": "max_length", "max_length": pad_to} if pad_to else {"max_length": 64}
    encoded = tokenizer(list(sentences.sentence), truncation=True, **padding)
    # a list serves examples faster than the tables of `datasets` that run_glue uses
    examples = [dict(zip([*encoded, "label"], row, strict=True))
                for row in zip(*encoded.values(), map(int, sentences.label), strict=True)]
    collator = default_data_collator if pad_to else DataCollatorWithPadding(tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            scratch, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=2e-5,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            bf16=bf16,
            train_sampling_strategy="sequential" if in_order else "random")
        stopwatch = Stopwatch()
        trainer = Trainer(model, settings, train_dataset=examples, callbacks=[stopwatch],
                          data_collator=collator)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return (stopwatch.finished - stopwatch.started) / trainer.state.global_step

# --- a fair mix of lengths ---

def evenly(sentences, lengths, count):
    """The sentences of `count` of the batches

    Chosen so that their padded lengths are spread evenly over those of all batches."""
    batches = [range(start, min(start + BATCH, len(lengths)))
               for start in range(0, len(lengths), BATCH)]
    batches.sort(key=lambda batch: max(lengths[row] for row in batch))
    chosen = [batches[int((number + .5) * len(batches) / count)] for number in range(count)]
    return sentences.iloc[[row for batch in chosen for row in batch]]

def grouped(sentences, lengths, of_all):
    """The sentences in the order in which `train_sampling_strategy="group_by_length"` takes them

    Trainer sorts groups of up to 50 batches, fewer where the training set is small. Left to itself
    it would sort our selection in smaller groups than the whole training set and pad more: so its
    own function is asked for groups of the size it chooses for the whole of it."""
    multiple = max(1, min(of_all // (BATCH * 4), 50))
    order = get_length_grouped_indices(lengths, BATCH, mega_batch_mult=multiple,
                                       generator=torch.Generator().manual_seed(0))
    return sentences.iloc[order]

# --- the race ---

def choose(count: int, longest_of: int = 0) -> pd.DataFrame:
    """Sentences drawn at random, the same in every call

    With `longest_of`, a batch of the longest of so many is among them: the heaviest that batches by
    length contain, so that a short run meets the peak of a long one."""
    sentences = side_by_side.corpus().train
    if not longest_of: return sentences.sample(count, random_state=0)
    drawn = sentences.sample(longest_of, random_state=0)
    heaviest = drawn.loc[drawn.sentence.str.len().nlargest(BATCH).index]
    return pd.concat([heaviest, drawn.drop(heaviest.index).head(count - BATCH)])

def our_loop(sentences, model="minilm", precision="no"):
    "Seconds per step of `train`"
    config = Config(model=model, batch_size=BATCH, epochs=1, validation_fraction=0,
                    mixed_precision=precision, **PLAIN)
    run = train(sentences, config, progress=False)
    return run.history[0]["training_seconds"] / (len(sentences) / BATCH)

def competitors(settings):
    "Name → function that trains a new model and returns milliseconds per step"
    sentences = choose(settings["sentences"], settings.get("longest_of", 0))
    tokenizer, steps = load_tokenizer("minilm"), settings["steps"]
    lengths = [len(ids) for ids in encode(sentences.sentence, tokenizer)]
    even = evenly(sentences, lengths, steps[DYNAMIC])
    by_length = grouped(sentences, lengths, of_all=len(side_by_side.corpus().train))

    def peer(loop, rows, **options):
        return lambda: 1000 * loop(load_model("minilm"), tokenizer, rows, **options)

    return {TUTORIAL: peer(tutorial_loop, sentences[:steps[TUTORIAL] * BATCH]),
            RUN_GLUE: peer(trainer_loop, sentences[:steps[RUN_GLUE] * BATCH], pad_to=128),
            DYNAMIC: peer(trainer_loop, even, in_order=True),
            GROUPED: peer(trainer_loop, by_length, in_order=True),
            "ours": lambda: 1000 * our_loop(sentences),
            f"{GROUPED}, bf16": peer(trainer_loop, by_length, in_order=True, bf16=True),
            "ours, bf16": lambda: 1000 * our_loop(sentences, precision="bf16")}

# --- do they compute the same? ---

@contextlib.contextmanager
def recorded_losses():
    """A list that gets every loss whose gradient is asked for

    That is one per step in any training loop: no loop has to be changed to be watched."""
    losses, backward = [], torch.Tensor.backward

    def recording(loss, *arguments, **options):
        losses.append(loss.item())
        return backward(loss, *arguments, **options)

    with patch.object(torch.Tensor, "backward", recording): yield losses

def trajectories(steps):
    """Name → losses of the first steps, from the same weights on the same batches in the same order

    Dropout is off, since each draws its random bits in another order. So is weight decay, which
    Trainer spares biases and the tutorial does not."""
    sentences, found = choose(steps * BATCH), {}
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = load_model("minilm"), load_tokenizer("minilm")
        model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        config = Config(model=folder, epochs=1, batch_size=BATCH, learning_rate=2e-5,
                        weight_decay=0, validation_fraction=0)
        lengths = [len(ids) for ids in encode(sentences.sentence, tokenizer)]
        batches = LengthSampler(lengths, BATCH, config.seed)  # as `train` makes them
        in_order = sentences.iloc[[row for batch in batches for row in batch]]

        def peer(loop, **options):
            return loop(load_model(folder), tokenizer, in_order, in_order=True, **options)

        runs = {TUTORIAL: partial(peer, tutorial_loop, weight_decay=0),
                DYNAMIC: partial(peer, trainer_loop),
                "ours": partial(train, sentences, config, progress=False)}
        for name, run in runs.items():
            with recorded_losses() as losses: run()
            found[name] = losses
    return found

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Training, {size}: {settings['rounds']} rounds", flush=True)
    losses = trajectories(settings["check_steps"])
    difference = max(abs(ours - other) for name in losses
                     for ours, other in zip(losses["ours"], losses[name], strict=True))
    rounds = side_by_side.interleave(competitors(settings), settings["rounds"],
                                     warm_up=competitors(WARM_UP))
    memory = side_by_side.memory(competitors, WARM_UP if size == "tiny" else MEMORY,
                                 names=[TUTORIAL, "ours"] if size != "full" else None)
    apart = f"differ by at most {difference:.1e}" if difference else "are equal to the last digit"
    side_by_side.result(
        "training", size, title="Training", corpus=side_by_side.corpus().name, unit="ms per step",
        settings=settings, rounds=rounds, memory=memory, losses=losses,
        largest_loss_difference=difference,
        question=f"How long does a training step take? minilm, batches of {BATCH}, fp32 (two rows: "
                 f"bf16), {settings['sentences']:,} random sentences of "
                 f"{side_by_side.corpus_in_words()}.",
        notes=["The same is computed: with dropout off and the same batches in the same order, the "
               f"losses of {settings['check_steps']} steps ({TUTORIAL}; {DYNAMIC}; ours) {apart}.",
               f"Memory was measured over a few batches of {BATCH}, among which is one of the "
               f"longest of {50 * BATCH:,} sentences: the heaviest of an epoch, nearly."])

if __name__ == "__main__": main()
