"""How fast is a training step? The seed's loop, three ways to set transformers' Trainer, and our `train`: python benchmarks/training.py [--quick]

All train minilm on batches of 32 of the same random sentences, fp32. A competitor's time per step is that of its loop alone, from before
the first batch is fetched to after the last step: for Trainer between its callbacks `on_epoch_begin` and `on_step_end`, for ours what `train`
reports as `training_seconds`. Tokenizing, loading, saving and evaluating are counted for nobody.

Who pads every sentence to the same length needs the same time for every step, so a few steps are enough. Who does not, needs a fair mix of
lengths: ours passes over all the sentences; Trainer's grouped batches are all of those its sampler makes of them; of its dynamically padded ones a part is run
whose lengths are spread evenly over those of all.
"""
import contextlib
import tempfile
import time
from unittest.mock import patch

import side_by_side

side_by_side.stay_on_the_processor()

import pandas as pd
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, default_data_collator, get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import get_length_grouped_indices

from cola_nbdev.model import load_model
from cola_nbdev.tokenization import LengthSampler,encode,load_tokenizer
from cola_nbdev.settings import PLAIN,Config
from cola_nbdev.training import train

SEED, RUN_GLUE, DYNAMIC, GROUPED = "seed's loop", "Trainer as run_glue sets it", "Trainer, dynamic padding", "Trainer, grouped by length"
BATCH = 32
SETTINGS = { # the steps of SEED, RUN_GLUE and DYNAMIC; the others take a whole pass
    "full": {"sentences": 50 * BATCH, "steps": {SEED: 8, RUN_GLUE: 4, DYNAMIC: 16}, "rounds": 3, "check_steps": 8},
    "quick": {"sentences": 12 * BATCH, "steps": {SEED: 2, RUN_GLUE: 1, DYNAMIC: 4}, "rounds": 1, "check_steps": 3},
    "tiny": {"sentences": 3 * BATCH, "steps": {SEED: 1, RUN_GLUE: 1, DYNAMIC: 1}, "rounds": 1, "check_steps": 2}}
WARM_UP = {"sentences": BATCH, "steps": {SEED: 1, RUN_GLUE: 1, DYNAMIC: 1}}
MEMORY = {"sentences": 8 * BATCH, "longest_of": 50 * BATCH, "steps": {SEED: 2, RUN_GLUE: 2, DYNAMIC: 8}}

# --- the competitors' loops ---

def seed_loop(model, tokenizer, sentences, in_order=False, weight_decay=.01):
    "Seconds per step of the loop of the seed, its calls kept as they are: pad to 64, AdamW as it comes, the loss read in every step"
    encoded = tokenizer(list(sentences.sentence), max_length=64, padding="max_length", truncation=True, return_tensors="pt")
    dataset = TensorDataset(encoded["input_ids"], encoded["attention_mask"], torch.tensor(sentences.label.to_numpy()))
    batches = DataLoader(dataset, sampler=(SequentialSampler if in_order else RandomSampler)(dataset), batch_size=BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, eps=1e-8, weight_decay=weight_decay)
    scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=len(batches))
    model.train()
    total_train_loss, started = 0, time.perf_counter()
    for input_ids, attention_mask, labels in batches:
        model.zero_grad()
        loss = model(input_ids, token_type_ids=None, attention_mask=attention_mask, labels=labels).loss
        total_train_loss += loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return (time.perf_counter() - started) / len(batches)

class Stopwatch(TrainerCallback):
    "Notes when Trainer is about to fetch its first batch and when its last step is done"
    def on_epoch_begin(self, *arguments, **more): self.started = time.perf_counter()
    def on_step_end(self, *arguments, **more): self.finished = time.perf_counter()

