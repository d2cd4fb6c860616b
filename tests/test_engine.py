"""`cola score --engine`: folders of files, judged by workers of Ray, some of which are killed."""


import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_bad_input import refused

from cola_nbdev.basics import ColaError
from cola_nbdev.data import load_corpus
from cola_nbdev.engine import Incomplete, score_folder
from cola_nbdev.scoring import score_file

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
ROOT = Path(__file__).resolve().parent.parent
needs_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"),
    reason='Ray is not installed: pip install "cola_nbdev[ray]"',
)
needs_arrow = pytest.mark.skipif(
    not importlib.util.find_spec("pyarrow"),
    reason='pyarrow is not installed: pip install "cola_nbdev[parquet]"',
)
pytestmark = [pytest.mark.xdist_group("engine"), pytest.mark.long]  # one Ray at a time
CHUNK = 64


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "As many as a worker has: with another number the last digit of a probability may be another"
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def local_ray():
    "Ray with two workers, as the first call would start it; it stays up for all tests of this file"
    pytest.importorskip("ray")
    from cola_nbdev.engine import start_ray

    ray = start_ray(2)
    yield ray
    ray.shutdown()


def write_shards(folder, count, rows, kinds=("csv", "jsonl", "txt")):
    "Shards of several kinds, no two rows of them equal"
    sentences = load_corpus("demo").train.sentence.tolist()
    folder.mkdir()
    for number in range(count):
        texts = [f"{number * rows + row}: {sentences[row % len(sentences)]}" for row in range(rows)]
        kind = kinds[number % len(kinds)]
        path = folder / f"part-{number:03}.{kind}"
        if kind == "txt":
            path.write_text("".join(text + "\n" for text in texts))
        if kind == "csv":
            path.write_text(
                "id,sentence\n" + "".join(f'{row},"{text}"\n' for row, text in enumerate(texts))
            )
        if kind == "jsonl":
            path.write_text(
                "".join(
                    json.dumps({"id": row, "sentence": text}) + "\n"
                    for row, text in enumerate(texts)
                )
            )
        if kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.table({"id": range(rows), "sentence": texts}), path)
    return folder


def results(folder):
    "The shards by their names, with what is in them"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_cola" not in path.parts
    }


def score(model, source, out, **options):
    return score_folder(model, source, out, progress=False, chunk=CHUNK, **options)


