"""What does it cost to score a file instead of a list? python benchmarks/bulk.py [--quick]

`cola score` reads a CSV in chunks, encodes, judges, writes another CSV and keeps the scores of each
chunk, forced to the disk; `predict_logits` gets the same sentences in a list and gives numbers
back. Beside the time, the peak memory of scoring a file and one that is many times as long, each in
a process of its own: it should hardly grow. The sentences are those of the demo corpus, repeated
with a number in front, so that no two are equal.
"""

import csv
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

from cola_nbdev.data import load_corpus
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.prediction import Judge
from cola_nbdev.scoring import score_file
from cola_nbdev.tokenization import load_tokenizer

SETTINGS = {  # sentences whose scoring is timed; and the two sizes whose memory is compared
    "full": {"model": "minilm", "sentences": 100_000, "few": 1_000, "many": 100_000, "rounds": 1},
    "quick": {"model": "minilm", "sentences": 1_000, "few": 200, "many": 2_000, "rounds": 1},
    "tiny": {"model": "tiny", "sentences": 100, "few": 20, "many": 200, "rounds": 1},
}
MORE = 150  # megabytes that the long file may need more than the short one


def numbered(count):
    "So many sentences, no two of them equal"
    demo = load_corpus("demo").train.sentence.tolist()
    return [f"{number}: {sentence}" for number, sentence in enumerate(islice(cycle(demo), count))]


def saved(name, folder):
    "The folder of a model whose head is random: how long it takes does not depend on what it says"
    tokenizer = load_tokenizer(name)
    tokenizer.model_max_length = 64
    load_model(name).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def write(path, count):
    "A CSV of so many sentences"
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["number", "sentence"])
        table.writerows(enumerate(numbered(count)))
    return path


def score_to(judge, source, out):
    "What `cola score` does once the model is loaded"
    score_file(judge, source, out, overwrite=True, progress=False)


def score(judge, source):
    score_to(judge, source, source.with_name("scored.csv"))


def competitors(settings, folder):
    "Name → function that returns seconds"
    judge, source, sentences = (
        Judge(folder / "model"),
        write(folder / f"source {settings['sentences']}.csv", settings["sentences"]),
        numbered(settings["sentences"]),
    )

    def timed(work):
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return {
        "ours": lambda: timed(lambda: score(judge, source)),
        "predict_logits in memory": lambda: timed(
            lambda: predict_logits(judge.model, judge.tokenizer, sentences, max_length=64)
        ),
    }


def for_memory(settings):
    "Name → function: files of two sizes, written before by the process that asks"
    folder = Path(settings["folder"])
    judge = Judge(folder / "model")
    return {
        f"{count:,} sentences": lambda source=folder / f"{count}.csv": score(judge, source)
        for count in (settings["few"], settings["many"])
    }


def main():
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(
        f"Scoring files, {size}: {settings['sentences']:,} sentences, "
        f"rounds: {settings['rounds']}",
        flush=True,
    )
    Path("runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir="runs"
    ) as temporary:  # elsewhere it may be memory, which no disk has to wait for
        folder = Path(temporary).resolve()
        saved(settings["model"], folder)
        warm_up = competitors(
            SETTINGS["tiny"], folder
        )  # the files are small, the model is the one of this size
        rounds = side_by_side.interleave(competitors(settings, folder), settings["rounds"], warm_up)
        for count in (settings["few"], settings["many"]):
            write(folder / f"{count}.csv", count)
        memory = side_by_side.memory(
            for_memory,
            {**settings, "folder": str(folder)},
            [f"{settings['few']:,} sentences", f"{settings['many']:,} sentences"],
        )
    few, many = (found["peak_megabytes"] for found in memory.values())
    rows = [
        [name, f"{found['peak_megabytes']:,}", f"{found['growth_megabytes']:,}"]
        for name, found in memory.items()
    ]
    side_by_side.result(
        "bulk",
        size,
        title="Files of any size",
        unit="seconds",
        settings=settings,
        rounds=rounds,
        memory_of_files=memory,
        more_megabytes=many - few,
        question=f"What does it cost to score {settings['sentences']:,} sentences from file to "
        "file, beside judging a list of them?",
        tables=[
            side_by_side.table(
                ["scoring a file of", "peak memory (MB)", "of which its own (MB)"], rows
            )
        ],
        notes=[
            f"The long file needs {many - few} MB more than the short one; "
            f"{MORE} is the most it may need."
        ],
    )


if __name__ == "__main__":
    main()
