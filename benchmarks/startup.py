"""How long until the first sentence is judged? python benchmarks/startup.py [--quick]

`cola predict` and a script around `transformers.pipeline`: each is a process of its own that loads
the same saved model and prints one verdict; the clock runs from its start until the verdict can be
read. Beside them what nobody can go below: the imports of torch and of transformers' BERT.
`cola --help` loads neither, and neither does `cola predict` where `cola export` was run before.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

SETTINGS = {"full": {"rounds": 5}, "quick": {"rounds": 1}, "tiny": {"rounds": 1}}
SENTENCE = "The keys is on the table."
COLA = "from cola_nbdev.cli import main; main()"
PIPELINE = ("from transformers import pipeline; import sys; "
            "print(pipeline('text-classification', sys.argv[1])(sys.argv[2]), flush=True)")
IMPORTS = ("import torch; from transformers import BertForSequenceClassification; "
           "print('done', flush=True)")

def until_first_line(*command):
    "Seconds from the start of a process to its first line"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          env=environment) as process:
        assert process.stdout  # it is a pipe
        if not process.stdout.readline(): raise RuntimeError(f"{command[0]} printed nothing")
        seconds = time.perf_counter() - started
        process.stdout.read()
    return seconds

def competitors(folder, exported):
    "Name → function that returns seconds"
    commands = {"pipeline in a script": (PIPELINE, folder, SENTENCE),
                "importing torch and BERT": (IMPORTS,),
                "ours without an export": (COLA, "predict", folder, SENTENCE),
                "ours": (COLA, "predict", exported, SENTENCE),
                "cola --help": (COLA, "--help")}
    return {name: partial(until_first_line, sys.executable, "-c", *command)
            for name, command in commands.items()}

def export(folder):
    "Write ONNX beside a model, in fp32"
    from cola_nbdev.export import write_onnx
    from cola_nbdev.prediction import Judge
    judge = Judge(folder)
    write_onnx(judge.model, judge.tokenizer, folder)

def save_fine_tuned(folder):
    "A minilm that has seen a few sentences: how well it judges makes no difference here"
    from cola_nbdev.data import load_corpus
    from cola_nbdev.prediction import save_judge
    from cola_nbdev.settings import PLAIN, Config
    from cola_nbdev.training import train
    config = Config(epochs=1, validation_fraction=0, **PLAIN)
    save_judge(train(load_corpus("demo").train.head(32), config, progress=False), folder)

def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Start-up, {size}: {settings['rounds']} rounds", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        model, exported = Path(scratch)/"model", Path(scratch)/"exported"
        save_fine_tuned(model)
        export(shutil.copytree(model, exported))
        rounds = side_by_side.interleave(competitors(str(model), str(exported)),
                                         settings["rounds"])
    ours, without, imports = (
        side_by_side.spread(times[name] for times in rounds)
        for name in ("ours", "ours without an export", "importing torch and BERT"))
    side_by_side.result(
        "startup", size, title="Start-up", unit="seconds", settings=settings, rounds=rounds,
        question="How long from the start of a process until it has printed the first verdict, "
                 "loading the model (minilm) included?",
        notes=[f"After `cola export`, `cola predict` takes {side_by_side.in_words(ours)} s; "
               f"without it, {side_by_side.in_words(without)} s. The imports of torch and of the "
               f"BERT of transformers alone take {imports['median']:.2f} s.",
               "Files were in the system's cache: the first start after a reboot takes longer."])

if __name__ == "__main__": main()
