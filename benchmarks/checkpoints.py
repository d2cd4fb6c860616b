"""What does it cost to lose nothing? Ours, torch.save: python benchmarks/checkpoints.py [--quick]

Ours hashes every file, forces it onto the disk, renames, reads it back and hashes it again, and
removes the oldest; `torch.save` writes one file and leaves the rest to the system. Both have to
save the weights of minilm, the weights of the best epoch, and AdamW's memory.
"""
import itertools
import tempfile
import time
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

import torch

from cola_nbdev.checkpoints import save_checkpoint, snapshot
from cola_nbdev.model import load_model

SETTINGS = {"full": {"rounds": 7}, "quick": {"rounds": 2}, "tiny": {"rounds": 1}}
MINUTE = 60  # seconds between two checkpoints

def tensors(name):
    "What is to be saved in the middle of a run"
    model = load_model(name)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters(): parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    best = {name: values.clone() for name, values in model.state_dict().items()}
    return snapshot(model, optimizer, best, torch.zeros(250))

def competitors(folder, saved):
    "Name → function that returns seconds"
    steps = itertools.count(1)

    def timed(save):
        started = time.perf_counter()
        save()
        return time.perf_counter() - started

    def ours(): save_checkpoint(folder/"ours", next(steps), saved, {"epoch": 1})

    def bare(): torch.save(saved, folder/"torch.pt")

    return {"torch.save, nothing checked": lambda: timed(bare), "ours": lambda: timed(ours)}

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Checkpoints, {size}: {settings['rounds']} rounds", flush=True)
    saved = tensors("tiny" if size == "tiny" else "minilm")
    megabytes = sum(values.nbytes for file in saved.values() for values in file.values()) / 1e6
    # not a temporary folder of the system: that may be memory, which no disk has to wait for
    with tempfile.TemporaryDirectory(dir=".") as folder:
        rounds = side_by_side.interleave(competitors(Path(folder), saved), settings["rounds"])
    ours = side_by_side.spread(times["ours"] for times in rounds)
    share = {name: value / MINUTE for name, value in ours.items()}
    side_by_side.result(
        "checkpoints", size, title="Checkpoints", unit="seconds", settings=settings, rounds=rounds,
        megabytes=megabytes, share_of_a_minute=share,
        question=f"What does a checkpoint of minilm cost, {megabytes:.0f} MB with AdamW's memory "
                 "and the weights of the best epoch?",
        notes=[f"With one checkpoint a minute, {share['median']:.1%} ({share['min']:.1%}–"
               f"{share['max']:.1%}) of the time goes to saving."])

if __name__ == "__main__": main()