def trainer_loop(model, tokenizer, sentences, pad_to=None, in_order=False):
    "Seconds per step of Trainer, its defaults kept (fused AdamW among them); padded to `pad_to`, or each batch to its longest sentence"
    padding = {"padding": "max_length", "max_length": pad_to} if pad_to else {"max_length": 64}
    encoded = tokenizer(list(sentences.sentence), truncation=True, **padding)
    # a list serves examples faster than the tables of `datasets` that run_glue uses
    examples = [dict(zip([*encoded, "label"], row)) for row in zip(*encoded.values(), map(int, sentences.label), strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(scratch, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=2e-5, save_strategy="no", report_to="none",
                                     disable_tqdm=True, use_cpu=True, train_sampling_strategy="sequential" if in_order else "random")
        stopwatch = Stopwatch()
        trainer = Trainer(model, settings, train_dataset=examples, callbacks=[stopwatch],
                          data_collator=default_data_collator if pad_to else DataCollatorWithPadding(tokenizer))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return (stopwatch.finished - stopwatch.started) / trainer.state.global_step

# --- a fair mix of lengths ---

def evenly(sentences, lengths, count):
    "The sentences of `count` of the batches, chosen so that their padded lengths are spread evenly over those of all batches"
    batches = sorted((range(start, min(start + BATCH, len(lengths))) for start in range(0, len(lengths), BATCH)), key=lambda batch: max(lengths[i] for i in batch))
    chosen = [batches[int((number + .5) * len(batches) / count)] for number in range(count)]
    return sentences.iloc[[i for batch in chosen for i in batch]]

def grouped(sentences, lengths, of_all):
    """The sentences in the order in which `train_sampling_strategy="group_by_length"` takes them

    Trainer sorts groups of up to 50 batches, fewer where the training set is small. Left to itself it would sort our selection in smaller groups than
    the whole training set and pad more: so its own function is asked for groups of the size it chooses for the whole of it."""
    order = get_length_grouped_indices(lengths, BATCH, mega_batch_mult=max(1, min(of_all // (BATCH * 4), 50)), generator=torch.Generator().manual_seed(0))
    return sentences.iloc[order]

# --- the race ---

def choose(count, longest_of=0):
    """Sentences drawn at random, the same in every call

    With `longest_of`, a batch of the longest of so many is among them: the heaviest that batches by length contain, so that a short run meets the peak of a long one."""
    sentences = side_by_side.corpus().train
    if not longest_of: return sentences.sample(count, random_state=0)
    drawn = sentences.sample(longest_of, random_state=0)
    heaviest = drawn.loc[drawn.sentence.str.len().nlargest(BATCH).index]
    return pd.concat([heaviest, drawn.drop(heaviest.index)[:count - BATCH]])

def competitors(settings):
    "Name → function that trains a fresh network and returns milliseconds per step"
    sentences, steps, of_all = choose(settings["sentences"], settings.get("longest_of", 0)), settings["steps"], len(side_by_side.corpus().train)
    tokenizer = load_tokenizer("minilm")
    lengths = [len(ids) for ids in encode(sentences.sentence, tokenizer)]
    first = lambda name: sentences[:steps[name] * BATCH]
    ours = lambda: train(sentences, Config(model="minilm", batch_size=BATCH, epochs=1, validation_fraction=0, **PLAIN), progress=False).history[0]["training_seconds"]
    return {SEED: lambda: 1000 * seed_loop(load_model("minilm"), tokenizer, first(SEED)),
            RUN_GLUE: lambda: 1000 * trainer_loop(load_model("minilm"), tokenizer, first(RUN_GLUE), pad_to=128),
            DYNAMIC: lambda: 1000 * trainer_loop(load_model("minilm"), tokenizer, evenly(sentences, lengths, steps[DYNAMIC]), in_order=True),
            GROUPED: lambda: 1000 * trainer_loop(load_model("minilm"), tokenizer, grouped(sentences, lengths, of_all), in_order=True),
            "ours": lambda: 1000 * ours() / (len(sentences) / BATCH)}

# --- do they compute the same? ---

@contextlib.contextmanager
def recorded_losses():
    "A list that gets every loss whose gradient is asked for: one per step in any training loop, so nobody's loop has to be changed to be watched"
    losses, backward = [], torch.Tensor.backward
    def recording(loss, *arguments, **more):
        losses.append(loss.item())
        return backward(loss, *arguments, **more)
    with patch.object(torch.Tensor, "backward", recording): yield losses

def trajectories(steps):
    """Name → the losses of the first steps, where all start from the same weights and take the same batches in the same order

    Dropout is off, since everybody draws its random bits in another order. So is weight decay, which Trainer spares biases and the seed does not."""
    sentences, found = choose(steps * BATCH), {}
    with tempfile.TemporaryDirectory() as folder:
        network, tokenizer = load_model("minilm"), load_tokenizer("minilm")
        network.config.hidden_dropout_prob = network.config.attention_probs_dropout_prob = 0.0
        for part in (network, tokenizer): part.save_pretrained(folder)
        config = Config(model=folder, epochs=1, batch_size=BATCH, learning_rate=2e-5, weight_decay=0, validation_fraction=0)
        batches = list(LengthSampler([len(ids) for ids in encode(sentences.sentence, tokenizer)], BATCH, config.seed)) # as `train` makes them
        in_order = sentences.iloc[[i for batch in batches for i in batch]]
        for name, run in {SEED: lambda: seed_loop(load_model(folder), tokenizer, in_order, in_order=True, weight_decay=0),
                          DYNAMIC: lambda: trainer_loop(load_model(folder), tokenizer, in_order, in_order=True),
                          "ours": lambda: train(sentences, config, progress=False)}.items():
            with recorded_losses() as losses: run()
            found[name] = losses
    return found

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Training, {size}: {settings['rounds']} rounds", flush=True)
    losses = trajectories(settings["check_steps"])
    difference = max(abs(ours - other) for name in losses for ours, other in zip(losses["ours"], losses[name], strict=True))
    rounds = side_by_side.interleave(competitors(settings), settings["rounds"], warm_up=competitors(WARM_UP))
    memory = side_by_side.memory(competitors, WARM_UP if size == "tiny" else MEMORY, names=[SEED, "ours"] if size != "full" else None)
    side_by_side.result("training", size, title="Training", corpus=side_by_side.corpus().name, unit="ms per step", settings=settings,
        question=f"How long does a training step take? minilm, batches of {BATCH}, fp32, {settings['sentences']:,} random sentences of {side_by_side.corpus_in_words()}.",
        rounds=rounds, memory=memory, losses=losses, largest_loss_difference=difference,
        notes=[f"The same is computed: with dropout off and the same batches in the same order, the losses of {settings['check_steps']} steps "
               f"({SEED}; {DYNAMIC}; ours) " + (f"differ by at most {difference:.1e}." if difference else "are equal to the last digit."),
               f"Memory was measured over a few batches of {BATCH}, among which is one of the longest of {50 * BATCH:,} sentences: the heaviest of an epoch, nearly."])

if __name__ == "__main__": main()
