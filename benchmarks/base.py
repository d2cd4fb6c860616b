"""A base-size model: how fast is its step, and what does its checkpoint cost?

    python benchmarks/base.py [--quick]

mpnet (extra `[base]`), batches of 32, fp32: our `train`; Trainer with sentences grouped by length;
the matrix products of the step alone, as in limit.py. And one checkpoint with AdamW's memory and
the weights of the best epoch, as in checkpoints.py.
"""
import tempfile
import time
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

from checkpoints import tensors
from limit import PRODUCTS, Products, seconds
from training import BATCH, GROUPED, choose, grouped, our_loop, trainer_loop
from transformers import AutoConfig

from cola_nbdev.checkpoints import save_checkpoint
from cola_nbdev.model import load_model
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import LengthSampler, encode, find_model, load_tokenizer

CHECKPOINT = "a checkpoint (ms)"
SETTINGS = {"full": {"model": "mpnet", "sentences": 20 * BATCH, "rounds": 3},
            "quick": {"model": "mpnet", "sentences": 6 * BATCH, "rounds": 1},
            "tiny": {"model": "minilm", "sentences": BATCH, "rounds": 1}}

def competitors(settings, folder, saved):
    "Name → function that returns milliseconds per step, or of a checkpoint"
    name, sentences = settings["model"], choose(settings["sentences"])
    tokenizer = load_tokenizer(name)
    lengths = [len(ids) for ids in encode(sentences.sentence, tokenizer)]
    by_length = grouped(sentences, lengths, of_all=len(side_by_side.corpus().train))
    sampler = LengthSampler(lengths, BATCH, Config().seed)  # as `train` makes them
    batches = [[lengths[row] for row in batch] for batch in sampler]
    products = Products(AutoConfig.from_pretrained(find_model(name)))

    def checkpoint():
        started = time.perf_counter()
        save_checkpoint(folder, time.monotonic_ns(), saved, {"epoch": 1})
        return 1000 * (time.perf_counter() - started)

    return {PRODUCTS: lambda: 1000 * sum(seconds(products.of(batch)) for batch in batches)
            / len(batches),
            GROUPED: lambda: 1000 * trainer_loop(load_model(name), tokenizer, by_length,
                                                 in_order=True),
            CHECKPOINT: checkpoint,
            "ours": lambda: 1000 * our_loop(sentences, name)}

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"A base-size model, {size}: {settings['rounds']} rounds", flush=True)
    saved = tensors(settings["model"])
    megabytes = sum(values.nbytes for file in saved.values() for values in file.values()) / 1e6
    with tempfile.TemporaryDirectory(dir=".") as folder:  # on a disk, and not in memory
        rounds = side_by_side.interleave(competitors(settings, Path(folder), saved),
                                         settings["rounds"])
    share = side_by_side.ratios(rounds)[PRODUCTS]
    cost = side_by_side.spread(times[CHECKPOINT] / 1000 for times in rounds)
    # `train` waits a minute between two, or fifty times as long as one takes
    of_the_time = {key: value / (max(60, 50 * value) + value) for key, value in cost.items()}
    side_by_side.result(
        "base", size, title="A base-size model", corpus=side_by_side.corpus().name,
        unit="ms per step", settings=settings, rounds=rounds, share_of_limit=share,
        megabytes=megabytes, checkpoint_seconds=cost, checkpoint_share=of_the_time,
        question=f"How long does a training step of {settings['model']} take? Batches of {BATCH}, "
                 f"fp32, {settings['sentences']:,} random sentences of "
                 f"{side_by_side.corpus_in_words()}.",
        notes=[f"The products alone would take {share['median']:.0%} of the time of our step.",
               f"A checkpoint has {megabytes:,.0f} MB and takes {cost['median']:.1f} s; one a "
               "minute, or every fifty times as long, is "
               f"{of_the_time['median']:.1%} of the time."])

if __name__ == "__main__": main()