def children(of=None):
    "The processes that this one has started, and those that they have, with their command lines"
    parents, found, lines = {}, [], {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(path.name)] = (
                (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
    generation = {of or os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found += generation
    return {pid: lines.get(pid, "") for pid in found}


def workers():
    return [pid for pid, line in children().items() if "ray::Worker" in line]


@pytest.fixture
def killer():
    "Kills a worker of ours now and then, in a thread beside; says how many"
    ended, killed = threading.Event(), []

    def kill(times, least, most, seed=0):
        draws = random.Random(seed)

        def work():
            while len(killed) < times and not ended.wait(draws.uniform(least, most)):
                if found := workers():
                    victim = draws.choice(found)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                        killed.append(victim)

        thread.append(threading.Thread(target=work, daemon=True))
        thread[0].start()
        return killed

    thread = []
    yield kill
    ended.set()
    for one in thread:
        one.join()


# The workers of Ray


@needs_ray
@needs_arrow
def test_two_workers_and_one_killed_make_what_one_process_makes(
    tmp_path, model, judge, local_ray, killer, tried
):
    source = write_shards(tmp_path / "in", 8, 3000, ("csv", "jsonl", "txt", "parquet"))
    alone = score(model, source, tmp_path / "alone")
    killed = killer(3 if LONG else 2, 1, 2)
    found = score(model, source, tmp_path / "shared", engine="ray", workers=2)
    assert killed, "nobody was killed"
    assert (
        found
        == alone
        == {"shards": 8, "earlier": 0, "rows": 24_000, "empty": 0, "truncated": 0, "aside": 0,
            "taken": []}
    )
    expected = results(tmp_path / "alone")
    assert (
        results(tmp_path / "shared") == expected and len(expected) == 8
    )  # to the last byte, so to the last digit, in the same order
    for name in expected:  # and this is what `cola score` makes of each file
        score_file(
            judge,
            source / name,
            tmp_path / f"single{Path(name).suffix}",
            overwrite=True,
            progress=False,
            chunk=CHUNK,
        )
        assert (tmp_path / f"single{Path(name).suffix}").read_bytes() == expected[name]
    assert {path.name for path in (tmp_path / "shared" / "_cola").iterdir()} == {
        "job.json",
        "manifest.json",
        "aside.jsonl",
        "shards",
    }
    for _ in killed:
        tried("kill -9 of a worker of Ray")


@needs_ray
@pytest.mark.skipif(not LONG, reason="takes minutes: set COLA_NBDEV_LONG=1")
def test_no_row_is_lost_or_doubled_in_twenty_kills(tmp_path, model, local_ray, killer, tried):
    source = write_shards(tmp_path / "in", 40, 5000)
    killed, calls = killer(20, 2, 6), 0
    while True:  # a shard whose workers were killed six times is set aside until the next call
        calls += 1
        with contextlib.suppress(Incomplete):
            found = score(model, source, tmp_path / "shared", engine="ray", workers=2)
            break
    while len(killed) < 20:  # the rest of the kills fall upon the same work done anew
        found = score(model, source, tmp_path / "shared", engine="ray", workers=2, overwrite=True)
    assert found["rows"] == 200_000
    numbers = []
    for name, content in results(tmp_path / "shared").items():
        texts = {
            "csv": lambda line: line.split(b'"')[1] if b'"' in line else line.split(b",")[1],
            "jsonl": lambda line: json.loads(line)["sentence"].encode(),
            "txt": lambda line: line.split(b"\t")[3],
        }[name.rpartition(".")[2]]
        numbers += [
            int(texts(line).split(b":")[0]) for line in content.splitlines()[name.endswith("csv") :]
        ]
    assert sorted(numbers) == list(range(200_000))  # none lost, none doubled
    assert score(model, source, tmp_path / "alone")["rows"] == 200_000 and results(
        tmp_path / "alone"
    ) == results(tmp_path / "shared")
    for _ in killed:
        tried("kill -9 of a worker of Ray")


@needs_ray
def test_what_is_done_is_not_done_again(tmp_path, model, local_ray, tried):
    source = write_shards(tmp_path / "in", 4, 50)
    first = score(model, source, tmp_path / "out", engine="ray", workers=2)
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert score(model, source, tmp_path / "out", engine="ray", workers=2) == first | {"earlier": 4}
    write_shards(tmp_path / "more", 6, 50)
    for name in ("part-004.jsonl", "part-005.txt"):
        (tmp_path / "more" / name).rename(source / name)
    assert score(model, source, tmp_path / "out", engine="process") == {
        **first,
        "shards": 6,
        "rows": 300,
        "earlier": 4,
    }  # the engines resume each other's work
    assert all(
        (tmp_path / "out" / name).stat().st_mtime_ns == stamp
        for name, stamp in stamps.items()
        if name != "_cola"
    )


@needs_ray
def test_a_command_that_is_killed_resumes(tmp_path, model, tried):
    source = write_shards(tmp_path / "in", 6, 6000)
    command = [
        sys.executable,
        "-c",
        "from cola_nbdev.cli import main; main()",
        "score",
        str(model),
        str(source),
        str(tmp_path / "out"),
        "--engine",
        "ray",
        "--workers",
        "2",
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    records, until = tmp_path / "out" / "_cola" / "shards", time.monotonic() + 300
    while not (records.exists() and any(records.iterdir())):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    others = list(children(process.pid))
    process.kill()
    process.wait()
    until = time.monotonic() + 60
    while (
        any(
            "ray::Worker" in Path(f"/proc/{pid}/cmdline").read_text()
            for pid in others
            if Path(f"/proc/{pid}/cmdline").exists()
        )
        and time.monotonic() < until
    ):
        time.sleep(0.1)  # they notice that it is gone
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and not again.stderr, again.stderr
    assert re.search(r"6 shards, \d of them earlier, 36,000 rows", again.stdout), again.stdout
    score_folder(
        model, source, tmp_path / "alone", progress=False
    )  # in chunks as the command has them
    assert results(tmp_path / "out") == results(tmp_path / "alone")
    tried("kill -9 of the command that leads the workers of Ray")


@needs_ray
def test_a_shard_that_kills_its_workers_is_set_aside(tmp_path, model, monkeypatch, local_ray):
    from cola_nbdev import engine

    source, died = write_shards(tmp_path / "in", 4, 50, ("txt",)), tmp_path / "died.txt"

    class Poisoned(engine.Worker):
        def score(self, name):
            if name == "part-001.txt":
                with open(died, "a") as file:
                    file.write("died\n")
                os.kill(os.getpid(), signal.SIGKILL)
            return super().score(name)

    with monkeypatch.context() as poisoned:
        poisoned.setattr(engine, "Worker", Poisoned)
        poisoned.setattr(engine, "TRIES", 2)
        with pytest.raises(
            Incomplete,
            match=r"1 of 4 shards could not be scored \(part-001.txt: its worker died 2 times; is",
        ):
            score(model, source, tmp_path / "out", engine="ray", workers=2)
    assert (
        sorted(results(tmp_path / "out")) == ["part-000.txt", "part-002.txt", "part-003.txt"]
        and died.read_text() == "died\n" * 2
    )
    assert score(model, source, tmp_path / "out", engine="ray", workers=2)["earlier"] == 3


@needs_ray
def test_a_shard_that_cannot_be_noted_does_not_stop_the_others(tmp_path, model, local_ray):
    source = write_shards(tmp_path / "in", 3, 50, ("txt",))
    (tmp_path / "out" / "_cola" / "shards" / "part-001.txt.json").mkdir(
        parents=True
    )  # where a file should be
    (tmp_path / "out" / "_cola" / "job.json").write_text("{}")
    with pytest.raises(Incomplete, match=r"1 of 3 shards could not be scored \(part-001.txt: "):
        score(model, source, tmp_path / "out", engine="ray", workers=2)
    assert sorted(results(tmp_path / "out")) == ["part-000.txt", "part-002.txt"]


@needs_ray
def test_another_model_on_a_worker_is_noticed(tmp_path, model, local_ray):
    from cola_nbdev.engine import by_ray

    with pytest.raises(ColaError, match="is another model on one of the machines"):
        list(by_ray(["a.txt"], {}, str(model), "0" * 16, 1))


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_at_the_address(tmp_path, model, cola, address):
    write_shards(tmp_path / "in", 1, 5)
    refused(
        cola("score", model, "in", "out", "--engine", "ray", "--cluster", address),
        f"no Ray cluster answers at {address} (connection refused); check the address",
    )


# What both engines do

BROKEN = {
    "a.csv": b"id,sentence\n1,He left.\n2,caf\xe9\n3,too,many\n4,Him left.\n",
    "b.jsonl": b'{"sentence": "He left."}\n{"sentence": 7}\n[1]\n{"sentence": \n',
    "c.tsv": b"id\tsentence\n1\tHe left.\n2\n3\tHim\0\n",
    "d.parquet": b"PAR1 and then nothing",
    "e.csv": b'sentence\n"never closed\nHe left.\n',
    "f.txt": b"He left.\n\nHim left.\n",
}


@needs_arrow
@pytest.mark.parametrize("engine", ["process", pytest.param("ray", marks=needs_ray)])
def test_broken_rows_and_shards_are_set_aside(tmp_path, model, cola, request, engine):
    if engine == "ray":
        request.getfixturevalue("local_ray")
    (tmp_path / "in").mkdir()
    for name, content in BROKEN.items():
        (tmp_path / "in" / name).write_bytes(content)
    capture = request.getfixturevalue("capsys")
    from cola_nbdev import cli

    with pytest.raises(SystemExit) as stopped:
        cli.main(["score", str(model), "in", "out", "--engine", engine])
    error = capture.readouterr().err
    assert stopped.value.code == 3 and len(error.splitlines()) == 1, error
    assert "2 of 6 shards could not be scored (d.parquet: cannot be read as Parquet" in error, error
    assert "the others, 7 rows, are in out; see _cola/aside.jsonl there" in error
    aside = [
        json.loads(line)
        for line in (tmp_path / "out" / "_cola" / "aside.jsonl").read_text().splitlines()
    ]
    assert [(one["shard"], one["row"]) for one in aside] == [
        ("d.parquet", None),
        ("e.csv", None),
        ("a.csv", 3),
        ("a.csv", 4),
        ("b.jsonl", 2),
        ("b.jsonl", 3),
        ("b.jsonl", 4),
        ("c.tsv", 3),
        ("c.tsv", 4),
    ]
    reasons = {(one["shard"], one["row"]): one["reason"] for one in aside}
    assert (
        reasons["a.csv", 3] == "byte 0xe9 is not UTF-8; save the file as UTF-8"
        and reasons["a.csv", 4].startswith("3 fields where the header has 2")
        and reasons["b.jsonl", 2] == "'sentence' is int, not text"
    )
    assert "unexpected end of data; is a quote opened and not closed?" in reasons["e.csv", None]
    rows = {
        name: content.decode().splitlines() for name, content in results(tmp_path / "out").items()
    }
    assert sorted(rows) == ["a.csv", "b.jsonl", "c.tsv", "f.txt"] and [
        len(lines) for lines in rows.values()
    ] == [3, 1, 2, 3]
    assert [line.split(",")[0] for line in rows["a.csv"]] == ["id", "1", "4"]
    manifest = json.loads((tmp_path / "out" / "_cola" / "manifest.json").read_text())
    assert not manifest["finished"] and [one["aside"] for one in manifest["shards"]] == [2, 3, 2, 0]
    (tmp_path / "in" / "d.parquet").unlink()
    (tmp_path / "in" / "e.csv").write_text("sentence\nnow closed\n")
    out, error, code = cola("score", model, "in", "out", "--engine", engine)
    assert (
        code == 0
        and "5 shards, 4 of them earlier, 8 rows, 1 without a sentence, 7 set aside, with their "
        "reasons in _cola/aside.jsonl"
        in out
    ), (out, error)


def test_what_must_not_be_scored(cola, tmp_path, model, monkeypatch):
    write_shards(tmp_path / "in", 2, 5, ("csv",))
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("precious")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.csv.gz").write_bytes(b"\x1f\x8b")
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "ray", None)
        hidden.setattr(importlib.util, "find_spec", lambda name: None)
        refused(
            cola("score", model, "in", "out", "--engine", "ray"),
            'the engine ray needs Ray; run: pip install "cola_nbdev[ray]"',
        )
    go = lambda *arguments: cola("score", model, *arguments, "--engine", "process")
    refused(go("empty", "out"), "empty holds no file to score; check the path")
    refused(go("nowhere", "out"), "nowhere holds no file to score; check the path")
    refused(go("odd", "out"), "a.csv.gz: scores are written as .txt, .csv, .tsv, .jsonl or")
    refused(
        go("in/part-000.csv", "out"), "in/part-000.csv is a file; a folder of files is expected"
    )
    refused(
        go("in", "mine"),
        "mine holds letter.txt and was not made by this command; choose another OUT",
    )
    refused(go("in", "mine", "--overwrite"), "was not made by this command")
    refused(go("in", "in/scored"), "lie one in the other; choose another OUT")
    refused(
        go("nowhere://bucket", "out"),
        "nowhere://bucket cannot be reached or written (Protocol not known: nowhere",
    )
    refused(
        go("ftp://ana:secret@127.0.0.1:1/in", "out"),
        "ftp://…@127.0.0.1:1/in cannot be reached or written (connection refused); check the",
    )
    refused(go("in", "ftp://127.0.0.1:1/out"), "ftp://127.0.0.1:1/out cannot be reached")
    refused(
        cola("score", model, "in", "out", "--engine", "spark"),
        "there is no engine 'spark'; choose from process, ray",
    )
    refused(
        cola("score", model, "in", "out.csv"),
        "in: is a directory; check the path; for a folder of files, add --engine process",
    )
    refused(
        cola("score", model, "in/part-000.csv", "out.csv", "--workers", "2"),
        "--workers and --cluster are for the engine ray",
    )
    refused(cola("score", tmp_path, "in", "out", "--engine", "process"), "cannot load the model")
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["empty", "in", "mine", "odd"]
        and (tmp_path / "mine" / "letter.txt").read_text() == "precious"
    )


def test_another_precision_is_another_job(cola, tmp_path, model):
    write_shards(tmp_path/"in", 1, 5, ("csv",))
    def go(precision):
        return cola("score", model, "in", "out", "--engine", "process", "--mixed-precision",
                    precision)
    refused(go("fp16"), "mixed_precision is fp16; choose from no, bf16, auto")
    assert go("bf16")[2] == 0
    refused(go("no"), "out holds another job: model ")

@needs_ray
def test_a_worker_judges_in_the_precision_that_was_chosen(tmp_path, model, local_ray):
    source = write_shards(tmp_path/"in", 1, 5, ("csv",))
    for engine in ("process", "ray"):
        score(model, source, tmp_path/engine, engine=engine, mixed_precision="bf16")
    assert results(tmp_path/"ray") == results(tmp_path/"process")

def test_another_job_is_refused_with_the_difference(cola, tmp_path, model):
    from cola_nbdev.prediction import save_judge
    from cola_nbdev.settings import Config
    from cola_nbdev.training import train

    write_shards(tmp_path / "in", 2, 5, ("csv",))
    go = lambda *arguments: cola("score", *arguments, "--engine", "process")
    assert go(model, "in", "out")[2] == 0
    before = results(tmp_path / "out")
    other = save_judge(
        train(
            load_corpus("demo").train.head(100),
            Config(model="tiny", epochs=1, seed=1),
            progress=False,
        ),
        tmp_path / "other",
    )
    error = go(other, "in", "out")
    refused(error, "out holds another job: model ")
    refused(
        go(model, "in", "out", "--column", "sentence"),
        "out holds another job: column None (now sentence); choose another OUT, or add --overwrite",
    )
    write_shards(tmp_path / "other in", 2, 7, ("csv",))
    refused(go(model, "other in", "out"), "out holds another job: shard part-000.csv of")
    (tmp_path / "in" / "part-001.csv").rename(tmp_path / "away.csv")
    refused(go(model, "in", "out"), "(now missing); choose another OUT, or add --overwrite")
    assert results(tmp_path / "out") == before
    assert go(other, "in", "out", "--overwrite")[2] == 0
    assert list(results(tmp_path / "out")) == ["part-000.csv"] and results(tmp_path / "out") != {
        "part-000.csv": before["part-000.csv"]
    }


def test_two_commands_may_not_share_a_folder_of_results(tmp_path, model):
    from cola_nbdev.checkpoints import one_writer

    write_shards(tmp_path / "in", 1, 5)
    (tmp_path / "out" / "_cola").mkdir(parents=True)
    with (
        one_writer(tmp_path / "out" / "_cola" / "job.json"),
        pytest.raises(
            ColaError,
            match=r"is being written by process \d+; wait until it is done, or choose another OUT",
        ),
    ):
        score(model, tmp_path / "in", tmp_path / "out")
