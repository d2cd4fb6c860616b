"""Files scored by `cola score`: killed processes, full disks, closed pipes, hostile input."""


import contextlib
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import numpy as np
import pandas as pd
import pytest
from test_bad_input import refused

from cola_nbdev import cli
from cola_nbdev.basics import ColaError
from cola_nbdev.data import load_corpus
from cola_nbdev.prediction import Judge
from cola_nbdev.scoring import read_rows, score_file, work_folder

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
ROOT = Path(__file__).resolve().parent.parent
KINDS = ("csv", "jsonl", "parquet" if importlib.util.find_spec("pyarrow") else "csv")
pytestmark = pytest.mark.xdist_group("scoring")  # they share the model and the undisturbed files


@pytest.fixture
def cola(capsys, monkeypatch, tmp_path, model):
    "`cola score` in this process: what it printed, and its exit code"
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = 0
        try:
            cli.main(["score", str(model), *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        printed = capsys.readouterr()
        return printed.out, printed.err, code

    return run


# kill -9


def job(model, source, out, die_at=0, most_bytes=0):
    "Score in chunks of 20 rows; die at a call of what writes, before or after it"
    import torch

    from cola_nbdev.prediction import Judge

    torch.set_num_threads(1)
    printed = open(Path(out).parent / "printed.txt", "a", buffering=1)  # noqa: SIM115, to the end
    sys.stdout = sys.stderr = printed
    calls = 0

    def torn(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            mine = calls  # one call may make others, and it may fail
            if mine == die_at and die_at % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **options)
            finally:
                if mine == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in ("fsync", "replace", "unlink", "mkdir", "rmdir"):
        setattr(os, name, torn(getattr(os, name)))
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    code = 0
    try:
        score_file(Judge(model), source, out, progress=False, chunk=20)
    except ColaError as error:
        print(f"cola: {error}")
        code = error.code
    with contextlib.suppress(OSError):
        (Path(out).parent / "calls.txt").write_text(str(calls))
    os._exit(code)


def run(*arguments, wait=None, **options):
    "Let the job run in a process of its own; its exit code. After `wait` seconds it is killed"
    process = faults.SERVER.Process(target=job, args=arguments, kwargs=options)
    process.start()
    process.join(wait)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    "A source of 400 rows; for each kind the undisturbed output, its seconds, the calls that write"
    folder = tmp_path_factory.mktemp("undisturbed")
    rows = load_corpus("demo").train[:400].sentence.tolist()
    rows[7], rows[8], rows[9] = "", "sleeps " * 200, 'two\nlines, "quoted" ünd 😀'
    (folder / "source.jsonl").write_text(
        "".join(
            json.dumps({"id": number, "sentence": row}) + "\n" for number, row in enumerate(rows)
        ),
        encoding="utf-8",
    )
    found = {}
    for kind in dict.fromkeys(KINDS):
        run(
            str(model), folder / "source.jsonl", folder / f"warm.{kind}"
        )  # the fork server comes up
        started = time.monotonic()
        assert run(str(model), folder / "source.jsonl", folder / f"out.{kind}") == 0, (
            folder / "printed.txt"
        ).read_text()
        found[kind] = (
            (folder / f"out.{kind}").read_bytes(),
            time.monotonic() - started,
            int((folder / "calls.txt").read_text()),
        )
    return folder / "source.jsonl", found


def ends_as_undisturbed(model, undisturbed, folder, kind):
    source, found = undisturbed
    out = folder / f"out.{kind}"
    if out.exists() and not (work_folder(out) / "job.json").exists():
        assert out.read_bytes() == found[kind][0]  # it was killed after the end
    else:
        assert run(str(model), source, out) == 0, (folder / "printed.txt").read_text()
    assert out.read_bytes() == found[kind][0]
    left = {path.name for path in folder.iterdir()} - {
        f"out.{kind}",
        "printed.txt",
        "calls.txt",
        f".out.{kind}.cola.lock",
        f".out.{kind}.cola.pid",
    }  # a lock that nobody holds stays if death comes after the end
    assert not left, f"left behind: {left}"


@pytest.mark.parametrize("number", range(60 if LONG else 5))
def test_killed_at_a_random_moment(tmp_path, model, undisturbed, tried, number):
    kind = KINDS[number % 3]
    run(
        str(model),
        undisturbed[0],
        tmp_path / f"out.{kind}",
        wait=random.Random(number).uniform(0.1, 0.95) * undisturbed[1][kind][1],
    )
    ends_as_undisturbed(model, undisturbed, tmp_path, kind)
    tried("kill -9 at a random moment of `cola score`")


@pytest.mark.parametrize("number", range(90 if LONG else 6))
def test_killed_while_it_writes(tmp_path, model, undisturbed, tried, number):
    kind = KINDS[number % 3]
    at = (
        undisturbed[1][kind][2] - number
        if LONG and number < 9
        else random.Random(number).randint(1, undisturbed[1][kind][2])
    )  # the last calls publish the file
    assert run(str(model), undisturbed[0], tmp_path / f"out.{kind}", die_at=at) == -signal.SIGKILL
    ends_as_undisturbed(model, undisturbed, tmp_path, kind)
    tried("kill -9 inside the writing of `cola score`")


@pytest.mark.parametrize("back", range(8))
def test_killed_while_it_publishes(tmp_path, model, undisturbed, tried, back):
    kind = KINDS[back % 3]
    assert (
        run(
            str(model),
            undisturbed[0],
            tmp_path / f"out.{kind}",
            die_at=undisturbed[1][kind][2] - back,
        )
        == -signal.SIGKILL
    )
    ends_as_undisturbed(model, undisturbed, tmp_path, kind)
    tried("kill -9 inside the writing of `cola score`")


def test_killed_again_and_again(tmp_path, model, undisturbed, tried):
    draws, kills = random.Random(3), 0
    out = tmp_path / "out.csv"
    while run(str(model), undisturbed[0], out, die_at=draws.randint(8, 40)) == -signal.SIGKILL:
        kills += 1  # death may also come after the end; then the file is there and stays
    assert kills > 1 and (tmp_path / "out.csv").read_bytes() == undisturbed[1]["csv"][0]
    for _ in range(kills):
        tried("kill -9 again and again in one file")


# Disks, signals, pipes


@pytest.mark.parametrize("most_bytes", [300, 3_000, 20_000])
def test_a_full_disk(tmp_path, model, undisturbed, tried, most_bytes):
    assert run(str(model), undisturbed[0], tmp_path / "out.csv", most_bytes=most_bytes) == 2
    said = (tmp_path / "printed.txt").read_text()
    assert (
        "out.csv cannot be written (file too large)" in said
        and "Traceback" not in said
        and len(said.strip().splitlines()) == 1
    )
    assert ("rows are safe in" in said) == (most_bytes > 300) and not (
        tmp_path / "out.csv"
    ).exists()
    ends_as_undisturbed(model, undisturbed, tmp_path, "csv")
    tried("a full disk while a file is scored")


def command(*arguments, stdin=None, stdout=None) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from cola_nbdev.cli import main; main()",
            "score",
            *map(str, arguments),
        ],
        env=environment,
        stderr=subprocess.PIPE,
        stdin=stdin,
        stdout=stdout,
    )


