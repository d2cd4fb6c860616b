"""What do workers gain, and does their memory stay flat? python benchmarks/engine.py [--quick]

A folder of CSV shards is scored by this process alone, which computes on all cores, and by two
workers of Ray with a thread each: `score_folder` with its two engines, in turns, from loading the
model to the manifest, the start of Ray and of its workers included and also given by itself. Then a
folder of a million rows is scored by the workers, and the memory of each is looked at twice a
second from outside. The sentences are those of the demo corpus, repeated with a number in front, so
that no two are equal. Needs Ray: pip install "cola_nbdev[ray]"
"""

import csv
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

import torch
from bulk import numbered, saved

from cola_nbdev.engine import score_folder

SETTINGS = {  # shards and rows whose scoring is timed; and those over which the memory is watched
    "full": {
        "model": "minilm",
        "shards": 20,
        "rows": 5_000,
        "memory_model": "tiny",
        "memory_shards": 100,
        "memory_rows": 10_000,
        "rounds": 1,
    },  # with minilm a million rows would take an hour
    "quick": {
        "model": "minilm",
        "shards": 8,
        "rows": 1_000,
        "memory_model": "tiny",
        "memory_shards": 8,
        "memory_rows": 500,
        "rounds": 1,
    },
    "tiny": {
        "model": "tiny",
        "shards": 4,
        "rows": 50,
        "memory_model": "tiny",
        "memory_shards": 4,
        "memory_rows": 100,
        "rounds": 1,
    },
}
WORKERS = 2
FLAT = 1.1  # at most this many times as much memory in the last quarter as in the second


def write(folder, shards, rows):
    "A folder of CSV files, no two of whose sentences are equal"
    folder.mkdir()
    sentences = numbered(shards * rows)
    for number in range(shards):
        part = sentences[number * rows : (number + 1) * rows]
        (folder / f"part-{number:04}.csv").write_text(
            "sentence\n" + "".join('"' + sentence.replace('"', '""') + '"\n' for sentence in part),
            encoding="utf-8",
        )
    return folder


def score(folder, source, engine):
    "Seconds from the command to the manifest"
    out = folder / f"{source.name} scored by {engine}"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    score_folder(
        folder / "model",
        source,
        out,
        engine,
        workers=WORKERS if engine == "ray" else None,
        progress=False,
    )
    return time.perf_counter() - started


def differing(first, second):
    "How many probabilities of two folders differ, and by how much; None if anything else does"
    count, most = 0, 0
    names = sorted(path.name for path in first.glob("*.csv"))
    if names != sorted(path.name for path in second.glob("*.csv")):
        return None
    for name in names:
        with (
            open(first / name, newline="", encoding="utf-8") as one,
            open(second / name, newline="", encoding="utf-8") as other,
        ):
            for here, there in zip_longest(csv.DictReader(one), csv.DictReader(other)):
                if not here or not there or here["sentence"] != there["sentence"]:
                    return None
                if here["probability"] != there["probability"]:
                    count, most = (
                        count + 1,
                        max(most, abs(float(here["probability"]) - float(there["probability"]))),
                    )
    return {"differ": count, "most": most}


def workers():
    "Process → resident megabytes of it, of the workers of Ray that this process has started"
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    generation, ours = {os.getpid()}, set()
    while generation:
        ours |= (generation := {pid for pid, parent in parents.items() if parent in generation})
    found = {}
    for pid in ours:
        try:
            if b"ray::Worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found[pid] = (
                    int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    * os.sysconf("SC_PAGE_SIZE")
                    / 1e6
                )
        except (OSError, ValueError):
            pass
    return found


def watched(work):
    "What work returns, and for every worker its megabytes, twice a second"
    seen, done = defaultdict(list), threading.Event()

    def watch():
        while not done.wait(0.5):
            for pid, megabytes in workers().items():
                seen[pid].append(megabytes)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return work(), list(seen.values())
    finally:
        done.set()
        thread.join()