def test_a_signal_and_the_same_command_again(tmp_path, model, tried):
    (tmp_path / "long.txt").write_text(
        "".join(f"The pilot {number} sleeps.\n" for number in range(60_000))
    )
    process = command(model, tmp_path / "long.txt", tmp_path / "long.csv")
    while process.poll() is None and not list(work_folder(tmp_path / "long.csv").glob("*.scores")):
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    other = command(model, tmp_path / "long.txt", tmp_path / "long.csv")
    assert (
        f"is being written by process {process.pid}; wait until it is done, or choose another OUT"
        in other.communicate()[1].decode()
        and other.returncode == 2
    )
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    error = process.communicate()[1].decode()
    assert (
        process.returncode == 143
        and len(error.splitlines()) == 1
        and "of 60,000 rows; give the same command again to resume" in error
    ), error
    again = command(model, tmp_path / "long.txt", tmp_path / "long.csv", stdout=subprocess.PIPE)
    assert "of them earlier" in again.communicate()[0].decode()
    assert (tmp_path / "long.csv").read_text().count("\n") == 60_001
    tried("SIGTERM")


def test_a_closed_pipe_is_no_error(tmp_path, model, tried):
    (tmp_path / "many.txt").write_text("The pilot sleeps.\n" * 20_000)
    process = command(model, tmp_path / "many.txt", "-", stdout=subprocess.PIPE)
    assert process.stdout and process.stderr
    assert process.stdout.readline().endswith(b"The pilot sleeps.\n")
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait() == 141 and not error, error
    tried("a closed pipe")


def test_from_pipe_to_pipe(model):
    process = command(
        model, "-", "-", "--format", "jsonl", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    rows = '{"id": 1, "text": "naïve"}\n{"id": 2, "text": ""}\n'
    out, error = process.communicate(rows.encode())
    assert process.returncode == 0 and error.decode() == "taken: text → sentence\n"
    rows = [json.loads(line) for line in out.decode().splitlines()]
    assert [(row["id"], row["text"], row["probability"] is None) for row in rows] == [
        (1, "naïve", False),
        (2, "", True),
    ]


# What a user can get wrong

GOOD = "id,sentence\n1,He left.\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "a.csv",
            "id,words\n1,He left.\n",
            "a.csv has no column 'sentence'; it has 'id', 'words': choose with --column",
        ),
        (
            "a.csv",
            "text,sentence\na,b\n",
            "a.csv: the sentences could be in 'text' or 'sentence'; choose with --column",
        ),
        (
            "a.csv",
            "sentence,probability\na,1\n",
            "a.csv has a column 'probability' already, which scoring would add; rename it",
        ),
        (
            "a.csv",
            "sentence,sentence\na,b\n",
            "a.csv: two columns are called 'sentence'; rename one",
        ),
        ("a.csv", GOOD + "2,He left,again\n", "a.csv line 3: 3 fields where the header has 2"),
        (
            "a.csv",
            GOOD + '2,"He left\n',
            "a.csv line 3: unexpected end of data; is a quote opened and not closed?",
        ),
        (
            "a.csv",
            GOOD.encode() + b"2,caf\xe9\n",
            "a.csv line 3: byte 0xe9 is not UTF-8; save the file as UTF-8",
        ),
        ("a.csv", GOOD.encode("utf-16-le"), "a.csv line 1: "),
        (
            "a.txt",
            bytes(range(256)) * 50,
            "a.txt line 1: a NUL byte; is this a text file in UTF-8?",
        ),
        ("a.tsv", "id\tsentence\n1\tHe\tleft.\n", "a.tsv line 2: 3 fields where the header has 2"),
        ("a.jsonl", '{"sentence": 7}\n', "a.jsonl line 1: 'sentence' is int, not text"),
        ("a.jsonl", '{"sentence": "He left."\n', "a.jsonl line 1: no JSON"),
        ("a.parquet", b"PAR1 and then nothing", "a.parquet: cannot be read as Parquet"),
        ("a.xls", b"PK", "a.xls: its name does not say what it is; let it end in .txt, .csv"),
    ],
)
def test_a_broken_file_is_refused_before_a_sentence_is_judged(
    cola, tmp_path, monkeypatch, name, content, message
):
    from cola_nbdev.prediction import Judge

    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(Judge, "predict_probability", lambda *_: pytest.fail("it was judged"))
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(cola(name, "out.csv"), message)
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_files_that_are_not_there_or_must_stay(cola, tmp_path, model):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "old.csv").write_text("precious")
    refused(cola("none.csv", "out.csv"), "none.csv: no such file or directory; check the path")
    refused(cola(".", "out.csv", "--format", "csv"), ".: is a directory; check the path")
    refused(
        cola("a.csv", "old.csv"),
        "old.csv exists already; choose another OUT, or add --overwrite to replace it",
    )
    refused(
        cola("a.csv", "a.csv", "--overwrite"), "a.csv is the file to be read; choose another OUT"
    )
    (tmp_path / "link.csv").symlink_to("a.csv")
    refused(
        cola("a.csv", "link.csv", "--overwrite"),
        "link.csv is the file to be read; choose another OUT",
    )
    refused(
        cola("a.csv", "none/out.csv"), "there is no folder none; make it, or choose another OUT"
    )
    refused(cola("a.csv", tmp_path, "--format", "csv"), "is no ordinary file; choose another OUT")
    refused(
        cola("a.csv", "out.csv", "--column", "word"),
        "a.csv has no column 'word'; it has 'id', 'sentence'",
    )
    refused(
        cola("a.csv", "-", "--format", "xls"),
        "the format 'xls' is not known; choose from text, csv, tsv, jsonl",
    )
    assert ((tmp_path / "a.csv").read_text(), (tmp_path / "old.csv").read_text()) == (
        GOOD,
        "precious",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "old.csv", "link.csv"}
    if os.geteuid():
        (tmp_path / "a.csv").chmod(0)
        refused(cola("a.csv", "out.csv"), "a.csv: permission denied; check the path")