def quarters(megabytes):
    "The most that was resident in each quarter of the time, the first of which loads the model"
    size = max(1, len(megabytes) // 4)
    return [
        round(
            max(megabytes[number * size : (number + 1) * size if number < 3 else None], default=0)
        )
        for number in range(4)
    ]


def main():
    size = side_by_side.chosen_size()
    if not find_spec("ray"):
        print('engine is left out: Ray is not installed (pip install "cola_nbdev[ray]")')
        return
    settings = SETTINGS[size]
    rows, memory_rows = (
        settings["shards"] * settings["rows"],
        settings["memory_shards"] * settings["memory_rows"],
    )
    print(
        f"Folders of files, {size}: {rows:,} rows, rounds: {settings['rounds']}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(
        dir=".", prefix=".engine-"
    ) as temporary:  # elsewhere it may be memory, which no disk has to wait for
        folder = Path(temporary).resolve()
        saved(settings["model"], folder)
        source, little = (
            write(folder / "shards", settings["shards"], settings["rows"]),
            write(folder / "little", WORKERS, 2),
        )
        names = {"ours": "ray", "one process": "process"}
        rounds, start = [], []
        for number in range(settings["rounds"]):
            rounds += side_by_side.interleave(
                {
                    name: lambda engine=engine: score(folder, source, engine)
                    for name, engine in names.items()
                },
                1,
                {
                    name: lambda engine=engine: score(folder, little, engine)
                    for name, engine in names.items()
                }
                if not number
                else {"": lambda: 0},
            )
            start.append(
                {name: score(folder, little, engine) for name, engine in names.items()}
            )  # two rows per worker: what remains is starting
        found = differing(
            *(folder / f"shards scored by {engine}" for engine in ("process", "ray"))
        )  # of the last round
        check, threads = (
            write(folder / "check", 4, min(500, settings["rows"])),
            torch.get_num_threads(),
        )
        score(folder, check, "ray")
        torch.set_num_threads(1)  # as a worker has it
        score(folder, check, "process")
        torch.set_num_threads(threads)
        identical = differing(
            *(folder / f"check scored by {engine}" for engine in ("process", "ray"))
        ) == {"differ": 0, "most": 0}
        small = folder / "memory"
        saved(settings["memory_model"], small)
        many = write(small / "many", settings["memory_shards"], settings["memory_rows"])
        _, memory = watched(lambda: score(small, many, "ray"))
    memory = [quarters(one) for one in memory if len(one) >= 4]
    growth = max((one[3] / one[1] for one in memory), default=float("nan"))
    faster = side_by_side.spread(one["one process"] / one["ours"] for one in rounds)
    without = side_by_side.spread(
        (one["one process"] - first["one process"]) / (one["ours"] - first["ours"])
        for one, first in zip(rounds, start, strict=True)
    )

    def seconds(name):
        return side_by_side.in_words(side_by_side.spread(one[name] for one in start))

    tables = [
        side_by_side.table(
            ["memory (MB) at most, in the", "first quarter", "second", "third", "last"],
            [[f"worker {number}", *one] for number, one in enumerate(memory, 1)],
        )
    ]
    side_by_side.result(
        "engine",
        size,
        title="Folders of files",
        unit="seconds",
        settings=settings,
        rounds=rounds,
        start=start,
        without_start=without,
        differing=found,
        identical_with_one_thread=identical,
        memory_of_workers=memory,
        memory_growth=growth,
        question=f"What do {WORKERS} workers of Ray with one thread each gain over one process "
        f"with all cores, {rows:,} rows in {settings['shards']} shards, {settings['model']}? And "
        f"does a worker's memory stay flat over {memory_rows:,} rows ({settings['memory_model']})?",
        tables=tables,
        notes=[
            f"Two workers are {side_by_side.in_words(faster, '×')} as fast as one process; "
            f"{side_by_side.in_words(without, '×')} once everything has started, which takes "
            f"{seconds('ours')} s with Ray and {seconds('one process')} s without.",
            "The two results hold OTHER ROWS."
            if found is None
            else f"Of {rows:,} probabilities {found['differ']:,} differ, by {found['most']:.0e} at "
            "most, since workers and process have another number of threads; "
            f"with one thread each the results are {'the same' if identical else 'NOT the same'}.",
            f"Memory: at most {growth:.2f} times as much in the last quarter as in the second, "
            f"which {'is flat' if growth <= FLAT else 'GROWS'} (at most {FLAT}).",
        ],
    )


if __name__ == "__main__":
    main()