def test_no_model_in_the_folder(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("He left.\n")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["score", str(tmp_path), str(tmp_path / "a.txt"), str(tmp_path / "out.csv")])
    refused(("", capsys.readouterr().err, stopped.value.code), "cannot load the model")


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("a.txt", "", "sentence,probability,predicted,truncated\n"),
        ("a.csv", "", "sentence,probability,predicted,truncated\n"),
        ("a.jsonl", "", "sentence,probability,predicted,truncated\n"),
        ("a.csv", "id,sentence\n", "id,sentence,probability,predicted,truncated\n"),
        ("a.txt", "\n\n", "sentence,probability,predicted,truncated\n,,,False\n,,,False\n"),
        (
            "a.csv",
            'id,sentence\n1,\n2," "\n',
            "id,sentence,probability,predicted,truncated\n1,,,,False\n2, ,,,False\n",
        ),
    ],
)
def test_empty_files_and_rows(cola, tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    assert cola(name, "out.csv")[2] == 0
    assert (tmp_path / "out.csv").read_text() == expected


def test_a_sentence_of_a_megabyte(cola, tmp_path):
    sentence = "The pilot sleeps. " * 60_000
    (tmp_path / "a.csv").write_text(f"sentence\n{sentence}\nHe left.\n{sentence}\n")
    assert cola("a.csv", "out.jsonl")[2] == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (
        [row["truncated"] for row in rows] == [True, False, True]
        and rows[0]["sentence"] == sentence
        and rows[0]["probability"] == rows[2]["probability"]
    )


def test_odd_sentences_go_through_every_kind_of_file(judge, tmp_path):
    sentences = [
        "NA",
        "None",
        "null",
        'it\'s "fine"',
        "=SUM(A1)",
        "naïve 😀",
        "a\u2028b",
        "a\x0bb",
        "#",
        "a,b;c",
        " leading",
        "nan",
    ]
    (tmp_path / "a.txt").write_text(
        "".join(sentence + "\n" for sentence in sentences), encoding="utf-8"
    )
    (tmp_path / "quote.txt").write_text('"unbalanced\n')
    with pytest.raises(ColaError, match="a quote at the start"):
        score_file(judge, tmp_path / "quote.txt", tmp_path / "quote.tsv", progress=False)
    first, kinds = "a.txt", ["csv", "tsv", "jsonl", "parquet", "txt"]
    if not importlib.util.find_spec("pyarrow"):
        kinds.remove("parquet")
    for kind in kinds:
        score_file(judge, tmp_path / "a.txt", tmp_path / f"b.{kind}", progress=False)
        with open(tmp_path / f"b.{kind}", "rb") as file:
            _, rows = read_rows(file, "text" if kind == "txt" else kind, first)
            found = [row["sentence"] for _, row in rows]
        assert [text.split("\t", 3)[3] if kind == "txt" else text for text in found] == sentences, (
            kind
        )


def test_parquet_keeps_its_types(judge, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import datetime

    table = pa.table(
        {
            "when": [datetime.datetime(2024, 1, 2, 3, 4, 5, 678_901), None],
            "count": pa.array([2**60, None], pa.int64()),
            "sentence": pa.array(["He left.", None]).dictionary_encode(),
            "tags": [["a", "b"], []],
        }
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    score_file(judge, tmp_path / "a.parquet", tmp_path / "b.parquet", progress=False)
    scored = pa.parquet.read_table(tmp_path / "b.parquet")
    assert scored.select(["when", "count", "tags"]).equals(
        table.select(["when", "count", "tags"])
    ) and scored["sentence"].to_pylist() == ["He left.", None]
    assert (
        scored["predicted"].to_pylist()[1] is None
        and scored.schema.field("probability").type == pa.float64()
    )
    score_file(judge, tmp_path / "a.parquet", tmp_path / "b.csv", progress=False)
    assert (
        (tmp_path / "b.csv")
        .read_text()
        .splitlines()[1]
        .startswith('2024-01-02 03:04:05.678901,1152921504606846976,He left.,"[""a"", ""b""]",')
    )


def test_parquet_keeps_every_digit_or_refuses(judge, tmp_path):
    pa = pytest.importorskip("pyarrow")
    rows = [{"sentence": "He left.", "count": number} for number in range(5_000)]
    rows[4_500] |= {"count": 4_500.5, "more": {"a": 1}}
    rows[4_600] |= {"more": {"b": ["c"]}}
    write = lambda: (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    score = lambda name: score_file(
        judge, tmp_path / name, tmp_path / "b.parquet", overwrite=True, progress=False
    )
    write()
    score("a.jsonl")
    found = pa.parquet.read_table(tmp_path / "b.parquet").to_pylist()
    assert found[4_500]["count"] == 4_500.5 and [
        found[number]["more"] for number in (0, 4_500, 4_600)
    ] == [None, {"a": 1, "b": None}, {"a": None, "b": ["c"]}]
    for value in (2**60 + 1, "many"):  # no double holds the first
        rows[4_700]["count"] = value
        write()
        with pytest.raises(
            ColaError, match="a.jsonl: Parquet cannot hold these rows .*write .jsonl"
        ):
            score("a.jsonl")
    pa.parquet.write_table(
        pa.table({"sentence": ["He left."], "at": pa.array([1_001], pa.time64("ns"))}),
        tmp_path / "a.parquet",
    )
    with pytest.raises(ColaError, match="a.parquet: cannot be read as Parquet .*would lose data"):
        score("a.parquet")


def test_what_is_beside_the_output_is_left_alone(cola, tmp_path):
    work = work_folder(tmp_path / "out.csv")
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "output").write_text("precious")
    work.symlink_to("mine")
    refused(
        cola("a.csv", "out.csv", "--overwrite"),
        "was not made by this command; move it away, or choose another OUT",
    )
    assert (tmp_path / "mine" / "output").read_text() == "precious"
    work.unlink()
    (tmp_path / "mine").rename(work)
    (work / "letter.txt").write_text("precious")
    refused(cola("a.csv", "out.csv", "--overwrite"), "was not made by this command")
    assert {path.name: path.read_text() for path in work.iterdir()} == {
        "output": "precious",
        "letter.txt": "precious",
    }
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    (tmp_path / "a.csv").rename(work)  # the source itself has the name
    refused(
        cola(work.name, "out.csv", "--format", "csv", "--overwrite"),
        "out.csv cannot be written (file exists)",
    )
    assert work.read_text() == GOOD and not (tmp_path / "out.csv").exists()


def test_a_source_that_changes_is_not_published(judge, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("He left.\n" * 100)
    predict_probability = judge.predict_probability

    def change(*arguments):
        (tmp_path / "a.txt").write_text("He left.\n" * 99 + "He Left.\n")
        return predict_probability(*arguments)

    monkeypatch.setattr(judge, "predict_probability", change)
    with pytest.raises(
        ColaError, match="a.txt was changed while it was read; start over with --overwrite"
    ):
        score_file(judge, tmp_path / "a.txt", tmp_path / "b.csv", progress=False)
    assert not (tmp_path / "b.csv").exists()


def test_another_source_may_not_resume(judge, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("He left.\n" * 100)
    predict_probability, calls = judge.predict_probability, []

    def interrupted(sentences, batch_size, done):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict_probability(sentences, batch_size, done)

    monkeypatch.setattr(judge, "predict_probability", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_file(judge, tmp_path / "a.txt", tmp_path / "b.csv", progress=False, chunk=10)
    monkeypatch.setattr(judge, "predict_probability", predict_probability)
    with pytest.raises(ColaError, match=r"cannot be resumed: chunk 10 \(now 20\); choose"):
        score_file(judge, tmp_path / "a.txt", tmp_path / "b.csv", progress=False, chunk=20)
    with pytest.raises(ColaError, match="cannot be resumed"):
        score_file(judge, "-", tmp_path / "b.csv", progress=False, chunk=10) if not setattr(
            sys, "stdin", io.StringIO("")
        ) else None
    assert work_folder(tmp_path / "b.csv").exists()
    os.utime(tmp_path / "a.txt")  # touched, but the same
    assert (
        score_file(judge, tmp_path / "a.txt", tmp_path / "b.csv", progress=False, chunk=10)[
            "earlier"
        ]
        == 20
    )
    (tmp_path / "b.csv").unlink()
    calls.clear()
    monkeypatch.setattr(judge, "predict_probability", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_file(judge, tmp_path / "a.txt", tmp_path / "b.csv", progress=False, chunk=10)
    monkeypatch.setattr(judge, "predict_probability", predict_probability)
    (tmp_path / "a.txt").write_text("He left.\n" * 99 + "He Left.\n")  # as long as before
    with pytest.raises(ColaError, match=r"cannot be resumed: source \w+ \(now \w+\); choose"):
        score_file(judge, tmp_path / "a.txt", tmp_path / "b.csv", progress=False, chunk=10)
    assert (
        score_file(
            judge, tmp_path / "a.txt", tmp_path / "b.csv", overwrite=True, progress=False, chunk=10
        )["earlier"]
        == 0
    )


# Several at once, in any batch


def test_eight_threads_and_any_batch(judge):
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    sentences = load_corpus("demo").train.sentence[:300].tolist() + [
        "sleeps " * 100,
        "x" * 5_000,
        "The pilot sleeps. " * 500,
    ]
    alone = judge.predict_proba(sentences)[:, 1]
    orders = [np.random.default_rng(number).permutation(len(sentences)) for number in range(24)]
    ask = lambda order, size=64: judge.predict_probability(
        [sentences[number] for number in order], size
    )
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, orders))
    for order, (probability, cut), (single, _) in zip(
        orders, found, map(ask, orders), strict=True
    ):
        assert (
            np.abs(probability - single).max() < 1e-6
            and np.abs(probability - alone[order]).max() < 1e-5
        )
        assert sorted(order[cut]) == [300, 302]
    for size in (1, 7, 300):
        assert np.abs(ask(orders[0], size)[0] - alone[orders[0]]).max() < 1e-5


# A verdict by the ONNX file alone

VERDICT = (
    "import sys; from cola_nbdev.cli import main; main(sys.argv[1:]); "
    "print(*sorted({'torch', 'transformers', 'pandas', 'scipy'} & {*sys.modules}), file=sys.stderr)"
)


@pytest.fixture
def exported(model, tmp_path):
    pytest.importorskip("onnxruntime")
    from cola_nbdev.export import write_onnx

    folder = Path(shutil.copytree(model, tmp_path / "exported"))
    judge = Judge(folder)
    write_onnx(judge.model, judge.tokenizer, folder)
    return folder


def predict(*arguments):
    return subprocess.run(
        [sys.executable, "-c", VERDICT, "predict", "--verbose", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def verdict(*arguments):
    "What it prints, and which heavy libraries it had to import"
    done = predict(*arguments)
    assert not done.returncode, done.stderr
    return done.stdout, done.stderr.split("\n")


def test_an_exported_model_judges_without_torch(exported):
    sentences = ["The cat sleeps.", "Cat the sleeps.", "Él ñandú 猫 👍 can't — “quoted”"]
    printed, said = verdict(exported, "--json", *sentences)
    assert said[:2] == ["judged by onnxruntime", ""]
    expected = Judge(exported)(*sentences)
    found = pd.DataFrame(json.loads(printed))
    assert found.drop(columns="probability").equals(expected.drop(columns="probability"))
    assert np.allclose(found.probability, expected.probability, atol=1e-6)


@pytest.mark.parametrize("fault", ["weights", "onnx", "labels", "record", "tokenizer", "long"])
def test_otherwise_pytorch_judges(exported, fault):
    sentence = "The cat sleeps."
    if fault == "long":
        sentence = "The cat sleeps. " * 40
    elif fault == "labels":  # another order of the same names
        config = json.loads((exported / "config.json").read_text())
        config["id2label"] = {"0": "acceptable", "1": "unacceptable"}
        config["label2id"] = {"acceptable": 0, "unacceptable": 1}
        (exported / "config.json").write_text(json.dumps(config))
    elif fault == "tokenizer":
        with open(exported / "tokenizer_config.json", "a") as file:
            file.write(" ")
    elif fault == "record":
        (exported / "onnx" / "cola_nbdev.json").write_text('{"model": []}')
    else:
        names = {"weights": "model.safetensors", "onnx": "onnx/model.onnx"}
        file = exported / names[fault]
        data = bytearray(file.read_bytes())
        data[-40] ^= 1
        file.write_bytes(data)
    printed, said = verdict(exported, sentence)
    assert said[0] == "judged by PyTorch"
    assert "torch" in said[1]
    row = Judge(exported)(sentence).iloc[0]
    assert f"{row.probability:5.1%}  {row.label}" in printed


def test_a_pipe_among_the_files_is_not_waited_for(exported):
    os.mkfifo(exported / "more.json")
    assert verdict(exported, "The cat sleeps.")[1][0] == "judged by onnxruntime"
    (exported / "more.json").unlink()
    (exported / "onnx" / "model.onnx").unlink()
    os.mkfifo(exported / "onnx" / "model.onnx")
    done = predict(exported, "The cat sleeps.")
    assert done.returncode == 2 and "model.onnx is no ordinary file" in done.stderr


def test_a_tokenizer_that_only_transformers_can_read(exported):
    from cola_nbdev.export import write_onnx

    judge = Judge(exported)
    words = sorted(vocabulary := judge.tokenizer.get_vocab(), key=vocabulary.get)
    (exported / "vocab.txt").write_text("\n".join(words))
    for name in ("tokenizer.json", "onnx/model.onnx"):
        (exported / name).unlink()
    write_onnx(judge.model, judge.tokenizer, exported)
    assert verdict(exported, "The cat sleeps.")[1][0] == "judged by PyTorch"


def test_score_by_an_exported_file(exported, capsys, tmp_path):
    def score(*arguments):
        cli.main(["score", str(exported), *map(str, arguments)])

    (tmp_path / "in.txt").write_text("The cat sleeps.\nCat the sleeps.\n")
    outs = [tmp_path / "torch.csv", tmp_path / "onnx.csv"]
    for out, options in zip(outs, ([], ["--onnx", "fp32"])):
        score(tmp_path / "in.txt", out, *options)
    one, other = map(pd.read_csv, outs)
    assert np.allclose(one.probability, other.probability, atol=1e-6)
    for arguments, message in (
        ((tmp_path / "in.txt", tmp_path / "int8.csv", "--onnx", "int8"), "is missing or damaged"),
        ((tmp_path, tmp_path / "o", "--engine", "process", "--onnx", "fp32"), "for a single file"),
    ):
        with pytest.raises(SystemExit):
            score(*arguments)
        assert message in capsys.readouterr().err
