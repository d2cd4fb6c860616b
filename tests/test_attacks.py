"""A hostile world: files, folders, models, records and requests that somebody made on purpose.

Nothing of yours is touched, nothing is misread: every attack ends with one line, or with the right
result. The fuzzers at the end make up more of the same; `make faults` tries many thousands.
"""
import contextlib
import dataclasses
import errno
import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import time
import traceback
import zipfile
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import faults
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from test_bad_input import refused

from cola_nbdev import app, cli, engine, export, prediction
from cola_nbdev.basics import ColaError, explain, is_blank, path_within, without_password
from cola_nbdev.calibration import calibration_error
from cola_nbdev.checkpoints import (
    checkpoints,
    find_corruption,
    one_writer,
    save_checkpoint,
    write_manifest,
)
from cola_nbdev.comparison import compare, load_predictions
from cola_nbdev.data import Corpus, corpus_of, load_corpus, split_sentences
from cola_nbdev.evaluation import read_predictions, write_predictions
from cola_nbdev.experiments import run_seeds, same_recipe, unlabelled_sentences
from cola_nbdev.model import load_model
from cola_nbdev.prediction import Judge, fine_tune
from cola_nbdev.reading import (
    MISSING,
    check_columns,
    check_sentences,
    read_sentences,
    read_table,
)
from cola_nbdev.scoring import score_file, sentence_column, work_folder
from cola_nbdev.settings import Config, with_recipe
from cola_nbdev.tokenization import MODELS, find_model, model_identity
from cola_nbdev.training import Run, train

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
pytestmark = pytest.mark.xdist_group("attacks")  # they share the model and the run

def needs(module):
    return pytest.mark.skipif(not importlib.util.find_spec(module), reason=f"needs {module}")

def snapshot(folder):
    "Every path in a folder with its kind and content: what must not change"
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = os.readlink(path) if path.is_symlink() else ""
        found[path.relative_to(folder).as_posix()] = (path.lstat().st_mode, target, content)
    return found

@contextlib.contextmanager
def unchanged(*folders):
    before = [snapshot(folder) for folder in folders]
    yield
    assert [snapshot(folder) for folder in folders] == before

@contextlib.contextmanager
def within(seconds):
    "A guard against hanging, for what takes no time when it is right"
    def give_up(*_): raise AssertionError(f"still at it after {seconds} seconds")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

def job(folder, arguments, umask, closed, most_bytes, stdout):
    os.chdir(folder)
    os.umask(umask)
    import torch
    torch.set_num_threads(1)
    Figure.savefig = quick
    for number, name in ((1, stdout), (2, "err.txt")):
        os.dup2(os.open(folder/name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115, to the end
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115, to the end
    for number in closed:  # as Python starts when a stream is closed
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    if most_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    code = 0
    try: cli.main([str(argument) for argument in arguments])
    except SystemExit as stopped: code = stopped.code
    except BaseException:
        (folder/"err.txt").write_text(traceback.format_exc())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError): stream.flush()
    os._exit(code or 0)

@pytest.fixture
def process(tmp_path_factory):
    "`cola` in a process of its own, with streams, umask or disk as somebody left them"
    def run(*arguments, umask=0o022, closed=(), most_bytes=0, stdout="out.txt"):
        folder = tmp_path_factory.mktemp("process")
        started = faults.SERVER.Process(
            target=job, args=(folder, arguments, umask, closed, most_bytes, stdout))
        started.start()
        started.join(120)
        if started.is_alive():
            started.kill()
            raise AssertionError("it hangs")
        said = [(folder/name).read_text() if (folder/name).exists() else ""
                for name in ("out.txt", "err.txt")]
        return *said, started.exitcode
    return run

def quick(self, file, **options):
    "Instead of drawing a picture, which takes a second"
    if hasattr(file, "write"): file.write(b"")
    else: Path(file).touch()

@pytest.fixture(autouse=True)
def no_pictures(monkeypatch, request):
    if "pictures" not in request.keywords: monkeypatch.setattr(Figure, "savefig", quick)

@pytest.fixture
def copied(model, tmp_path):
    "A copy of the tiny judge's folder, to be attacked"
    return Path(shutil.copytree(model, tmp_path/"model"))

def edit(path, **changes):
    "Change fields of a JSON file"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

def tensors_of(folder, change):
    "Change the weights of a model"
    from safetensors.torch import load_file, save_file
    weights = load_file(folder/"model.safetensors")
    change(weights)
    save_file(weights, folder/"model.safetensors", {"format": "pt"})

def small(seed=0):
    rows = load_corpus("demo").train
    return Corpus("small", {"train": rows[:40], "dev": rows[40 + seed:60 + seed]})

TINY, TRAIN = Config(model="tiny", epochs=1), ("--model", "tiny", "--epochs", "1")

@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A finished run, not to be changed"
    out = tmp_path_factory.mktemp("finished")/"run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", quick)
        fine_tune(small(), TINY, out, progress=False)
    return out

# 1. The page (more in test_browser.py)

@needs("gradio")
def test_the_page_opens_nothing_but_uploads(judge, tmp_path, monkeypatch):
    import httpx
    from test_browser import event, join, outcome, uploads

    from cola_nbdev.app import served
    (tmp_path/"secret.txt").write_text("top secret")
    monkeypatch.chdir(tmp_path)
    with served(judge) as url:
        function = event(url, "upload", 1)
        def ask(path):
            return join(url, function, {"path": path, "meta": {"_type": "gradio.FileData"}})
        def upload(name, content=b"He left.\n"):
            answer = httpx.post(f"{url}/gradio_api/upload", files={"files": (name, content)})
            return Path(answer.json()[0])
        mine = upload("secret.txt")
        (uploads()/"link.txt").symlink_to(tmp_path/"secret.txt")
        (uploads()/"folder.txt").mkdir()
        (uploads()/"secret.txt").write_text("in the folder, and the name is relative")
        for path in (tmp_path/"secret.txt", "secret.txt", uploads(), uploads()/"folder.txt",
                     uploads()/"link.txt", f"{mine}/../../secret.txt/../../../etc/passwd",
                     "/proc/self/environ", "/dev/stdin", f"{mine}\0", "", mine.parent, [str(mine)],
                     {"path": "/etc/passwd"}, 7):
            answer = ask(path if isinstance(path, (list, dict, int)) else str(path))
            assert answer.status_code == 403, path
        for name in ("../../escaped.txt", "/abs.txt", "..\\up.txt", "a/../../b.txt"):
            assert upload(name).resolve().is_relative_to(uploads())
        for body in (b'{"data": [{"path": "/etc/passwd"}]', b'[{"path": "/etc/passwd"}]',
                     json.dumps({"path": "/etc/passwd"}).encode("utf-16")):
            answer = httpx.post(f"{url}/gradio_api/queue/join", content=body)
            assert answer.status_code in (400, 403)
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            for address in (f"file={tmp_path}/secret.txt", f"file={mine}", "file/etc/passwd",
                            "queue/../file=/etc/passwd", "upload/../file=/etc/passwd"):
                answer = httpx.request(method, f"{url}/gradio_api/{address}")
                assert answer.status_code >= 400 and "top secret" not in answer.text
        assert ask(str(mine)).status_code == 200
        assert "secret.txt: 1 sentence," in json.dumps(outcome(url)) and not mine.exists()
    assert (tmp_path/"secret.txt").read_text() == "top secret"
    assert not (tmp_path/"escaped.txt").exists()

def test_a_header_of_many_columns_takes_no_time(cola, tmp_path):
    names = [f"column {number}" for number in range(60_000)]
    for twice in (names, [*names, names[-1]]):
        with within(20), contextlib.suppress(ColaError): sentence_column(twice)
        with within(20), contextlib.suppress(ColaError): check_columns(twice, "wide.csv")
    header = ",".join(names[:5_000])
    (tmp_path/"wide.csv").write_text(f"{header}\n{header}\n")
    error = cola("data", "wide.csv")[1]
    assert len(error) < 1_200 and error.count("\n") == 1
    with pytest.raises(ColaError) as caught:
        score_file(Constant(), tmp_path/"wide.csv", tmp_path/"out.csv", progress=False)
    assert len(str(caught.value)) < 1_200

# 2. Files beside the output

GOOD = "id,sentence\n1,He left.\n2,Him left.\n"

def test_the_source_may_have_any_name(cola, judge, tmp_path, model):
    for name in ("o.csv.partial", ".o.csv.cola.pid", ".o.csv.cola.lock", ".o.csv.unfinished"):
        (tmp_path/name).write_text(GOOD)
        with unchanged(tmp_path):
            try: score_file(judge, tmp_path/name, tmp_path/"o.csv", format="csv", progress=False)
            except ColaError as error: assert "move it away" in str(error) or "exists" in str(error)
            (tmp_path/"o.csv").unlink(missing_ok=True)
        (tmp_path/name).unlink()

@pytest.mark.parametrize("name", [".o.csv.cola.pid", ".o.csv.cola.lock", ".o.csv.unfinished"])
def test_what_is_beside_the_output_is_not_ours(judge, tmp_path, name):
    (tmp_path/"a.csv").write_text(GOOD)
    (tmp_path/"precious").write_text("precious")
    beside = tmp_path/name
    def attack(message="move it away"):
        with unchanged(tmp_path), pytest.raises(ColaError, match=message):
            score_file(judge, tmp_path/"a.csv", tmp_path/"o.csv", overwrite=True, progress=False)
    beside.symlink_to("precious")
    attack("move it away|file exists")
    beside.unlink()
    beside.write_text("somebody's notes")
    attack("move it away|file exists")
    beside.unlink()
    beside.mkdir()
    for content in ("output", "0.scores", "letter.new", ".output.00000000.new"):
        (beside/content).write_text("precious")
        attack()
        (beside/content).unlink()
    (beside/"job.json").write_text('{"identity": [], "replace": 1}')
    attack()
    (beside/"job.json").write_text('{"identity": {"source": "another"}, "replace": ""}')
    if name.endswith("unfinished"): attack_ours(judge, tmp_path)
    else: attack()

def attack_ours(judge, folder):
    "A job of ours is started over only if that is asked for"
    with unchanged(folder), pytest.raises(ColaError, match="cannot be resumed: source another"):
        score_file(judge, folder/"a.csv", folder/"o.csv", progress=False)
    assert score_file(judge, folder/"a.csv", folder/"o.csv", None, None, True, False)["rows"] == 2

def test_a_lock_that_is_a_link_destroys_nothing(tmp_path):
    (tmp_path/"precious").write_text("1234")  # what a process number looks like
    (tmp_path/".run.cola.pid").symlink_to("precious")
    with unchanged(tmp_path), pytest.raises(ColaError, match="not made by this command"), \
            one_writer(tmp_path/"run"): pass
    (tmp_path/".run.cola.pid").unlink()
    with one_writer(tmp_path/"run"): pass
    assert snapshot(tmp_path).keys() == {"precious"}

@needs("pyarrow")
def test_a_shard_does_not_replace_what_the_job_did_not_make(tmp_path, model):
    for name in ("in", "out"): (tmp_path/name).mkdir()
    def score(): return engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    score()
    (tmp_path/"in"/"b.csv").write_text(GOOD)
    (tmp_path/"out"/"b.csv").write_text("precious")
    with unchanged(tmp_path), pytest.raises(ColaError, match="holds b.csv and has not made it"):
        score()

# 3. Folders that do not carry our mark

def test_a_foreign_folder_beside_a_run_stays(cola, tmp_path):
    for name in ("demo.unfinished", "demo.unfinished/checkpoints"): (tmp_path/name).mkdir()
    (tmp_path/"demo.unfinished/thesis.txt").write_text("three years of work")
    train = ("train", "--model", "tiny", "--epochs", "1", "--out", "demo")
    for options in ((), ("--overwrite",), ("--resume",)):
        with unchanged(tmp_path):
            refused(cola(*train, *options), "demo.unfinished was not made by this command; move it")
    shutil.rmtree(tmp_path/"demo.unfinished")
    (tmp_path/"elsewhere").mkdir()
    (tmp_path/"elsewhere"/prediction.MARK).touch()
    (tmp_path/"demo.unfinished").symlink_to("elsewhere")
    with unchanged(tmp_path): refused(cola(*train), "demo.unfinished was not made by this command")

def test_names_with_patterns_reach_no_other_run(tmp_path):
    names = ("run[1]", "*")
    theirs = [".run1-replaced-5", ".run[1]-replaced-notes", ".x-replaced-9", ".*-replaced-mine"]
    for name in theirs:
        (tmp_path/name).mkdir()
        (tmp_path/name/"thesis.txt").write_text("three years of work")
    marked = tmp_path/".run2-replaced-7"
    marked.mkdir()
    (marked/prediction.MARK).touch()  # what another run has put aside just now
    before = snapshot(tmp_path)
    for name in names: fine_tune(small(), TINY, tmp_path/name, progress=False)
    after = snapshot(tmp_path)
    assert before.items() <= after.items()
    assert {path.name for path in tmp_path.iterdir()} == {*names, *theirs, marked.name}
    assert not (tmp_path/names[0]/prediction.MARK).exists()

def test_checkpoints_of_others_are_not_rotated(tmp_path):
    for name in ("step-by-step", "step-1", ".staging-area", "step-notes"):
        (tmp_path/name).mkdir()
        (tmp_path/name/"thesis.txt").write_text("three years of work")
    before = snapshot(tmp_path)
    for step in (1, 2, 3): save_checkpoint(tmp_path, step, {}, {}, keep=1)
    assert before.items() <= snapshot(tmp_path).items()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003"]

# 4. Names from outside

OUTSIDE = ["../victim", "../victim.tsv", "/abs", "..", ".", "", "a/../../victim", "a\0b", "../../x"]

@pytest.mark.parametrize("name", OUTSIDE)
def test_one_function_refuses_names_that_lead_outside(tmp_path, name):
    with pytest.raises(ColaError, match="is not the name of a file in"):
        path_within(tmp_path/"folder", name)

def test_a_link_in_the_folder_leads_nowhere(tmp_path):
    (tmp_path/"out").mkdir()
    (tmp_path/"out"/"sub").symlink_to(tmp_path)
    with pytest.raises(ColaError): path_within(tmp_path/"out", "sub/victim")
    assert path_within(tmp_path/"out", "a/b.csv") == tmp_path/"out"/"a"/"b.csv"

@pytest.mark.parametrize("split", ["../x", "{abs}", "a/../../x"])
def test_a_split_is_exported_into_the_folder(cola, tmp_path, split):
    split = split.format(abs=tmp_path/"abs")
    rows = [{"sentence": f"He left {number}.", "label": number % 2,
             "split": "train" if number < 6 else split} for number in range(10)]
    (tmp_path/"c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with unchanged(tmp_path):
        refused(cola("data", "c.jsonl", "--export", "out/deep"), "is not the name of a file in")

def test_two_splits_are_not_exported_into_one_file(tmp_path):
    rows = load_corpus("demo").train[:10]
    corpus = Corpus("mine", {"train": rows, "in_domain_train": rows})
    with pytest.raises(ColaError, match="would be one file"): corpus.export(tmp_path/"out")
    assert not (tmp_path/"out").exists()

def test_a_record_cannot_remove_or_write_outside(tmp_path, model):
    for name in ("in", "out", "out/_cola", "victim"): (tmp_path/name).mkdir()
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    (tmp_path/"victim"/"letter.txt").write_text("precious")
    (tmp_path/"out"/"mine.csv").write_text("precious")
    (tmp_path/"out"/"link").symlink_to(tmp_path/"victim")
    shards = dict.fromkeys(["../victim", "../victim/letter.txt", str(tmp_path/"victim"), "*",
                            "mine.csv", "link/letter.txt", "link"], 5)
    job = {"identity": {"model": "another"}, "shards": shards}
    (tmp_path/"out"/"_cola"/"job.json").write_text(json.dumps(job))
    (tmp_path/"out"/"_cola"/"letter.txt").write_text("precious")
    before = snapshot(tmp_path)
    engine.score_folder(model, tmp_path/"in", tmp_path/"out", overwrite=True, progress=False)
    after = snapshot(tmp_path)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"out/_cola/job.json"}

def test_a_listing_cannot_lead_outside(tmp_path, model, monkeypatch):
    "A store may have files of any name"
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    for name in ("a/../../b.csv", "/b.csv", "x/.."):
        monkeypatch.setattr(engine.Folder, "files", lambda self, name=name: (
            {name: 5} if self.path.endswith("in") else {}))
        with unchanged(tmp_path), pytest.raises(ColaError, match="is not the name of a file"):
            engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)

def test_a_manifest_cannot_lead_outside(tmp_path):
    checkpoint = save_checkpoint(tmp_path, 1, {}, {})
    (tmp_path/"outside").write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    (checkpoint/"manifest.json").write_text(json.dumps({"../outside": digest}))
    assert find_corruption(checkpoint) == "manifest.json is damaged"

# 5. Nothing is lost in silence

class Constant:
    "A judge that needs no time"
    fingerprint, mixed_precision = "constant", "no"

    def to_precision(self, chosen): return self

    def predict_probability(self, sentences, batch_size=64, done=None):
        if done: done(len(sentences))
        return np.full(len(sentences), .75), np.zeros(len(sentences), bool)

def scored(folder, name, content, out, **options):
    (folder/name).write_bytes(content if isinstance(content, bytes) else content.encode())
    score_file(Constant(), folder/name, folder/out, overwrite=True, progress=False, **options)
    return folder/out

DIGITS = ('{"sentence": "He left.", "a": 0.12345678901234567890, "b": 1e400, "c": 1.00,\t"d": -0,'
          ' "e": [123456789012345678901234567890, {"f": 5E-400}], "é": "\\u00e9", "a b": null }')

def test_json_keeps_every_digit(tmp_path):
    out = scored(tmp_path, "a.jsonl", DIGITS + "\n{ }\n", "b.jsonl").read_text().splitlines()
    assert out[0] == DIGITS[:-2] + ', "probability": 0.75, "predicted": 1, "truncated": false}'
    assert out[1] == '{"probability": null, "predicted": null, "truncated": false}'
    kinds = ["csv", "tsv", "txt", *(["parquet"] if importlib.util.find_spec("pyarrow") else [])]
    for number in ("0.12345678901234567890", "1e400", "5E-400", "[[0.12345678901234567890]]"):
        for kind in kinds:
            with pytest.raises(ColaError, match="line 1: the number .* has more digits than"):
                scored(tmp_path, "a.jsonl", f'{{"sentence": "a", "n": {number}}}\n', f"b.{kind}")
    for number in ("0.1", "1.50", "-2e3", "1234567890123456789",
                   "0.1000000000000000055511151231257827021181583404541015625"):
        scored(tmp_path, "a.jsonl", f'{{"sentence": "a", "n": {number}}}\n', "b.csv")

def test_an_array_keeps_every_digit_or_is_refused(tmp_path):
    out = scored(tmp_path, "a.json", '[{"sentence": "a", "n": 0.1, "m": 12345678901234567890}]',
                 "b.jsonl")
    assert json.loads(out.read_text())["m"] == 12345678901234567890
    for number in ("0.12345678901234567890", "1e400", "1e99999999999999999999"):
        for name in ("a.json", "a.jsonl"):
            with pytest.raises(ColaError, match="no JSON"):
                scored(tmp_path, name, f'[{{"sentence": "a", "n": {number}}}]', "b.jsonl")

def test_a_later_row_may_not_hold_what_scoring_adds(tmp_path, monkeypatch):
    rows = ['{"sentence": "a"}'] * 300 + ['{"sentence": "a", "predicted": 7}']
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(rows)))
    with pytest.raises(ColaError, match="line 301: it has a column 'predicted' already"):
        score_file(Constant(), "-", tmp_path/"b.jsonl", format="jsonl", progress=False)

@needs("pyarrow")
def test_parquet_keeps_its_values_or_refuses(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    time64 = pa.array([1_001], pa.time64("ns"))
    for column in (time64, pa.array([[1_001]], pa.list_(pa.time64("ns"))),
                   pa.StructArray.from_arrays([time64], ["at"])):
        pq.write_table(pa.table({"sentence": ["a"], "at": column}), tmp_path/"a.parquet")
        for kind in ("parquet", "csv", "jsonl"):
            with pytest.raises(ColaError, match="a.parquet: cannot be read as Parquet"):
                score_file(Constant(), tmp_path/"a.parquet", tmp_path/f"b.{kind}", progress=False)
    kept = pa.table({
        "sentence": ["a", None], "ns": pa.array([1, 2**62], pa.timestamp("ns")),
        "span": pa.array([1, None], pa.duration("ns")),
        "big": pa.array([2**64 - 1, 0], pa.uint64()),
        "exact": pa.array([None, Decimal("0.10")], pa.decimal128(9, 2)),
        "at": pa.array([1_000, 0], pa.time64("ns")), "raw": [b"\xff", b""],
        "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int8()))})
    pq.write_table(kept, tmp_path/"a.parquet")
    score_file(Constant(), tmp_path/"a.parquet", tmp_path/"b.parquet", progress=False)
    assert pq.read_table(tmp_path/"b.parquet").select(kept.column_names).equals(kept)

@needs("pyarrow")
@pytest.mark.parametrize("row", ['"m": {}', '"m": [{}]', '"m": [1, "a"]', '"m": [[], {}]',
                                 '"m": 123456789012345678901', '"m": [true, 1]'])
def test_json_that_parquet_cannot_hold_is_one_line(tmp_path, row):
    with pytest.raises(ColaError, match="Parquet cannot hold"):
        scored(tmp_path, "a.jsonl", f'{{"sentence": "a", {row}}}\n', "b.parquet")
    assert not (tmp_path/"b.parquet").exists()

# 6. A row stays a row

ENDS = ["lone\rreturn", "two\nlines", "both\r\nends", 'a "quote", and', "\u2028", "\x0b\x0c\x85"]

def test_predictions_keep_their_rows(tmp_path):
    count = len(ENDS)
    table = pd.DataFrame({"split": "dev", "sentence": ENDS, "label": [0, 1] * (count // 2),
                          "logit": .5, "probability": .75, "predicted": 1, "note": [None, ""] * 3})
    write_predictions(table, tmp_path/"predictions.csv")
    assert pd.read_csv(tmp_path/"predictions.csv").sentence.tolist() == ENDS
    assert read_predictions(tmp_path/"predictions.csv").sentence.tolist() == ENDS

def test_a_lone_return_is_quoted_or_refused(tmp_path):
    rows = "".join(json.dumps({"sentence": text}) + "\n" for text in ENDS)
    out = scored(tmp_path, "a.jsonl", rows, "b.csv")
    assert pd.read_csv(out).sentence.tolist() == ENDS
    for kind in ("tsv", "txt"):
        for text in ENDS[:3]:
            with pytest.raises(ColaError, match="a tab or a line end inside a field"):
                scored(tmp_path, "a.jsonl", json.dumps({"sentence": text}) + "\n", f"b.{kind}")
    with pytest.raises(ColaError, match="a tab or a line end inside a field"):
        scored(tmp_path, "a.jsonl", '{"sentence": "a", "x\\ty": 1}\n', "b.tsv")

@needs("gradio")
def test_the_csv_of_the_page_keeps_its_rows(judge):
    import base64

    from cola_nbdev.app import results_view
    page = results_view(judge(*ENDS[:4]), "mine.txt")
    data = base64.b64decode(re.search(r"base64,([\w+/=]+)", page)[1])
    assert pd.read_csv(io.BytesIO(data)).sentence.tolist() == ENDS[:4]

# 7. Identities

def test_every_file_of_a_judge_is_in_its_fingerprint(copied):
    before = Judge(copied).fingerprint
    assert Judge(copied).fingerprint == before == Judge(copied.resolve()).fingerprint
    (copied/"README.md").write_text("another card")
    assert Judge(copied).fingerprint == before
    tokenizer = json.loads((copied/"tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    config = json.loads((copied/"config.json").read_text()) | {"hidden_act": "relu"}
    changes = {"tokenizer.json": tokenizer, "config.json": config}
    seen = {before}
    for name, content in changes.items():
        kept = (copied/name).read_bytes()
        (copied/name).write_text(json.dumps(content))
        seen.add(Judge(copied).fingerprint)
        (copied/name).write_bytes(kept)
    edit(copied/"config.json", num_attention_heads=4)
    seen.add(Judge(copied).fingerprint)
    tensors_of(copied, lambda weights: weights["classifier.bias"].add_(1))
    seen.add(Judge(copied).fingerprint)
    assert len(seen) == 5

@needs("onnxruntime")
def test_an_onnx_file_is_in_the_fingerprint(copied, monkeypatch):
    (copied/"onnx").mkdir()
    seen = set()
    for name, content in (("model.onnx", b"1"), ("model.onnx", b"2"), ("model_int8.onnx", b"3")):
        (copied/"onnx"/name).write_bytes(content)
        seen.add(model_identity(copied, name))
    assert len(seen | {model_identity(copied)}) == 4

def test_scoring_resumes_only_the_same(judge, copied, tmp_path, monkeypatch):
    "Another format, another tokenizer, another version"
    (tmp_path/"a.csv").write_text(GOOD * 20)
    (tmp_path/"a.csv").write_text("sentence\n" + "He left.\n" * 40)
    def score(judge, **options):
        return score_file(judge, tmp_path/"a.csv", tmp_path/"out", progress=False, chunk=10,
                          **options)
    def interrupted(judge):
        calls, real = [], judge.predict_probability
        def predict_probability(*arguments):
            calls.append(1)
            if len(calls) == 3: raise KeyboardInterrupt
            return real(*arguments)
        monkeypatch.setattr(judge, "predict_probability", predict_probability)
        with pytest.raises(KeyboardInterrupt): score(judge, format="csv")
        monkeypatch.undo()
    mine = Judge(copied)
    interrupted(mine)
    for other in ("jsonl", "tsv"):
        with pytest.raises(ColaError, match="cannot be resumed: format"): score(mine, format=other)
    edit(copied/"config.json", hidden_act="relu")
    other = Judge(copied)
    with pytest.raises(ColaError, match="cannot be resumed: model"): score(other, format="csv")
    edit(copied/"config.json", hidden_act="gelu")
    other = Judge(copied).to_precision("bf16")
    with pytest.raises(ColaError, match="cannot be resumed: model"): score(other, format="csv")
    versions = prediction.versions() | {"transformers": "0"}
    monkeypatch.setattr("cola_nbdev.scoring.versions", lambda: versions)
    message = "cannot be resumed: transformers"
    with pytest.raises(ColaError, match=message): score(mine, format="csv")

def test_damaged_scores_are_made_again(judge, tmp_path, monkeypatch):
    (tmp_path/"a.csv").write_text("sentence\n" + "He left.\n" * 40)
    real = os.replace
    def stop_before_the_end(source, target, **options):
        if str(target).endswith("out.csv"): raise KeyboardInterrupt
        return real(source, target, **options)
    monkeypatch.setattr(os, "replace", stop_before_the_end)
    def score():
        return score_file(judge, tmp_path/"a.csv", tmp_path/"out.csv", progress=False, chunk=10)
    with pytest.raises(KeyboardInterrupt): score()
    monkeypatch.undo()
    scores = work_folder(tmp_path/"out.csv")/"1.scores"
    content = bytearray(scores.read_bytes())
    content[-9] ^= 1  # one bit of one probability
    scores.write_bytes(content)
    assert score()["earlier"] == 30
    assert len(set((tmp_path/"out.csv").read_text().splitlines()[1:])) == 1

def test_another_base_is_another_recipe(copied, tmp_path):
    config = Config(model=str(copied), epochs=1)
    run_seeds(small(), config, [1, 2], tmp_path/"seeds", False)
    same_recipe(small(), config, tmp_path/"seeds")
    tensors_of(copied, lambda weights: weights["bert.embeddings.LayerNorm.bias"].add_(1))
    with pytest.raises(ColaError, match="run of another recipe: base"):
        run_seeds(small(), config, [1, 2], tmp_path/"seeds", False)
    with pytest.raises(ColaError, match="runs of another recipe: base"):
        same_recipe(small(), config, tmp_path/"seeds")

def test_a_run_resumes_only_from_the_same_base(copied, tmp_path, monkeypatch):
    from cola_nbdev import training
    config = Config(model=str(copied), epochs=2, checkpoint_minutes=0)
    def train(): return training.train(small().train, config, tmp_path/"kept", True, False)
    monkeypatch.setattr(training, "check_state", stop_after(training.check_state, 2))
    with pytest.raises(KeyboardInterrupt): train()
    monkeypatch.undo()
    assert checkpoints(tmp_path/"kept")
    edit(copied/"config.json", hidden_act="relu")
    with pytest.raises(ColaError, match="belongs to another run: base"): train()

def stop_after(function, count):
    calls = []
    def call(*arguments):
        calls.append(1)
        if len(calls) > count: raise KeyboardInterrupt
        return function(*arguments)
    return call

def test_a_source_that_changes_fails_on_standard_output_too(tmp_path, capsysbinary):
    path = tmp_path/"a.txt"
    path.write_text("He left.\n" * 10)
    class Changing(Constant):
        def predict_probability(self, *arguments):
            path.write_text("He left.\n" * 9 + "He Left.\n")
            return super().predict_probability(*arguments)
    with pytest.raises(ColaError, match="was changed while it was read"):
        score_file(Changing(), path, "-", progress=False)

# 8. Labels of a foreign model

def labeled(folder, zero, one, bias=(5., -5.), **more):
    "A judge that finds for its own label 0 whatever it reads"
    import torch
    edit(folder/"config.json", id2label={"0": zero, "1": one}, label2id={zero: 0, one: 1},
         positive_label=None, **more)
    tensors_of(folder, lambda weights: weights.update({
        "classifier.weight": torch.zeros(2, 32), "classifier.bias": torch.tensor(bias)}))
    return folder

@pytest.mark.parametrize("zero, one, label", [
    ("unacceptable", "acceptable", "unacceptable"), ("acceptable", "unacceptable", "acceptable"),
    ("Grammatical", "Ungrammatical", "Grammatical"), ("LABEL_0", "LABEL_1", "unacceptable"),
    ("LABEL_1", "LABEL_0", "acceptable"), ("NEGATIVE", "POSITIVE", "NEGATIVE"),
    ("POSITIVE", "NEGATIVE", "POSITIVE"), ("spam", "ham", "spam")])
def test_the_names_of_labels_decide(copied, zero, one, label):
    labeled(copied, zero, one)
    judge = Judge(copied)
    verdict = judge("He left.").iloc[0]
    assert verdict.label == label
    first_is_one = {zero.lower(), one.lower()} and zero.lower() in (
        "acceptable", "grammatical", "label_1", "positive", "spam")
    assert verdict.probability == pytest.approx(1 / (1 + np.exp(-10 if first_is_one else 10)))
    assert judge.predict(["He left."]) == [int(first_is_one)]

def test_names_that_tell_nothing_are_refused_with_the_option(cola, copied):
    labeled(copied, "entailment", "contradiction")
    for command in (("predict", copied, "He left."), ("evaluate", copied, "--data", "demo"),
                    ("score", copied, "a.txt", "b.csv"), ("serve", copied, "--port", "0")):
        if command[0] == "score": Path("a.txt").write_text("He left.\n")
        refused(cola(*command), "the labels of")
        refused(cola(*command), "--positive contradiction")
    out, _, code = cola("predict", copied, "He left.", "--positive", "Entailment")
    assert code == 0 and "100.0%  entailment" in out
    out, _, code = cola("predict", copied, "He left.", "--positive", "contradiction")
    assert code == 0 and " 0.0%  entailment" in out
    odd = cola("predict", copied, "He left.", "--positive", "neutral")
    refused(odd, "--positive contradiction")
    both = {Judge(copied, positive=name).fingerprint for name in ("entailment", "contradiction")}
    assert len(both) == 2

def test_a_swapped_model_trains_and_is_saved_in_our_order(copied, tmp_path):
    labeled(copied, "acceptable", "unacceptable", (.5, -.5))
    assert load_model(copied).config.id2label == {0: "unacceptable", 1: "acceptable"}
    out = tmp_path/"run"
    fine_tune(small(), Config(model=str(copied), epochs=1), out, progress=False)
    saved = json.loads((out/"model"/"config.json").read_text())
    assert saved["id2label"] == {"0": "unacceptable", "1": "acceptable"}
    assert saved["positive_label"] == "acceptable"

@needs("onnxscript")
@pytest.mark.skipif(not LONG, reason="takes long: set COLA_NBDEV_LONG=1")
def test_what_is_exported_has_the_same_order(copied):
    from cola_nbdev.export import write_onnx
    labeled(copied, "acceptable", "unacceptable")
    judge = Judge(copied)
    write_onnx(judge.model, judge.tokenizer, copied, int8=False)
    assert Judge(copied, onnx="fp32")("He left.").label[0] == "acceptable"

# 9. Not a number

@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_head_that_is_not_a_number_judges_nothing(cola, copied, tmp_path, value):
    tensors_of(copied, lambda weights: weights["classifier.bias"].copy_(
        weights["classifier.bias"].new_tensor([-value, value])))
    (tmp_path/"a.txt").write_text("He left.\n")
    said = "are not all numbers|is not a number|cannot judge a word"
    for command in (("predict", copied, "He left."), ("score", copied, "a.txt", "b.csv"),
                    ("evaluate", copied, "--data", "demo"), ("pairs", copied, "demo.tsv")):
        load_corpus("demo").splits["in_domain_dev"][:4].iloc[:, :4].to_csv(
            tmp_path/"demo.tsv", sep="\t", header=False, index=False)
        _, error, code = cola(*command)
        assert code == 2 and error.count("\n") == 1 and re.search(said, error), error
    assert not (tmp_path/"b.csv").exists()

def test_logits_that_are_not_numbers_are_an_error_everywhere(judge, monkeypatch):
    from cola_nbdev import packing
    from cola_nbdev.attribution import ids_log_odds, what_if
    from cola_nbdev.pairs import prefer_good
    real = packing.Packed.forward
    monkeypatch.setattr(packing.Packed, "forward", lambda *a, **o: real(*a, **o) * np.nan)
    pairs = pd.DataFrame({"good": ["He left."], "bad": ["Him left."]})
    rows = load_corpus("demo").train[:4]
    for ask in (lambda: judge("He left."), lambda: judge.predict(["He left."]),
                lambda: prefer_good(judge, pairs), lambda: what_if(judge, "He left."),
                lambda: packing.predict_splits(judge.model, judge.tokenizer, {"dev": rows}),
                lambda: score_file(judge, "-", "-", progress=False)):
        monkeypatch.setattr("sys.stdin", io.StringIO("He left.\n"))
        with pytest.raises(ColaError, match="not a number"): ask()
    import torch
    def broken(input_ids): return SimpleNamespace(logits=torch.full((1, 2), np.nan))
    with pytest.raises(ColaError, match="not a number"): ids_log_odds(broken, torch.tensor([[1]]))

# 10. Mount points

def busy(folder, monkeypatch):
    "Make a folder that can't be renamed, as a mount point can't; nothing may be trained"
    from cola_nbdev import training
    folder.mkdir()
    real = os.rename
    def rename(source, target, **options):
        if Path(source).name == folder.name: raise OSError(errno.EBUSY, "Device or resource busy")
        return real(source, target, **options)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("training began"))

def test_a_mount_point_is_found_before_training(cola, tmp_path, monkeypatch):
    busy(tmp_path/"mount", monkeypatch)
    with unchanged(tmp_path):
        refused(cola("train", "--model", "tiny", "--out", "mount"),
                "mount can't be replaced (device or resource busy); is it a mount point? choose a "
                "folder in it: --out mount/run")

# 11. Weights

@pytest.mark.parametrize("name", [
    "pytorch_model.bin", "../other/model.safetensors", "/abs.safetensors", "sub/model.safetensors",
    "", 7, ["model.safetensors"], "..\\other.safetensors"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside weights", "alone"])
def test_a_list_of_weights_leads_nowhere_else(cola, copied, name, beside):
    other = copied.parent/"other"
    other.mkdir()
    shutil.copy(copied/"model.safetensors", other)
    weights = (copied/"model.safetensors").rename(copied/"kept.safetensors")
    if beside: shutil.copy(weights, copied/"model.safetensors")
    (copied/"pytorch_model.bin").write_bytes(b"a pickle")
    index = {"metadata": {}, "weight_map": {"classifier.bias": name}}
    (copied/"model.safetensors.index.json").write_text(json.dumps(index))
    refused(cola("predict", copied, "He left."), "weights must be safetensors in")

def test_an_index_of_the_wrong_shape(cola, copied):
    for content in ("[]", "{", '{"weight_map": []}', "null", "7"):
        (copied/"model.safetensors.index.json").write_text(content)
        refused(cola("predict", copied, "He left."), "index.json is damaged")

def test_a_model_leads_nowhere_else(cola, copied):
    changed(copied/"config.json", transformers_weights="../pickled.bin")
    refused(cola("predict", copied, "He left."), "config.json names its weights")
    changed(copied/"config.json", transformers_weights=None)
    changed(copied/"tokenizer_config.json", fast_tokenizer_files=["../elsewhere/tokenizer.json"])
    refused(cola("predict", copied, "He left."), "a tokenizer must be JSON in")
    changed(copied/"tokenizer_config.json", fast_tokenizer_files=None)
    (copied/"adapter_config.json").write_text("{}")
    refused(cola("predict", copied, "He left."), "this is an adapter")

def changed(path, **facts):
    "A record with other facts; None removes one"
    known = json.loads(path.read_text()) | facts
    path.write_text(json.dumps({key: value for key, value in known.items() if value is not None}))

def test_weights_of_another_model_are_not_made_up(cola, copied, tmp_path):
    "Names that the model does not know, or more layers than its configuration has"
    weights = load_file(copied/"model.safetensors")
    renamed = {f"other.{name}": values for name, values in weights.items()}
    save_file(renamed, copied/"model.safetensors", {"format": "pt"})
    train = ["train", "--epochs", 1, "--data", "demo", "--out", tmp_path/"run", "--model", copied]
    for command in (["predict", copied, "He left."], train): refused(cola(*command), "are missing")
    save_file(weights, copied/"model.safetensors", {"format": "pt"})
    changed(copied/"config.json", num_hidden_layers=1)
    refused(cola("predict", copied, "He left."), "are more than its config.json asks for")

def test_labels_that_only_label2id_names(cola, copied):
    changed(copied/"config.json", id2label=None, label2id={"acceptable": 0, "unacceptable": 1})
    refused(cola("predict", copied, "He left."), "id2label and label2id of config.json don't fit")

def test_what_appears_at_out_while_training_stays(cola, tmp_path, monkeypatch):
    "A folder of somebody else, or a note in the run that is replaced"
    out, real = tmp_path/"run", prediction.write_results

    def meanwhile(*arguments):
        (out/"model").mkdir(parents=True, exist_ok=True)
        (out/"model"/"notes.md").write_text("mine")
        return real(*arguments)

    tiny = ["train", "--epochs", 1, "--data", "demo", "--model", "tiny", "--out", out]
    with monkeypatch.context() as patched:
        patched.setattr(prediction, "write_results", meanwhile)
        refused(cola(*tiny), "has been made by somebody else")
    assert (out/"model"/"notes.md").read_text() == "mine"
    out.rename(tmp_path/"theirs")
    assert "saved in" in cola(*tiny, "--resume")[0]
    with monkeypatch.context() as patched:
        patched.setattr(prediction, "write_results", meanwhile)
        refused(cola(*tiny, "--overwrite"), "it also holds model/notes.md")
    assert (out/"model"/"notes.md").read_text() == "mine"

def test_a_pipe_in_a_model_is_not_waited_for(cola, copied):
    for name in ("tokenizer_config.json", "pipe"):
        (copied/name).unlink(missing_ok=True)
        os.mkfifo(copied/name)
        with within(60): refused(cola("predict", copied, "He left."), f"{name} is no ordinary file")
        (copied/name).unlink()

# 12. Secrets

ADDRESSES = ["postgresql://bob:se@cret@host/db", "s3://AK:se/cret@bucket/in",
             "https://host/file?X-Amz-Signature=secret", "postgresql://host/db?password=secret",
             "https://secret@host/file", "ftp://bob:sec#ret@host/a", "https://host/a#secret",
             "zip://a.csv::s3://AK:secret@bucket/a.zip", "s3:/AK:secret@bucket/in",
             "postgresql:bob:secret@host/db", "https://host/file?mail=a@b&sig=secret"]

@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_shown_without_its_secrets(cola, tmp_path, model, address):
    said = [without_password(address), explain(ValueError(f"cannot open '{address}'"), address),
            explain(ValueError("invalid literal: 'secret' cret"), address)]
    if ":/" in address: said.append(str(ColaError(f"{address}: no such file")))
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    said += [cola("score", model, address, "out.csv")[1],
             cola("score", model, "in/a.csv", address)[1]]
    if "host" not in address or "postgresql" in address:
        said.append(cola("score", model, address, "out", "--engine", "process")[1])
        if importlib.util.find_spec("optuna"):
            said.append(cola("search", "--model", "tiny", "--out", "s", "--storage", address)[1])
    for text in said:
        assert not re.search("secret|se@cret|se/cret|cret@|X-Amz", text), text

# Streams, pipes, disks, processes

def test_closed_streams(process, model, tmp_path):
    out, error, code = process("data", "demo", closed=[0])
    assert code == 0 and "corpus demo" in out and not error
    out, error, code = process("predict", model, "He left.", closed=[2])
    assert code == 0 and "%" in out
    refused(process("data", "demo", closed=[1]), "standard output is closed")
    assert process("data", "nowhere", closed=[1, 2])[2] == 2
    refused(process("score", model, "-", tmp_path/"b.csv", closed=[0]), "standard input is closed")
    refused(process("data", "demo", stdout="/dev/full"), "no space left on device")
    assert not (tmp_path/"b.csv").exists()

def test_a_pipe_as_a_source_is_not_waited_for(cola, judge, tmp_path, model):
    os.mkfifo(tmp_path/"pipe.csv")
    (tmp_path/"in").mkdir()
    os.mkfifo(tmp_path/"in"/"train.tsv")
    os.mkfifo(tmp_path/"in"/"dev.tsv")
    with within(120):
        refused(cola("score", model, "pipe.csv", "out.csv"), "pipe.csv is a pipe")
        refused(cola("score", model, "in", "out", "--engine", "process"), "is no ordinary file")
        refused(cola("data", "pipe.csv"), "there is no corpus")
        refused(cola("data", "in"), "in")
        refused(cola("compare", "pipe.csv", "pipe.csv"), "no predictions")
        refused(cola("pairs", model, "pipe.csv"), "no ordinary file")
        refused(cola("glue", model, "pipe.csv"), "no ordinary file")
    read, write = os.pipe()  # but <(a command) is a pipe that somebody writes into
    os.write(write, b"He left.\n")
    os.close(write)
    done = score_file(judge, f"/dev/fd/{read}", tmp_path/"out.csv", format="text", progress=False)
    assert done["rows"] == 1

@needs("pyarrow")
def test_one_bad_shard_does_not_end_the_folder(cola, tmp_path, model):
    import pyarrow as pa
    import pyarrow.parquet as pq
    folder = tmp_path/"in"
    folder.mkdir()
    (folder/"good.txt").write_text("He left.\n")
    latin = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"),
                                                  pa.py_buffer(b"\xe9")])
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    far = pa.array([400_000_000_000_000_000], pa.timestamp("us"))  # the year 14645
    for name, column in (("latin", latin), ("twice", twice), ("far", far)):
        rows = {"sentence": latin if name == "latin" else pa.array(["a"]), "more": column}
        with contextlib.suppress(pa.ArrowException):
            pq.write_table(pa.table(rows), folder/f"{name}.parquet")
    (folder/"half.parquet").write_bytes((folder/"far.parquet").read_bytes()[:-20])
    _, error, code = cola("score", model, "in", "out", "--engine", "process")
    bad = len(list(folder.glob("*.parquet")))
    assert code == 3 and error.count("\n") == 1 and f"{bad} of {bad + 1} shards could not" in error
    assert (tmp_path/"out"/"good.txt").exists() and bad >= 3
    for path in folder.glob("*.parquet"):
        error = cola("score", model, path, "b.csv")[1]
        assert error.startswith("cola: ") and error.count("\n") == 1, error

def test_overwrite_keeps_its_own_lock(tmp_path, model, monkeypatch):
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/"a.txt").write_text("He left.\n")
    def score(**options):
        return engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False, **options)
    score()
    seen, real = [], engine.score_shard
    def look(*arguments):
        seen.append(sorted(path.name for path in (tmp_path/"out"/"_cola").glob(".job.json.*")))
        with pytest.raises(ColaError, match="is being written by"): score(overwrite=True)
        return real(*arguments)
    monkeypatch.setattr(engine, "score_shard", look)
    assert score(overwrite=True, chunk=8)["earlier"] == 0
    assert seen == [[".job.json.cola.lock", ".job.json.cola.pid"]]

def test_an_umask_is_respected(process, tmp_path, model):
    data = tmp_path/"small.tsv"
    load_corpus("demo").train[:60].iloc[:, :4].to_csv(data, sep="\t", header=False, index=False)
    (tmp_path/"a.txt").write_text("He left.\n")
    for path in (tmp_path, *tmp_path.iterdir()): path.chmod(path.stat().st_mode & 0o700)
    commands = [("train", "--data", data, *TRAIN, "--out", tmp_path/"run"),
                ("score", model, tmp_path/"a.txt", tmp_path/"b.csv")]
    if importlib.util.find_spec("optuna"):
        commands.append(("search", "--data", data, *TRAIN, "--trials", "1", "--vary", "warmup",
                         "--out", tmp_path/"search"))
    for command in commands: assert process(*command, umask=0o077)[2] == 0
    assert not [path for path in tmp_path.rglob("*") if path.lstat().st_mode & 0o077]

def test_an_umask_opens_what_it_allows(finished):
    "safetensors lets only their owner read them"
    weights, config = finished/"model/model.safetensors", finished/"model/config.json"
    assert weights.stat().st_mode == config.stat().st_mode

def test_a_full_disk_leaves_no_half_file(process, tmp_path):
    _, error, code = process("data", "demo", "--export", tmp_path/"files", most_bytes=20_000)
    assert code == 2 and error.count("\n") == 1 and "file too large" in error
    whole = tmp_path/"whole"
    load_corpus("demo").export(whole)
    for path in (tmp_path/"files").iterdir():
        assert path.read_bytes() == (whole/path.name).read_bytes()

@pytest.mark.parametrize("name, value", [("WORLD_SIZE", "abc"), ("WORLD_SIZE", "2.0"),
                                         ("PMI_SIZE", "two"), ("RANK", "first")])
def test_a_launcher_that_wrote_nonsense(cola, monkeypatch, name, value):
    if name == "RANK": monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    refused(cola("train", "--model", "tiny", "--out", "run"), f"{name} is '{value}'")
    refused(cola("data", "demo"), f"{name} is '{value}'")

def test_a_launcher_that_wrote_half(cola, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"): monkeypatch.delenv(name, raising=False)
    with within(60):
        refused(cola("train", "--model", "tiny", "--out", "run"), "started as one of several")
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        refused(cola("train", "--model", "tiny", "--out", "run"), "started as one of several")

def test_a_language_that_does_not_exist_is_noticed_at_once(cola, tmp_path, monkeypatch):
    monkeypatch.setenv("COLA_NBDEV_LANGUAGE", "tlh")
    for command in (("train", "--model", "tiny", "--out", "run"), ("data", "demo")):
        refused(cola(*command), "COLA_NBDEV_LANGUAGE is 'tlh'; plots are in en or pt")
    with pytest.raises(ColaError, match="COLA_NBDEV_LANGUAGE"):
        fine_tune(small(), TINY, tmp_path/"run", progress=False)
    assert not list(tmp_path.iterdir())

# What is shown

ESCAPES = "\x1b]0;owned\x07 \x9b31m \u202e evil \x7f <img src=x onerror=alert(1)> $\\frac$ $"

def test_a_terminal_is_shown_no_escapes(cola, tmp_path, model):
    name = "a\x1b[31m\udcff.jsonl"
    source = "".join(each for each in ESCAPES if not each.isspace() and each < "\u2e80")
    rows = [{"sentence": f"He left {number} {ESCAPES}", "label": number % 2, "source": source,
             "split": "train" if number < 40 else f"dev {ESCAPES}", "linguistics_term": ESCAPES}
            for number in range(60)]
    (tmp_path/name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"sentence_good": f"He left {ESCAPES}", "sentence_bad": "Him left", "UID": ESCAPES}]
    (tmp_path/"pairs.jsonl").write_text(json.dumps(pairs[0]) + "\n")
    table = pd.DataFrame({"split": ESCAPES, "sentence": [f"a {ESCAPES}", "b"] * 3, "logit": .5,
                          "label": [0, 1] * 3, "probability": .75, "predicted": [0, 1] * 3})
    for number, run in enumerate(("one \x1b[1m", "two")):
        (tmp_path/run).mkdir()
        write_predictions(table.assign(predicted=number), tmp_path/run/"predictions.csv")
    for command in (("data", name), ("data", name, "--audit"), ("pairs", model, "pairs.jsonl"),
                    ("compare", "one \x1b[1m", "two"), ("predict", model, ESCAPES),
                    ("predict", model, ESCAPES, "--json"), ("data", name, "--export", "out"),
                    ("train", "--data", name, *TRAIN, "--out", "r\x1b[1m"),
                    ("evaluate", model, "--data", name, "--out", "e"), ("data", "no\x1b[1m")):
        out, error, code = cola(*command)
        assert code == (2 if command == ("data", "no\x1b[1m") else 0), error
        shown = (out + error).replace("\n", "")
        assert not any(ord(each) < 32 or each in "\x7f\x9b\u202e" for each in shown), command
        if "--json" in command: assert json.loads(out)[0]["sentence"] == ESCAPES

def test_reprs_are_escaped():
    rows = load_corpus("demo").train[:4].assign(sentence_source=ESCAPES)
    corpus = Corpus(ESCAPES, {f"dev {ESCAPES}": rows, "train": rows})
    run = Run(None, None, Config(model=ESCAPES))  # pyright: ignore[reportArgumentType]
    for shown in (corpus._repr_html_(), run._repr_html_()): assert "<img" not in shown

def test_names_that_are_not_utf8(cola, tmp_path, model):
    bad = os.fsdecode(b"caf\xe9")
    rows = load_corpus("demo").train[:60].iloc[:, :4]
    rows.to_csv(tmp_path/f"{bad}.tsv", sep="\t", header=False, index=False)
    (tmp_path/bad).mkdir()
    (tmp_path/bad/f"{bad}.csv").write_text(GOOD)
    for command in (("data", f"{bad}.tsv"), ("data", f"{bad}.tsv", "--export", f"{bad}-out"),
                    ("train", "--data", f"{bad}.tsv", *TRAIN, "--out", "r"),
                    ("score", model, f"{bad}/{bad}.csv", f"{bad}-scored.csv"),
                    ("score", model, bad, f"{bad}-folder", "--engine", "process")):
        out, error, code = cola(*command)
        assert code == 0 and "Traceback" not in error, (command, error)
    refused(cola("train", "--model", "tiny", "--out", bad), "is not UTF-8")
    shutil.copytree(model, tmp_path/f"{bad}-model")
    assert cola("predict", f"{bad}-model", "He left.")[2] in (0, 2)

@pytest.mark.parametrize("sentence", ["\u200b", "\u2060\ufeff", "\u00ad\u200d", "\u3164", "\ufe0f",
                                      "\u2800", "\x7f\x1b", "\u0301"])
def test_what_cannot_be_seen_gets_no_verdict(cola, judge, tmp_path, model, sentence):
    assert is_blank(sentence) and not is_blank(sentence + "a")
    refused(cola("predict", model, sentence), "sentence 1 is empty")
    out = scored(tmp_path, "a.jsonl", json.dumps({"sentence": sentence}) + "\n", "b.jsonl")
    assert json.loads(out.read_text())["predicted"] is None
    (tmp_path/"a.tsv").write_text(f"s\t1\t\tHe left.\ns\t0\t\t{sentence}\n", encoding="utf-8")
    refused(cola("data", "a.tsv"), "a.tsv line 2: the sentence is empty")

# Records of the wrong shape

SHAPES = ["null", "7", "[]", '"text"', "{", "", "[[]]", '{"config": [], "splits": 7}',
          '{"config": {"seed": []}, "splits": {"a": 7}}', '{"identity": 7, "shards": []}', "NaN"]

@pytest.mark.parametrize("shape", SHAPES)
def test_metrics_of_the_wrong_shape(cola, finished, tmp_path, shape, judge):
    from cola_nbdev.app import about_scores
    run = Path(shutil.copytree(finished, tmp_path/"seed-1"))
    (run/"metrics.json").write_text(shape)
    _, error, code = cola("train", "--model", "tiny", "--epochs", "1", "--out", run, "--resume")
    assert code == 2 and error.count("\n") == 1, error
    with contextlib.suppress(ColaError): run_seeds(small(), TINY, [1, 2], tmp_path, False)
    out, error, code = cola("compare", run, finished)
    assert code in (0, 2) and "Traceback" not in error
    assert all(about_scores(run))  # a line of text, and a table or why there is none

@pytest.mark.parametrize("shape", SHAPES)
def test_recipes_and_records_of_the_wrong_shape(tmp_path, shape, model):
    (tmp_path/"recipe.json").write_text(shape)
    with contextlib.suppress(ColaError): same_recipe(small(), TINY, tmp_path)
    for name in ("in", "out"): (tmp_path/name).mkdir()
    (tmp_path/"in"/"a.txt").write_text("He left.\n")
    def score(): return engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)
    assert score()["earlier"] == 0
    (tmp_path/"out/_cola/shards/a.txt.json").write_text(shape)
    assert score()["earlier"] == 0 and score()["earlier"] == 1
    (tmp_path/"out/_cola/job.json").write_text(shape)
    with contextlib.suppress(ColaError): score()

def test_a_finished_journal_whose_file_is_gone(tmp_path, model, finished, cola):
    for name in ("in",): (tmp_path/name).mkdir()
    (tmp_path/"in"/"a.txt").write_text("He left.\n")
    def score(): return engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)
    score()
    (tmp_path/"out"/"a.txt").unlink()
    assert score()["earlier"] == 0 and (tmp_path/"out"/"a.txt").exists()
    for gone in ("model", "predictions.csv"):
        run = Path(shutil.copytree(finished, tmp_path/f"without {gone}"))
        if gone == "model": shutil.rmtree(run/gone)
        else: (run/gone).unlink()
        with pytest.raises(ColaError, match="exists already"):
            fine_tune(small(), TINY, run, resume=True, progress=False)

@pytest.mark.parametrize(("name", "value"), [
    ("epoch", None), ("step", "1"), ("seconds", None), ("history", 5), ("best_score", 1),
    ("epoch", 1.5), ("step", -1), ("chunks", 0)])
def test_a_checkpoint_with_a_fact_of_another_kind(tmp_path, name, value):
    from cola_nbdev.training import train
    train(small().train, TINY, tmp_path, progress=False)
    newest = max(tmp_path.glob("step-*"))
    facts = json.loads((newest/"facts.json").read_text()) | {name: value}
    (newest/"facts.json").write_text(json.dumps(facts))
    write_manifest(newest)
    with pytest.raises(ColaError, match=f"holds no checkpoint of this version.*{name} is"):
        train(small().train, TINY, tmp_path, resume=True, progress=False)

@pytest.mark.parametrize("facts", [{}, [], {"settings": []}, {"settings": {}, "epoch": "x"}, 7])
def test_a_checkpoint_of_the_wrong_shape(tmp_path, facts):
    from cola_nbdev.training import train
    save_checkpoint(tmp_path, 1, {}, facts)
    said = "holds no checkpoint of this version|belongs to another run: model None"
    with pytest.raises(ColaError, match=said):
        train(small().train, TINY, tmp_path, resume=True, progress=False)

def test_predictions_that_are_cut_off(tmp_path):
    header = "split,sentence,label,logit,probability,predicted,in_train\n"
    (tmp_path/"predictions.csv").write_text(header + "dev,a,1,.5,.6,1,False\ndev,b,0,.5,.6,1")
    with pytest.raises(ColaError, match="the in_train in row 1"): load_predictions(tmp_path)

@pytest.mark.parametrize("row", [
    "dev,a,x,1,.5,1", "dev,a,1,1,oops,1", "dev,a,1,nan,.5,1", "", "dev,dev,a,1,.5,.5,1\ndev,a"])
def test_predictions_of_the_wrong_shape(cola, tmp_path, row):
    header = "split,sentence,label,logit,probability,predicted\n"
    (tmp_path/"predictions.csv").write_text(header + row)
    with pytest.raises(ColaError): load_predictions(tmp_path)
    refused(cola("compare", tmp_path, tmp_path), "predictions")

# Models that promise what they don't have

@pytest.mark.parametrize("value", [-5, "64", 2.5, 0, None, [64], True, 1e400])
def test_a_length_that_is_none(cola, copied, value):
    edit(copied/"tokenizer_config.json", model_max_length=value)
    out, error, code = cola("predict", copied, "He left.")
    assert (code == 0) if value is None else (code == 2 and error.count("\n") == 1), error

@pytest.mark.parametrize("changes", [
    {"vocab_size": 30_000_000}, {"hidden_size": 10**9}, {"num_hidden_layers": 10**6},
    {"intermediate_size": 10**10}, {"max_position_embeddings": 10**9}, {"type_vocab_size": 10**9},
    {"max_position_embeddings": "64"}, {"vocab_size": -1}, {"vocab_size": "many"},
    {"hidden_act": 7}, {"num_attention_heads": 0}, {"pad_token_id": 10**6}, {"id2label": 7},
    {"model_type": "gpt2"},
    {"model_type": 7}, {"architectures": 7}, {"is_decoder": True}, {"layer_norm_eps": "x"}])
def test_a_configuration_that_does_not_fit(cola, copied, changes):
    edit(copied/"config.json", **changes)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    try:
        with within(60): _, error, code = cola("predict", copied, "He left.")
    finally: resource.setrlimit(resource.RLIMIT_AS, before)
    assert code in (0, 2) and error.count("\n") == (code == 2), error
    assert "memory" not in error

def test_tokens_beyond_the_embeddings(cola, copied):
    tokenizer = json.loads((copied/"tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["left"] = 10**6  # so few tokens that their number fits
    del tokenizer["model"]["vocab"]["the"]
    (copied/"tokenizer.json").write_text(json.dumps(tokenizer))
    refused(cola("predict", copied, "He left."), "the tokenizer has 1,000,001 tokens")

# Commands and their options

def test_no_command_advises_an_option_that_it_lacks(cola, tmp_path, finished):
    (tmp_path/"there").mkdir()
    (tmp_path/"there"/"letter.txt").write_text("precious")
    _, error, code = cola("evaluate", finished, "--out", "there")
    assert code == 2 and "--overwrite" not in error and "--resume" not in error, error
    (tmp_path/"seeds"/"seed-1").mkdir(parents=True)
    (tmp_path/"seeds"/"seed-1"/"letter.txt").write_text("precious")
    _, error, code = cola("seeds", *TRAIN, "--seeds", "1", "2", "--out", "seeds")
    assert code == 2 and "--overwrite" not in error and "--resume" not in error, error
    _, error, code = cola("train", "--model", "tiny", "--out", "there")
    assert "--overwrite" in error

@needs("optuna")
def test_a_search_has_a_file_of_its_own(tmp_path):
    from cola_nbdev.search import search
    names = ("a?x=1", "a?y=2", "{SCHEMA} %20 #", os.fsdecode(b"caf\xe9"))
    for name in names:
        found = search(small(), TINY, 1, tmp_path/name, ("warmup",), progress=False)
        assert len(found.table()) == 1
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert all((tmp_path/name/"search.db").stat().st_size for name in names)

# A second attack, by somebody who had not seen what the first one led to

@needs("optuna")
def test_results_of_others_stay_in_the_folder_of_a_search_or_of_seeds(tmp_path):
    from cola_nbdev.search import search
    for name in ("trials.csv", "best.json", "seeds.csv", "summary.json", "seeds.png"):
        (tmp_path/name).mkdir()
        (tmp_path/name/name).write_text("precious")
        with pytest.raises(ColaError, match=f"{name} exists already"):
            if name in ("trials.csv", "best.json"):
                search(small(), TINY, 1, tmp_path/name, ("warmup",), progress=False)
            else: run_seeds(small(), TINY, (1, 2), tmp_path/name, progress=False)
        assert (tmp_path/name/name).read_text() == "precious"
    out = tmp_path/"ours"
    for trials in (1, 2):  # its own are written again
        found = search(small(), TINY, trials, out, ("warmup",), progress=False)
        assert len(found.table()) == trials

@needs("optuna")
def test_a_search_writes_into_no_other_database(tmp_path):
    import sqlite3

    from cola_nbdev.search import search
    with contextlib.closing(sqlite3.connect(tmp_path/"search.db")) as file:
        file.execute("CREATE TABLE letters (text)")
        file.commit()
    with unchanged(tmp_path), pytest.raises(ColaError, match="not Optuna's"):
        search(small(), TINY, 1, tmp_path, ("warmup",), progress=False)

def test_a_number_in_a_file_of_others_is_no_lock(tmp_path):
    for name in (".run.pid", ".run.lock"): (tmp_path/name).write_text("4242")
    with unchanged(tmp_path), one_writer(tmp_path/"run"): pass

@pytest.mark.parametrize("link", ["_cola", "_cola/shards"])
def test_a_link_among_the_records_leads_nowhere(tmp_path, model, link):
    for name in ("in", "out", "victim/shards"): (tmp_path/name).mkdir(parents=True)
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    for name in ("a.csv.json", "job.json", "aside.jsonl", "shards/a.csv.json", "letter.txt"):
        (tmp_path/"victim"/name).write_text("precious")
    (tmp_path/"out"/link).parent.mkdir(exist_ok=True)
    (tmp_path/"out"/link).symlink_to(tmp_path/"victim")
    for overwrite in (False, True):
        with unchanged(tmp_path/"victim"), pytest.raises(ColaError):
            engine.score_folder(model, tmp_path/"in", tmp_path/"out", overwrite=overwrite,
                                progress=False)

def test_a_job_without_an_identity_is_another_job(tmp_path, model):
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    def score(): return engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)
    score()
    edit(tmp_path/"out"/"_cola"/"job.json", identity={})
    with pytest.raises(ColaError, match="holds another job: model None"): score()

def test_a_recipe_that_lacks_a_setting_is_another_recipe(tmp_path):
    same_recipe(small(), TINY, tmp_path)
    recipe = json.loads((tmp_path/"recipe.json").read_text())
    del recipe["base"]
    (tmp_path/"recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(ColaError, match="base None"): same_recipe(small(), TINY, tmp_path)

@pytest.mark.parametrize("name", ["holiday.png", "metrics.json"])
def test_overwrite_replaces_nothing_but_a_run(cola, finished, tmp_path, name):
    shutil.copytree(finished, tmp_path/"run")
    (tmp_path/"run"/name).write_text('{"precious": true}')
    with unchanged(tmp_path):
        refused(cola("train", *TRAIN, "--out", "run", "--overwrite"), "will not be overwritten")

def test_a_card_keeps_what_others_wrote(tmp_path):
    from cola_nbdev.export import _write_section
    table = "Measured on 8 sentences.\n\n| a |\n|---|\n| 1 |\n"
    card, ours = tmp_path/"README.md", f"## Other formats\n\n{table}"
    before = b"# Caf\xe9\r\n\n## Other formats\n\nNone that I know.\n\n## Limits\n\nSome."
    card.write_bytes(before)
    for _ in range(2): _write_section(card, ours)
    assert card.read_bytes() == before + b"\n\n" + ours.encode()
    card.write_bytes(card.read_bytes() + b"\nMy own words.\n")
    _write_section(card, ours)
    assert card.read_bytes() == before + b"\n\nMy own words.\n\n" + ours.encode()

@needs("openpyxl")
def test_a_sheet_that_lies_about_its_size(cola, model, tmp_path):
    import zipfile

    import openpyxl
    book = openpyxl.Workbook()
    for row in [["sentence", "note"], *([f"Cat {n} sleeps.", n] for n in range(10))]:
        book.active.append(row)
    book.active["C1"], book.active["C5"] = "remark", "a remark"
    book.save(tmp_path/"true.xlsx")
    with zipfile.ZipFile("true.xlsx") as true, zipfile.ZipFile("lies.xlsx", "w") as lies:
        for name in true.namelist():
            lies.writestr(name, true.read(name).replace(b'"A1:C11"', b'"A1:B4"'))
    assert cola("score", model, "lies.xlsx", "out.csv")[2] == 0
    table = pd.read_csv("out.csv")
    assert table.sentence.tolist() == [f"Cat {n} sleeps." for n in range(10)]
    assert "a remark" in table.iloc[3].tolist()

def test_a_folder_is_read_before_the_one_inside_it(cola, tmp_path):
    rows = "sentence,label\n{0} left.,1\n{0} leave.,0\n"
    for folder, who in (("", "He"), ("raw", "She")):
        (tmp_path/"corpus"/folder).mkdir()
        for split in ("train", "dev"):
            (tmp_path/"corpus"/folder/f"{split}.csv").write_text(rows.format(who))
    corpus = load_corpus(tmp_path/"corpus")
    assert corpus.train.sentence.tolist() == ["He left.", "He leave."] and corpus.name == "corpus"
    for split in ("train", "dev"): (tmp_path/"corpus"/f"{split}.csv").unlink()
    assert load_corpus(tmp_path/"corpus").train.sentence.tolist() == ["She left.", "She leave."]

@pytest.mark.parametrize("names", [["train-00000-of-00002"], ["train-00000-of-00001", "train"],
                                   ["train-00000-of-00002", "train-00001-of-00003"]])
def test_a_corpus_without_one_of_its_parts(cola, tmp_path, names):
    for name in (*names, "dev"): (tmp_path/f"{name}.csv").write_text("sentence,label\na b,1\nb,0\n")
    refused(cola("data", tmp_path), "one file for train, or all of its parts, are expected")

def test_lines_that_end_in_two_ways(cola, model, tmp_path):
    mac, unix = (end.join(f"Line {n} of this text." for n in range(500)) for end in ("\r", "\n"))
    (tmp_path/"a.txt").write_text(f"{mac}\r{unix}\n")
    refused(cola("score", model, "a.txt", "a.csv"), "a.txt line 501: lines end in two ways")
    (tmp_path/"b.txt").write_text(f"{mac}\r")
    assert cola("score", model, "b.txt", "b.csv")[0].startswith("scored in b.csv: 500 rows")

def test_a_quote_at_the_start_of_a_field_is_no_field_of_tsv(cola, model, tmp_path):
    rows = [("sentence", "n"), ('"Stop, he said.', 1), ("She left.", 2), ('"Go!"', 3)]
    (tmp_path/"a.tsv").write_text("".join(f"{text}\t{n}\n" for text, n in rows))
    pd.DataFrame(rows[1:], columns=rows[0]).to_csv(tmp_path/"a.csv", index=False)
    refused(cola("score", model, "a.csv", "o.tsv"), "a quote at the start of a field")
    assert cola("score", model, "a.tsv", "p.tsv")[2] == 0  # whose quotes were text before
    assert [line.split("\t")[0] for line in Path("p.tsv").read_text().splitlines()] == \
        [text for text, _ in rows]

def test_json_keeps_its_rows_and_their_names(cola, model, tmp_path):
    (tmp_path/"two.json").write_text('{"data": [{"sentence": "He left."}], "more": [{}]}')
    refused(cola("score", model, "two.json", "o.jsonl"), "JSON, but no table")
    (tmp_path/"both.json").write_text('{"doc-17": {"sentence": "He left.", "index": 5}}')
    refused(cola("score", model, "both.json", "o.jsonl"), "JSON, but no table")
    by_name = pd.DataFrame({"sentence": ["He left.", "She ran."]}, ["doc-17", "doc-44"])
    by_name.to_json(tmp_path/"split.json", orient="split")
    refused(cola("score", model, "split.json", "o.jsonl"), "JSON, but no table")
    by_name.to_json(tmp_path/"index.json", orient="index")
    assert cola("score", model, "index.json", "index.csv")[2] == 0
    assert pd.read_csv("index.csv")["index"].tolist() == ["doc-17", "doc-44"]
    by_name.set_axis([17, 44]).to_json(tmp_path/"columns.json")
    assert cola("score", model, "columns.json", "columns.csv")[2] == 0
    assert pd.read_csv("columns.csv")["index"].tolist() == [17, 44]

def test_labels_that_have_nothing_to_do_with_the_models(cola, copied, tmp_path):
    changed(copied/"config.json", id2label={0: "good", 1: "bad"}, positive_label="bad")
    rows = "".join(f"He left {number}.,{('ham', 'spam')[number % 2]}\n" for number in range(20))
    (tmp_path/"a.csv").write_text(f"sentence,label\n{rows}")
    refused(cola("evaluate", copied, "--data", "a.csv"), "and not ham from spam")

def test_a_report_is_not_written_over_what_came_meanwhile(cola, model, tmp_path, monkeypatch):
    from cola_nbdev import packing
    real = packing.predict_splits

    def meanwhile(*arguments, **options):
        (tmp_path/"out").mkdir()
        (tmp_path/"out"/"report.html").write_text("mine")
        return real(*arguments, **options)

    monkeypatch.setattr(packing, "predict_splits", meanwhile)
    refused(cola("evaluate", model, "--data", "demo", "--out", "out"), "out exists already")
    assert (tmp_path/"out"/"report.html").read_text() == "mine"

def test_renamed_labels_are_another_recipe(cola, tmp_path):
    rows = "".join(f"He left {number}.,{{{number % 2}}}\n" for number in range(40))
    tiny = ["train", "--epochs", 1, "--data", "a.csv", "--model", "tiny", "--out", "run"]
    (tmp_path/"a.csv").write_text("sentence,label\n" + rows.format("ham", "spam"))
    assert "saved in" in cola(*tiny, "--positive", "spam")[0]
    (tmp_path/"a.csv").write_text("sentence,label\n" + rows.format("no", "yes"))
    refused(cola(*tiny, "--positive", "yes", "--resume"), "is a run of another recipe")

def test_a_copy_of_a_run_is_no_other_seed(finished, tmp_path):
    for name in ("seed-1", "copy"): shutil.copytree(finished, tmp_path/"runs"/name)
    with pytest.raises(ColaError, match="have the same seed"): load_predictions(tmp_path/"runs")

def test_pairs_lose_no_phenomenon_and_no_file(cola, model, tmp_path):
    (tmp_path/"pairs").mkdir()
    row = {"sentence_good": "He left.", "sentence_bad": "Him left.", "UID": "all"}
    (tmp_path/"pairs"/"a.ndjson").write_text(json.dumps(row) + "\n")
    refused(cola("pairs", model, "pairs"), "has a phenomenon called 'all'")
    (tmp_path/"pairs"/"b.xlsx").write_text("")
    refused(cola("pairs", model, "pairs"), "holds b.xlsx, which is no table of pairs")

@needs("onnxruntime")
def test_an_export_replaces_nothing_but_an_export(cola, copied):
    (copied/"onnx").mkdir(exist_ok=True)
    (copied/"onnx"/"model.onnx").write_text("mine")
    refused(cola("export", copied, "--data", "demo"), "was not made by cola export")
    assert (copied/"onnx"/"model.onnx").read_text() == "mine"
    with pytest.raises(ColaError, match="was not made from these weights"):
        Judge(copied, onnx="fp32")
    (copied/"onnx"/"model.onnx").unlink()
    for options in ([], ["--no-int8"]):
        assert cola("export", copied, "--data", "demo", *options)[2] == 0
    assert {path.name for path in (copied/"onnx").iterdir()} == {"model.onnx", "cola_nbdev.json"}
    changed(copied/"config.json", layer_norm_eps=.1)
    with pytest.raises(ColaError, match="was not made from these weights"):
        Judge(copied, onnx="fp32")

def test_only_files_of_a_model_are_uploaded(cola, copied):
    (copied/"README.md").write_text("A card.")
    for name in ("notes.txt", "private/vocab.txt", "onnx/more/model.onnx"):
        (copied/name).parent.mkdir(parents=True, exist_ok=True)
        (copied/name).write_text("secret")
        refused(cola("push", copied, "me/judge"), f"{name} does not belong to a model")
        (copied/name).unlink()

@pytest.mark.parametrize("options", [["5"], ["inf"], [".01", "--power", "0"],
                                     [".01", "--power", "2"], [".01", "--power", "nan"]])
def test_a_plan_that_makes_no_sense(cola, options):
    refused(cola("plan", *options), "the difference must be above 0 and below 2")

def test_distillation_needs_a_teacher_and_a_file(cola, model, tmp_path):
    os.mkfifo(tmp_path/"pipe")
    distill = ["distill", "--model", "tiny", "--epochs", 1, "--out", "run", "--teacher"]
    with within(60): refused(cola(*distill, model, "--unlabelled", "pipe"), "is no ordinary file")
    refused(cola(*distill), "there is no teacher")

def test_the_page_counts_labels_of_any_name():
    table = pd.DataFrame({"sentence": ["a", "b"], "label": ["bad", "good"],
                          "probability": [.9, .1], "truncated": False})
    table.attrs["positive"] = "bad"
    assert "1 of them bad" in app.results_view(table, "a.txt")
    assert "probability of bad: 90.0%" in app.view("card", table.iloc[0])

@needs("pyarrow")
def test_a_number_that_json_does_not_know(cola, model, tmp_path):
    table = {"sentence": ["He left.", "She came."], "n": [1., float("inf")]}
    pd.DataFrame(table).to_parquet(tmp_path/"a.parquet")
    refused(cola("score", model, "a.parquet", "o.jsonl"), "infinite or NaN, which jsonl")

def test_a_link_is_not_written_over(cola, model, tmp_path):
    (tmp_path/"a.csv").write_text(GOOD)
    (tmp_path/"test.tsv").write_text("index\tsentence\n0\tHe left.\n")
    for name, target in (("o.csv", "nowhere.csv"), ("p.csv", "test.tsv")):
        (tmp_path/name).symlink_to(target)
        refused(cola("score", model, "a.csv", name, "--overwrite"), f"{name} is a link")
        assert (tmp_path/name).is_symlink()
    refused(cola("glue", model, "test.tsv", "--out", "o.csv"), "o.csv exists already")

def test_a_corpus_that_counts_the_other_way_round(cola, copied, tmp_path):
    changed(copied/"config.json", id2label={0: "good", 1: "bad"}, positive_label="bad")
    rows = "".join(f"He left {number}.,{('good', 'bad')[number % 2]}\n" for number in range(20))
    (tmp_path/"a.csv").write_text(f"sentence,label\n{rows}")
    refused(cola("evaluate", copied, "--data", "a.csv"), "counts good as 1, and the model bad")
    assert cola("evaluate", copied, "--data", "a.csv", "--positive", "bad")[2] == 0

def test_a_quote_that_closes_in_a_later_row_merges_none(cola, model, tmp_path):
    rows = ["id\tsentence", '1\t"He left,', "2\tShe came.", '3\tThey said so."', "4\tOk then."]
    (tmp_path/"a.tsv").write_text("".join(f"{row}\n" for row in rows))
    assert "4 rows" in cola("score", model, "a.tsv", "o.jsonl")[0]
    (tmp_path/"b.tsv").write_text('id\tsentence\n1\t"He left\nat once."\n2\tShe came.\n')
    assert "2 rows" in cola("score", model, "b.tsv", "p.jsonl")[0]

def test_a_name_that_occurs_twice_in_a_row(cola, model, tmp_path):
    row = '{"sentence": "He left.", "label": 1, "more": {"a": 1, "a": 2}}'
    for content in (row, row.replace('"more": {"a": 1, "a": 2}', '"label": 0'), f"[{row}, {row}]"):
        (tmp_path/"a.jsonl").write_text(content + "\n")
        refused(cola("score", model, "a.jsonl", "o.csv"), "a name occurs twice")
        (tmp_path/"a.json").write_text(content + "\n")
        refused(cola("data", "a.json"), "a name occurs twice")

def test_sentences_that_look_like_numbers_are_text(tmp_path):
    for name, sentence in (("a.csv", "007"), ("b.csv", "7")):
        (tmp_path/name).write_text("split,sentence,label,logit,probability,predicted\n"
                                   f"1,{sentence},1,1,0.7,1\n")
    assert read_predictions(tmp_path/"a.csv").sentence.tolist() == ["007"]
    assert read_predictions(tmp_path/"b.csv").split.tolist() == ["1"]

def test_a_vocabulary_lies_in_the_folder(cola, copied, tmp_path):
    vocabulary = json.loads((copied/"tokenizer.json").read_text())["model"]["vocab"]
    (tmp_path/"other.txt").write_text("\n".join(vocabulary))
    (copied/"tokenizer.json").unlink()
    shutil.copy(tmp_path/"other.txt", copied/"vocab.txt")
    assert cola("predict", copied, "He left.")[2] == 0
    edit(copied/"tokenizer_config.json", vocab=str(tmp_path/"other.txt"))
    refused(cola("predict", copied, "He left."), "tokenizer_config.json is damaged")

def test_every_file_of_onnx_is_in_the_fingerprint(copied):
    (copied/"onnx").mkdir()
    for name in ("model.onnx", "model_int8.onnx"): (copied/"onnx"/name).write_bytes(b"network")
    found = [model_identity(copied, "model.onnx"), model_identity(copied, "model_int8.onnx")]
    (copied/"onnx"/"model.onnx.data").write_bytes(b"weights")
    found += [model_identity(copied, "model.onnx"), model_identity(copied)]
    assert len({*found}) == 4
    (copied/"onnx"/"model.onnx.data").write_bytes(b"others!")
    assert model_identity(copied, "model.onnx") not in found
    assert model_identity(copied) == found[-1]

@pytest.mark.parametrize("name", ["notes.txt", "onnx/model.onnx"])
def test_no_command_waits_for_a_pipe_in_a_model(cola, copied, name):
    (copied/name).parent.mkdir(exist_ok=True)
    os.mkfifo(copied/name)
    train = ("--model", copied, "--epochs", "1")
    for command in (["train"], ["seeds", "--seeds", "1", "2"]):
        with within(60):
            refused(cola(*command, *train, "--out", "out"), f"{name} is no ordinary file")
    if importlib.util.find_spec("onnxruntime"):
        with within(60), pytest.raises(ColaError, match="no ordinary file"): Judge(copied, "fp32")

def test_a_pipe_called_zip_is_not_waited_for(cola, model, tmp_path):
    os.mkfifo(tmp_path/"pipe.zip")
    (tmp_path/"a.csv").write_text(GOOD)
    with within(60):
        refused(cola("score", model, "pipe.zip", "o.csv"), "does not say what it is")
        refused(cola("score", model, "a.csv", "pipe.zip"), "does not say what it is")

def test_an_unfinished_run_at_a_mount_point_is_found_before_training(cola, tmp_path, monkeypatch):
    busy(tmp_path/"run.unfinished", monkeypatch)
    refused(cola("train", *TRAIN, "--out", "run"), "run.unfinished can't be replaced (device or")

def test_a_private_output_stays_private(judge, tmp_path):
    (tmp_path/"a.csv").write_text(GOOD)
    (tmp_path/"o.csv").touch(0o600)
    score_file(judge, tmp_path/"a.csv", tmp_path/"o.csv", overwrite=True, progress=False)
    assert (tmp_path/"o.csv").stat().st_mode & 0o777 == 0o600

@pytest.mark.parametrize("header", ["1" * 10**5 + "x", "!" * 10**5 + "x", "ab:c:" * 40_000])
def test_a_long_name_of_a_column_takes_no_time(cola, tmp_path, header):
    (tmp_path/"a.csv").write_text(f"{header},foo\na b,c d\ne f,g h\ni j,k l\n")
    with within(15): refused(cola("data", "a.csv"), "a.csv")

@needs("pyarrow")
def test_an_upload_is_no_parquet_whatever_its_name(tmp_path):
    import pyarrow
    import pyarrow.parquet

    from cola_nbdev.app import Limits, read_upload
    table = pyarrow.table({"sentence": ["He left."]})
    pyarrow.parquet.write_table(table, tmp_path/"a.csv")
    with pytest.raises(ColaError, match="send text"): read_upload(tmp_path/"a.csv", Limits())

def test_two_may_upload_the_same_file(judge, tmp_path):
    "Gradio gives both the same path: who comes second finds it gone, and is told"
    from cola_nbdev.app import Answers
    answers = Answers(judge)
    (tmp_path/"a.txt").write_text("He left.\n")
    assert "He left." in answers.file(tmp_path/"a.txt")
    assert "a.txt is no longer here" in answers.file(tmp_path/"a.txt")

@pytest.mark.parametrize("abstain", [{"risk": .1}, {"limit": .2}, {"risk": "a", "limit": .2},
                                     {"risk": .1, "limit": "a"}, 7])
def test_a_limit_of_the_wrong_shape(finished, tmp_path, abstain):
    shutil.copytree(finished, tmp_path/"run")
    edit(tmp_path/"run"/"metrics.json", abstain=abstain)
    report = fine_tune(small(), TINY, tmp_path/"run", resume=True, progress=False)
    assert "abstain" not in repr(report)

def test_a_model_of_less_than_no_layers(cola, copied):
    edit(copied/"config.json", num_hidden_layers=-1)
    refused(cola("predict", copied, "He left.", "She has left."), "has num_hidden_layers -1")

@needs("optuna")
@pytest.mark.parametrize("address", ["//bob:secret@host/db", "_x://bob:secret@host/db",
                                     "1x:secret@host", "-postgresql://bob:secret@host/db"])
def test_what_is_hardly_an_address_is_shown_without_secrets_too(tmp_path, address):
    from cola_nbdev.search import search
    with pytest.raises(ColaError, match="check --storage") as error:
        search(small(), TINY, 1, tmp_path, ("warmup",), address, progress=False)
    assert "secret" not in str(error.value)
    assert without_password("/home/a@b/c?d") == "/home/a@b/c?d"

def test_an_error_of_any_kind_ends_no_folder(tmp_path, model, monkeypatch):
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    monkeypatch.setattr(engine, "score_file", lambda *_, **__: 1 / 0)
    with pytest.raises(engine.Incomplete, match="a.csv: division by zero"):
        engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)

# A third attack: what lies beside, behind and among the files of a command

@needs("optuna")
def test_the_lock_of_a_journal_is_taken_from_nobody(tmp_path):
    from cola_nbdev.search import search
    (tmp_path/"study.log.lock").write_text("precious")
    address = f"journal://{tmp_path}/study.log"
    with within(60), unchanged(tmp_path), pytest.raises(ColaError, match="is not Optuna's"):
        search(small(), TINY, 1, tmp_path.parent/"out", ("warmup",), address, progress=False)
    (tmp_path/"study.log.lock").unlink()
    (tmp_path/"study.log.lock").symlink_to(tmp_path/"study.log")  # of a process that was killed
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    quick_lock = JournalFileSymlinkLock(str(tmp_path/"study.log"), 3)
    with pytest.MonkeyPatch.context() as patch:
        start = JournalFileBackend.__init__
        patch.setattr(JournalFileBackend, "__init__",
                      lambda self, path: start(self, path, quick_lock))
        search(small(), TINY, 1, tmp_path/"out", ("warmup",), address, progress=False)

def test_a_shard_that_failed_replaces_no_file_of_others(tmp_path, model):
    for name in ("in", "out"): (tmp_path/name).mkdir()
    def score(): return engine.score_folder(model, tmp_path/"in", tmp_path/"out", progress=False)
    (tmp_path/"in"/"a.csv").write_text(GOOD)
    (tmp_path/"in"/"c.csv").write_text("a,b,c\nx,y,z\n")
    with pytest.raises(engine.Incomplete, match="c.csv line 1"): score()
    (tmp_path/"out"/"c.csv").write_text("precious")
    (tmp_path/"in"/"c.csv").write_text(GOOD)
    with pytest.raises(engine.Incomplete, match="holds c.csv and has not made it"): score()
    assert (tmp_path/"out"/"c.csv").read_text() == "precious"
    (tmp_path/"out"/"c.csv").unlink()
    score()
    (tmp_path/"out"/"_cola"/"shards"/"c.csv.json").unlink()  # as if killed between the two
    assert score()["rows"] == 2 * len(GOOD.splitlines()[1:])

@pytest.mark.parametrize("name", [
    "model/notes.txt", "model/sub/x.txt", "model/my_labels.json", "checkpoints/mine.csv",
    "checkpoints/step-00000001/mine.csv", "mcc_by_teacher.png", "model/onnx/mine.onnx",
    "model/onnx/sub/model.onnx"])
def test_overwrite_knows_its_own_files_by_name(cola, finished, tmp_path, name):
    shutil.copytree(finished, tmp_path/"run")
    (tmp_path/"run"/name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path/"run"/name).write_text("precious")
    with unchanged(tmp_path):
        refused(cola("train", *TRAIN, "--out", "run", "--overwrite"), f"it also holds {name[:9]}")

def test_overwrite_replaces_a_whole_run(cola, finished, tmp_path):
    out = tmp_path/"run"
    shutil.copytree(finished, out)
    for name in ("model.onnx", "model_int8.onnx", "cola_nbdev.json"):
        (out/"model"/"onnx").mkdir(exist_ok=True)
        (out/"model"/"onnx"/name).write_text("{}")
    save_checkpoint(out/"checkpoints", 1, {"model": {}}, {})
    (out/"model"/"vocab.txt").touch()
    assert cola("train", *TRAIN, "--out", "run", "--overwrite")[2] == 0
    assert not (out/"checkpoints").exists() and not (out/"model"/"onnx").exists()

@needs("optuna")
def test_a_shared_search_replaces_no_results_of_others(tmp_path):
    from cola_nbdev.search import search
    def run(out, trials):
        return search(small(), TINY, trials, tmp_path/out/"search", ("warmup",),
                      f"journal://{tmp_path}/study.log", progress=False)
    run("a", 1)
    (tmp_path/"b"/"search").mkdir(parents=True)
    (tmp_path/"b"/"search"/"best.json").write_text("precious")
    with unchanged(tmp_path), pytest.raises(ColaError, match="best.json exists already"):
        run("b", 2)
    (tmp_path/"b"/"search"/"best.json").unlink()
    assert len(run("b", 2).table()) == len(run("a", 2).table()) == 2

@needs("optuna")
def test_a_search_adopts_no_database_of_others(tmp_path):
    import optuna

    from cola_nbdev.search import search
    optuna.create_study(storage=f"sqlite:///{tmp_path}/search.db", study_name="theirs")
    with unchanged(tmp_path), pytest.raises(ColaError, match="holds studies of others"):
        search(small(), TINY, 1, tmp_path, ("warmup",), progress=False)
    (tmp_path/"search.db").unlink()
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/search.db", study_name="cola",
                                direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=.5))  # of the same name, but not ours
    with pytest.raises(ColaError, match="holds another search"):
        search(small(), TINY, 1, tmp_path, ("warmup",), progress=False)

@pytest.mark.parametrize("name", ["seeds.png", "summary.json", "seeds.csv"])
@pytest.mark.parametrize("link", [False, True])
def test_seeds_write_over_nothing_of_others(tmp_path, name, link):
    out = tmp_path/"seeds"
    run_seeds(small(), TINY, (1, 2), out, progress=False)
    run_seeds(small(), TINY, (1, 2), out, progress=False)  # its own
    (tmp_path/"theirs").write_text("precious")
    (out/name).unlink()
    if link: (out/name).symlink_to("../theirs")
    else: (out/name).write_text("precious")
    with unchanged(tmp_path), pytest.raises(ColaError, match=f"{name} exists already"):
        run_seeds(small(), TINY, (1, 2), out, progress=False)

@pytest.mark.parametrize("name", ["mcc.png", "history.png"])
def test_no_plot_is_drawn_through_a_link(tmp_path, monkeypatch, name):
    (tmp_path/"theirs").write_text("precious")
    real = prediction.write_results

    def meanwhile(run, corpus, folder, *rest):
        (folder/name).symlink_to(tmp_path/"theirs")
        return real(run, corpus, folder, *rest)

    def draw(self, file, **options):
        if hasattr(file, "write"): file.write(b"picture")
        else: Path(file).write_bytes(b"picture")

    monkeypatch.setattr(Figure, "savefig", draw)
    monkeypatch.setattr(prediction, "write_results", meanwhile)
    fine_tune(small(), TINY, tmp_path/"run", progress=False)
    assert (tmp_path/"theirs").read_text() == "precious"
    assert (tmp_path/"run"/name).read_bytes() == b"picture"

@needs("onnxruntime")
def test_an_export_replaces_no_record_of_others(cola, copied, tmp_path):
    (copied/"onnx").mkdir()
    for record in ("{}", '{"model": "b"}', '{"files": {}}', "mine"):
        (copied/"onnx"/"cola_nbdev.json").write_text(record)
        with unchanged(copied):
            refused(cola("export", copied, "--data", "demo", "--no-int8"),
                    "cola_nbdev.json was not made by cola export")
    shutil.rmtree(copied/"onnx")
    (tmp_path/"theirs").mkdir()
    (copied/"onnx").symlink_to(tmp_path/"theirs")
    with unchanged(tmp_path):
        refused(cola("export", copied, "--data", "demo", "--no-int8"),
                "onnx is a link to another folder")

@needs("onnxruntime")
def test_an_onnx_file_of_another_model_judges_nothing(cola, copied, tmp_path):
    other = Path(shutil.copytree(copied, tmp_path/"other"))
    tensors_of(other, lambda weights: weights["classifier.bias"].add_(3))
    for folder in (copied, other):
        assert cola("export", folder, "--data", "demo", "--no-int8")[2] == 0
    shutil.copy(other/"onnx"/"model.onnx", copied/"onnx"/"model.onnx")
    with pytest.raises(ColaError, match="was not made from these weights"):
        Judge(copied, onnx="fp32")
    (copied/"onnx"/"cola_nbdev.json").unlink()
    with pytest.raises(ColaError, match="was not made from these weights"):
        Judge(copied, onnx="fp32")

SOURCE = "".join(f"s{number}\t{number % 2}\t{sentence} so.\tthe usual book\n"
                 for number, sentence in enumerate(["He left", "Him left", "She ran", "Her ran"]))

def test_four_columns_are_not_all_of_cola(tmp_path, needs_cola):
    "The sentences may be in another column, and pandas may have numbered the columns"
    from cola_nbdev.reading import read_sentences
    (tmp_path/"swapped.tsv").write_text(SOURCE)
    with pytest.raises(ColaError, match="no column is known to hold the sentences"):
        read_sentences(tmp_path/"swapped.tsv")
    (tmp_path/"named.tsv").write_text(SOURCE.replace("the usual book", "book-1"))
    assert read_sentences(tmp_path/"named.tsv").sentences.sentence[0] == "He left so."
    for header, number in (("0\t1\t2\t3\n", ""), ("\t0\t1\t2\n", None)):
        rows = [("0\t" if number is None else f"book-{row}\t") + line.split("\t", 1)[1]
                for row, line in enumerate(SOURCE.splitlines(keepends=True))]
        rows = [line.replace("the usual book", "book-1") for line in rows]
        if number is None:
            rows = [f"{row}\t{line.split(chr(9))[1]}\tx{row}\t{line.split(chr(9))[2]}\n"
                    for row, line in enumerate(rows)]
        (tmp_path/"pandas.tsv").write_text(header + "".join(rows))
        taken = read_sentences(tmp_path/"pandas.tsv")
        assert taken.sentences.sentence[0] == "He left so." and len(taken.sentences) == 4
    for path in needs_cola.rglob("*_d*.tsv"):
        said = read_sentences(path).said
        assert said.startswith("CoLA's four columns") and "around" not in said, path

@pytest.mark.parametrize("data", [
    [{"sentence": "He left."}, {"sentence": "Him left."}], ["ab", "cd"], [["He left.", 1], 7],
    [["He left.", 1], {"sentence": "Him left.", "label": 0}], [{"other": "He left.", "label": 1}]])
def test_columns_beside_their_rows_are_no_table(cola, model, tmp_path, data):
    table = {"columns": ["sentence", "label"], "data": data}
    (tmp_path/"a.json").write_text(json.dumps(table))
    refused(cola("score", model, "a.json", "b.csv"), "JSON, but no table")

@pytest.mark.parametrize("name, value", [("fingerprint", "0123"), ("base", "0123"),
                                         ("taught", "0123"), ("names", ["bad", "good"])])
def test_runs_of_one_recipe_agree_in_more_than_settings(finished, tmp_path, name, value):
    for seed in (1, 2):
        run = Path(shutil.copytree(finished, tmp_path/f"seed-{seed}"))
        facts = json.loads((run/"metrics.json").read_text())
        changed(run/"metrics.json", config=facts["config"] | {"seed": seed})
    assert len(load_predictions(tmp_path)) == 2
    changed(run/"metrics.json", **{name: value})
    with pytest.raises(ColaError, match=f"differ in {name}"): load_predictions(tmp_path)
    (run/"metrics.json").unlink()
    with pytest.raises(ColaError, match="seed-2 has no metrics.json"): load_predictions(tmp_path)

@pytest.mark.parametrize("name", [
    "bert.encoder.layer.0.attention.self.distance_embedding.weight",
    "bert.encoder.layer.0.output.adapter.down.weight",
    "encoder.layer.0.output.adapter.down.weight"])
def test_no_weight_is_lost_in_silence(cola, copied, name):
    import torch
    tensors_of(copied, lambda weights: weights.update({"bert.embeddings.position_ids":
                                                       torch.arange(64)[None]}))
    load_model(copied, trained=True)  # older versions wrote this one
    tensors_of(copied, lambda weights: weights.update({name: torch.ones(4, 32)}))
    refused(cola("predict", copied, "He left."), "are more than its config.json asks for")

def test_a_head_for_another_task_judges_nothing(cola, copied):
    changed(copied/"config.json", architectures=["BertForTokenClassification"])
    refused(cola("predict", copied, "He left."), "has no trained head (it is for ['BertForToken")
    load_model(copied)  # it can be fine-tuned
    changed(copied/"config.json", architectures=None)
    assert cola("predict", copied, "He left.")[2] == 0

@pytest.mark.parametrize("facts", [{"attn_implementation": "them/kernel"},
                                   {"_attn_implementation": "them/kernel"},
                                   {"experts_implementation": "them/kernel"},
                                   {"text_config": {"attn_implementation": "them/kernel"}}])
def test_a_model_chooses_no_code(cola, copied, facts):
    changed(copied/"config.json", **facts)
    refused(cola("predict", copied, "He left."), "names code to compute with")
    changed(copied/"config.json", **{**dict.fromkeys(facts), "attn_implementation": "sdpa"})
    assert cola("predict", copied, "He left.")[2] == 0

@needs("pyarrow")
@pytest.mark.parametrize("one, other", [("1.5", "true"), ('{"b": 1.5}', '{"b": false}'),
                                        ("[1.5, true]", "[]")])
def test_true_is_no_number(tmp_path, one, other):
    rows = "".join(f'{{"sentence": "He left.", "a": {value}}}\n' for value in (one, other))
    with pytest.raises(ColaError, match="Parquet cannot hold these rows .*; write .jsonl"):
        scored(tmp_path, "a.jsonl", rows, "b.parquet")

@pytest.mark.parametrize("command", ["train", "seeds", "search", "evaluate"])
def test_an_address_is_no_folder(cola, model, tmp_path, command):
    options = {"evaluate": (model,)}.get(command, ("--model", "tiny", "--epochs", "1"))
    with unchanged(tmp_path):
        outcome = cola(command, *options, "--data", "demo", "--out", "s3://AK:secret@bucket/run")
    refused(outcome, "s3:/…@bucket/run is an address; give a path on this machine")
    assert "secret" not in outcome[1]

@pytest.mark.parametrize("name", ["dev.arrow", "in_domain_dev.tsv.bz2", "test.feather"])
def test_no_split_is_passed_over(tmp_path, name):
    load_corpus("demo").train[:40].to_csv(tmp_path/"train.csv", index=False)
    load_corpus("demo").train[40:60].to_csv(tmp_path/"out_of_domain_dev.csv", index=False)
    for other in ("train.py", "out_of_domain_dev.csv.bak", "README.md"): (tmp_path/other).touch()
    assert len(load_corpus(str(tmp_path)).splits) == 2
    (tmp_path/name).touch()
    with pytest.raises(ColaError, match=f"holds {name}, which can.t be read"):
        load_corpus(str(tmp_path))

def test_pairs_that_are_cut_are_counted(cola, model, tmp_path):
    rows = [{"sentence_good": "He left.", "sentence_bad": "Him " * 200 + "left."}] * 2
    (tmp_path/"a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = cola("pairs", model, "a.jsonl")[0]
    assert "2 of 4 sentences have more than 64 tokens and are cut" in said

# What was known to be left, after the fourth attack

def test_a_setting_that_is_given_stays_as_it_is_under_a_recipe(cola, tmp_path, monkeypatch):
    said = {}
    monkeypatch.setattr("cola_nbdev.prediction.fine_tune",
                        lambda corpus, config, *_, **__: said.update(config=config))
    cola("train", "--recipe", "--warmup", "0", "--out", "run")
    recipe = with_recipe(Config())
    assert recipe.warmup != 0 == said["config"].warmup
    assert dataclasses.replace(said["config"], warmup=recipe.warmup) == recipe
    cola("train", "--recipe", "--out", "warmup")  # the name of a folder gives no setting
    assert said["config"] == recipe

@pytest.mark.parametrize("sentence", ["He\tleft.", "He\nleft.", "He left.\r"])
def test_what_lines_of_cola_cannot_hold_is_not_exported(cola, tmp_path, sentence):
    rows = [{"sentence": f"He left {number}.", "label": number % 2} for number in range(20)]
    rows[3]["sentence"] = sentence
    (tmp_path/"a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with unchanged(tmp_path):
        refused(cola("data", "a.jsonl", "--export", "out"), "can't hold a sentence with a tab or a")

@pytest.mark.parametrize("name", ["ungrammatical", "Bad", "unacceptable"])
@pytest.mark.parametrize("values", [(0, 1), ("no", "yes"), ("False", "True")])
def test_a_column_that_counts_what_is_wrong(cola, tmp_path, name, values):
    rows = "".join(f"He left {number}.,{values[number % 2]}\n" for number in range(20))
    (tmp_path/"a.csv").write_text(f"sentence,{name}\n{rows}")
    refused(cola("data", "a.csv", "--label", name), f"Add --positive {values[0]}, or else")
    assert cola("data", "a.csv", "--label", name, "--positive", values[0])[2] == 0

def test_labels_that_a_model_counts_in_two_ways(cola, copied):
    edit(copied/"config.json", id2label={0: "acceptable", 1: "unacceptable"},
         label2id={"unacceptable": 0, "acceptable": 1})
    refused(cola("predict", copied, "He left."), "id2label and label2id of config.json don't fit")
    for odd in (["unacceptable"], None, {"unacceptable": 1, "acceptable": 0}):
        edit(copied/"config.json", label2id=odd)
        assert "Traceback" not in cola("predict", copied, "He left.")[1]

@pytest.mark.parametrize("address", ["bob:secret@host/db", "bob:se@cret@host/db"])
def test_a_storage_without_a_scheme_is_shown_without_its_password(cola, tmp_path, address):
    assert "cret" not in without_password(address)
    said = cola("search", "--model", "tiny", "--out", "s", "--storage", address)[1]
    assert "cret" not in said and "check --storage" in said

# A fifth attack: labels by other names, quotes that come late, and what is taken for unseen

def test_folders_that_are_no_checkpoints_stay(tmp_path):
    for name in ("step-00001000", "step-00000001"):
        (tmp_path/name).mkdir()
        (tmp_path/name/"pytorch_model.bin").write_text("precious")
    (tmp_path/"step-00003000").write_text("precious")
    with unchanged(tmp_path):
        assert checkpoints(tmp_path) == []
        train(small().train, TINY, tmp_path/"run", progress=False)
        shutil.rmtree(tmp_path/"run")
    train(small().train, TINY, tmp_path, resume=True, progress=False)
    for step in (3, 4, 5): save_checkpoint(tmp_path, step, {}, {}, keep=1)
    found = {path.name for path in tmp_path.iterdir() if path.name.startswith("step-0000")}
    assert {"step-00001000", "step-00000001", "step-00003000"} < found
    (tmp_path/"step-00000006").mkdir()
    (tmp_path/"step-00000006"/"mine.txt").write_text("precious")
    with pytest.raises(ColaError, match="the checkpoint of step 6 can't be written"):
        save_checkpoint(tmp_path, 6, {}, {})
    assert (tmp_path/"step-00000006"/"mine.txt").exists()

@pytest.mark.parametrize("name", ["error", "is_ungrammatical", "has_error", "wrong",
                                  "unacceptability", "num errors"])
def test_a_column_that_counts_errors(cola, tmp_path, name):
    rows = "".join(f"He left {number}.,{number % 2}\n" for number in range(20))
    (tmp_path/"a.csv").write_text(f"sentence,{name}\n{rows}")
    refused(cola("data", "a.csv", "--label", name), "Add --positive 0, or else --positive 1")
    refused(cola("data", "a.csv"), "Add --positive 0" if "num" not in name else "")

@pytest.mark.parametrize("name", ["label", "index_1", "interest", "notes", "badge"])
def test_a_column_that_counts_no_errors(cola, tmp_path, name):
    rows = "".join(f"He left {number}.,{number % 2}\n" for number in range(20))
    (tmp_path/"a.csv").write_text(f"sentence,{name}\n{rows}")
    assert cola("data", "a.csv", "--label", name)[2] == 0

NAMED = [(("acceptable", "unacceptable"), [0, 1, 0], ("unacceptable", "acceptable")),
         (("unacceptable", "acceptable"), [1, 0, 1], ("unacceptable", "acceptable")),
         (("spam", "ham"), [0, 1, 0], ("ham", "spam")), (("a", "b"), [1, 0, 1], ("a", "b"))]

@pytest.mark.parametrize("text", ["sentence", "text"])
@pytest.mark.parametrize("told, labels, names", NAMED)
def test_the_names_of_labels_that_a_dataset_tells(tmp_path, text, told, labels, names):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet
    frame = pd.DataFrame({text: ["He left.", "Him left.", "They say so."], "label": [1, 0, 1]})
    kinds = {text: SimpleNamespace(), "label": SimpleNamespace(names=list(told))}
    rows = SimpleNamespace(to_pandas=frame.copy, features=kinds)
    corpora = [corpus_of({"train": rows})]
    features = {text: {"dtype": "string"}, "label": {"names": told, "_type": "ClassLabel"}}
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path/"a.parquet")
    corpora.append(load_corpus(tmp_path/"a.parquet", dev_fraction=1))
    for corpus in corpora:
        [found] = corpus.splits.values()
        assert (found.label.tolist(), corpus.names) == (labels, names)

def test_what_is_switched_off_stays_off_under_a_recipe(cola, tmp_path, monkeypatch):
    said = {}
    monkeypatch.setattr("cola_nbdev.prediction.fine_tune",
                        lambda corpus, config, *_, **__: said.update(config=config))
    assert with_recipe(Config()).match_label_prior
    cola("train", "--recipe", "--no-match-label-prior", "--out", "run")
    assert not said["config"].match_label_prior

def test_quotes_of_a_table_with_tabs_come_back(cola, model, tmp_path):
    (tmp_path/"a.tsv").write_text('id\tsentence\n1\t"""Go"", he said."\n2\tShe left.\n')
    refused(cola("score", model, "a.tsv", "b.tsv"), "a quote at the start of a field")
    assert cola("score", model, "a.tsv", "b.csv")[2] == 0
    assert pd.read_csv("b.csv").sentence.tolist() == ['"Go", he said.', "She left."]

def test_a_quote_that_comes_late_is_asked_about(cola, model, tmp_path):
    rows = [f"{number}\tHe left." for number in range(25_000)]
    rows[24_990] = '24990\t"He said ""hi"" to me."'
    (tmp_path/"a.tsv").write_text("id\tsentence\n" + "".join(f"{row}\n" for row in rows))
    with within(60):
        refused(cola("score", model, "a.tsv", "b.csv"), "line 24992: is this a quote around a")
    assert not (tmp_path/"b.csv").exists()

def test_a_sentence_beside_a_known_name_is_no_header(cola, model, tmp_path):
    (tmp_path/"a.csv").write_text("comment,This is great.\npost,Look at this thing.\n"
                                  "question,Why is it so?\npost,It is not so.\n")
    refused(cola("score", model, "a.csv", "b.csv"), "names of columns, or a row?")

def test_counts_of_votes_are_no_pairs(tmp_path):
    (tmp_path/"a.csv").write_text("sentence,label,good,bad\nHe left early.,1,12,3\n"
                                  "He leaved early of.,0,2,30\n")
    [found] = load_corpus(tmp_path/"a.csv", dev_fraction=1).splits.values()
    assert found.sentence.tolist() == ["He left early.", "He leaved early of."]

@needs("onnx")
def test_what_int8_promises_with(finished, tmp_path):
    corpus, copy = small(), Path(shutil.copytree(finished/"model", tmp_path/"model"))
    held_out = json.loads((copy/prediction.HELD_OUT).read_text())
    assert len(held_out["sentences"]) == len(held_out["right"]) > 0
    for folder in (finished/"model", copy):  # wherever the model is
        found, what = export._unseen(folder, corpus)
        assert {*map(prediction.sentence_digest, found)} == {*held_out["sentences"]}
        assert what == "that were not trained on"
    edit(copy/prediction.HELD_OUT, sentences=[])
    assert export._unseen(copy, corpus)[1] == "that it may have been trained on"

def test_a_name_of_ours_is_no_folder(tmp_path, monkeypatch, copied):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(copied, "bert")
    with pytest.raises(Exception, match="(?i)offline|connect|cannot|reach"): find_model("bert")
    assert find_model("./bert") == "./bert"

def test_a_long_password_in_a_mistyped_line(cola, tmp_path):
    address = f"postgresql://bob:{'se/cret' * 15}@host/db"
    for options in (["--storrage", address], [address], [f"--trials={address}"]):
        said = cola("search", "--out", "x", *options)[1]
        assert "cret" not in said.replace(" ", "") and said.startswith("cola: ")

def test_runs_with_other_splits_are_no_pairs(finished, tmp_path):
    runs = []
    for number in range(4):
        shutil.copytree(finished, tmp_path/f"{number}")
        config = json.loads((finished/"metrics.json").read_text())["config"]
        edit(tmp_path/f"{number}"/"metrics.json", config=config | {"split_seed": number})
        runs.append(load_predictions(tmp_path/f"{number}"))
    runs = [run[0] if isinstance(run, list) else run for run in runs]
    with pytest.raises(ColaError, match="paired runs need the same seeds"):
        compare(runs[:2], runs[2:], paired=True)

def test_the_model_that_predicts_is_the_one_that_scores(copied, tmp_path):
    shutil.copytree(copied, copied/"model")
    (copied/"model"/"onnx").mkdir()
    for name in (cli.ONNX_RECORD, cli.ONNX_FILES["fp32"]):
        (copied/"model"/"onnx"/name).write_text("{}")
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "read_record", lambda path, *_: seen.append(path) or {})
        cli.verdicts_at_once(str(copied), ["He left."])
    assert seen == []

def test_groups_for_every_sentence(tmp_path):
    frame = pd.DataFrame({"sentence": [f"S{n}." for n in range(100)], "label": [0, 1] * 50})
    with pytest.raises(ColaError, match="50 groups for 100 sentences"):
        split_sentences(frame, .2, groups=range(50))
    frame["pair"] = [*np.repeat(range(15), 2), *[None] * 70]
    for seed in range(5):
        kept, held_out = split_sentences(frame, .2, seed)
        assert len(kept) + len(held_out) == 100 and 14 <= len(held_out) <= 26
        assert not {*kept.pair.dropna()} & {*held_out.pair.dropna()}

@needs("openpyxl")
def test_an_error_in_a_cell_of_excel(cola, model, tmp_path):
    import openpyxl
    book = openpyxl.Workbook()
    for row in (["sentence", "n"], ["He left.", 1], ["She left.", "=1/0"]): book.active.append(row)
    book.active["B3"].value, book.active["B3"].data_type = "#N/A", "e"
    book.save(tmp_path/"a.xlsx")
    refused(cola("score", model, "a.xlsx", "b.csv"), "a.xlsx row 3: a cell holds an error")

# What a sixth attack found

def test_names_of_labels_are_read_in_packed_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    features = {"label": {"names": ["acceptable", "unacceptable"], "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"sentence": ["The dog barks.", "The dog bark.", "He left.", "Him left."],
                      "label": [0, 1, 0, 1]}).replace_schema_metadata(about)
    pq.write_table(table, tmp_path/"x.parquet")
    content = (tmp_path/"x.parquet").read_bytes()
    (tmp_path/"y.parquet.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path/"z.zip", "w") as archive: archive.writestr("x.parquet", content)
    for name in ("x.parquet", "y.parquet.gz", "z.zip"):
        assert read_sentences(tmp_path/name).sentences.label.tolist() == [1, 0, 1, 0], name

def shards(folder, *names, content="sentence,label\nHe left.,1\nHim left.,0\n"):
    folder.mkdir()
    for name in (*names, "dev.csv"):
        packed = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
        (folder/name).write_bytes(packed)
    return folder

def test_a_part_of_a_split_may_not_be_missing(tmp_path):
    first, second = (f"train-0000{part}-of-00002.csv" for part in (0, 1))
    assert len(load_corpus(shards(tmp_path/"whole", first, second)).train) == 4
    for name, parts in (("twice", (first, f"{first}.gz")), ("one", (second,))):
        with pytest.raises(ColaError, match="all of its parts, are expected"):
            load_corpus(shards(tmp_path/name, *parts))

def test_parts_of_a_split_call_their_labels_alike(tmp_path):
    folder = shards(tmp_path/"in", "train-00000-of-00002.csv", "train-00001-of-00002.csv")
    text = "sentence,label\nHe left.,good\nHim left.,bad\n"
    (folder/"train-00001-of-00002.csv").write_text(text)
    with pytest.raises(ColaError, match="the parts of train don't call their labels alike"):
        load_corpus(folder)

@pytest.mark.parametrize("header, zero, one", [
    ("sentence,acceptable", "unacceptable", "acceptable"), ("text,spam", "ham", "spam"),
    ("sentence,grammatical", "ungrammatical", "grammatical")])
def test_a_label_column_called_like_its_label_is_a_column(cola, model, tmp_path, header, zero, one):
    rows = f"{header}\nHe left.,{one}\nHim left.,{zero}\nShe sang.,{one}\n"
    (tmp_path/"a.csv").write_text(rows)
    assert read_sentences(tmp_path/"a.csv").sentences.label.tolist() == [1, 0, 1]
    assert cola("score", model, "a.csv", "o.csv")[2] == 0
    assert len(pd.read_csv(tmp_path/"o.csv")) == 3

def test_sentences_are_not_taken_from_a_comment(cola, model, tmp_path):
    four = "The keys is on the table.\t0\tann1\tclearly the wrong number here\n"
    (tmp_path/"four.tsv").write_text(four + four.replace("is", "are").replace("\t0", "\t1"))
    for command in (("score", model, "four.tsv", "o.csv"), ("data", "four.tsv")):
        assert cola(*command)[2] == 2
    (tmp_path/"c.csv").write_text("id,example,comment\n1,The keys is here.,agreement is wrong\n"
                                  "2,He left early.,nothing is wrong\n")
    refused(cola("score", model, "c.csv", "o.csv"),
            "the sentences could be in 'comment' or 'example'; choose with --column comment or "
            "--column example")
    assert cola("score", model, "c.csv", "o.csv", "--column", "example")[2] == 0

def test_what_export_could_not_read_back_it_does_not_write(tmp_path):
    frame = pd.DataFrame({"sentence": ["Go.", "Goed."] * 4, "label": [1, 0] * 4,
                          "sentence_source": "my own book"})
    corpus = Corpus("mine", {"train": check_sentences(frame), "dev": check_sentences(frame)})
    with pytest.raises(ColaError, match="would be read back as others"):
        corpus.export(tmp_path/"out")
    assert not (tmp_path/"out").exists()
    rows = load_corpus("demo").train[20:40]  # whatever its rows are numbered
    assert len(Corpus("mine", {"train": rows}).export(tmp_path/"out")) == 1

def test_quotes_that_excel_writes_are_no_text(tmp_path):
    "It puts quotes around each cell with a comma; where a comma stands bare, quotes are text"
    text = 'sentence\tlabel\n"The keys, which I lost, is here."\t0\nHe left.\t1\n'
    (tmp_path/"a.tsv").write_text(text)
    assert read_sentences(tmp_path/"a.tsv").sentences.sentence[0][0] == "T"
    (tmp_path/"b.tsv").write_text(text + 'Well, she sang.\t1\n')
    assert read_sentences(tmp_path/"b.tsv").sentences.sentence[0][0] == '"'

@pytest.mark.parametrize("name", ["erroneous", "agrammatical", "typo", "rejected", "nonsense"])
def test_a_column_of_unknown_name_may_count_faults(tmp_path, name):
    (tmp_path/"a.csv").write_text(f"sentence,{name}\nHe left.,0\nHim left.,1\n")
    with pytest.raises(ColaError, match="mean that a sentence is bad"):
        read_sentences(tmp_path/"a.csv")
    found = read_sentences(tmp_path/"a.csv", positive="0")
    assert found.sentences.label.tolist() == [1, 0]

def test_overwrite_is_said_of_one_file(judge, tmp_path, monkeypatch):
    (tmp_path/"a.txt").write_text("He left.\n" * 30)
    (tmp_path/"o.txt").write_text("an earlier output")
    def score(**options):
        return score_file(judge, tmp_path/"a.txt", tmp_path/"o.txt", progress=False, chunk=10,
                          **options)
    with monkeypatch.context() as patch:
        patch.setattr(judge, "predict_probability", lambda *_: (_ for _ in ()).throw(
            KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): score(overwrite=True)
    (tmp_path/"o.txt").unlink()
    (tmp_path/"o.txt").write_text("precious")
    with pytest.raises(ColaError, match="exists already"): score()
    assert (tmp_path/"o.txt").read_text() == "precious"
    assert score(overwrite=True)["rows"] == 30

def test_overwrite_is_said_of_one_run(tmp_path, monkeypatch):
    corpus, out = Corpus("small", {split: frame[:40] for split, frame in
                                   load_corpus("demo").splits.items()}), tmp_path/"run"
    def train(seed, **options):
        return fine_tune(corpus, Config(model="tiny", epochs=1, seed=seed), out, progress=False,
                         **options)
    train(1)
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "write_results", lambda *_, **__: (_ for _ in ()).throw(
            KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): train(2, overwrite=True)
    work = out.with_name("run.unfinished")
    for said in (b"", b"\xff", b"1 2 "):  # by an earlier version, by nobody, of another one
        before = (work/prediction.OVERWRITES).read_bytes()
        (work/prediction.OVERWRITES).write_bytes(said)
        with pytest.raises(ColaError, match="exists already"): train(2, resume=True)
        (work/prediction.OVERWRITES).write_bytes(before)
    out.rename(tmp_path/"kept")
    shutil.copytree(tmp_path/"kept", out)
    with pytest.raises(ColaError, match="exists already"): train(2, resume=True)
    shutil.rmtree(out)
    (tmp_path/"kept").rename(out)
    train(2, resume=True)  # the one that it was said of
    assert json.loads((out/"metrics.json").read_text())["config"]["seed"] == 2

def test_copies_and_pairs_stay_on_one_side(tmp_path):
    sentences = [f"Sentence {number}." for number in range(100) for _ in range(2)]
    frame = pd.DataFrame({"sentence": sentences, "label": [0, 0, 1, 1] * 50})
    kept, held_out = split_sentences(frame, .1)
    assert not {*kept.sentence} & {*held_out.sentence} and 16 <= len(held_out) <= 24
    lines = [f"Good {number}.,Bad {number}." for number in range(50)]
    (tmp_path/"pairs.csv").write_text("\n".join(["sentence_good,sentence_bad", *lines]))
    corpus = load_corpus(tmp_path/"pairs.csv")
    sides = [{name.split()[1] for name in frame.sentence} for frame in corpus.splits.values()]
    assert not sides[0] & sides[1]
    inner = split_sentences(corpus.train, .1)[1].sentence
    assert inner.str.split().str[1].value_counts().eq(2).all()

def test_a_vocabulary_that_was_cut_judges_nothing(copied):
    tokenizer = json.loads((copied/"tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: id for token, id in vocabulary.items()
                                   if id < len(vocabulary) / 2}
    (copied/"tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ColaError, match="is its file complete"): Judge(copied)

# What a seventh attack found

def workbook(path, cell):
    "A workbook whose B2 is written so in XML"
    from openpyxl import Workbook
    book = Workbook()
    for row in ("sentence", "id"), ("He left.", "=A1"), ("She left.", "7"): book.active.append(row)
    book.save(path)
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = re.sub(rb'<c r="B2".*?</c>', cell.encode(), parts[sheet])
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in parts.items(): packed.writestr(name, content)
    return path

@needs("openpyxl")
@pytest.mark.parametrize("cell, value", [
    ('<c r="B2"><f>A1</f><v></v></c>', None), ('<c r="B2"><f>A1</f></c>', None),
    ('<c r="B2"><f>1+1</f><v>2</v></c>', "2"),
    ('<c r="B2" t="str"><f>IF(1,"","")</f><v></v></c>', "")])
def test_a_formula_without_a_value(tmp_path, cell, value):
    path = workbook(tmp_path/"a.xlsx", cell)
    if value is None:
        with pytest.raises(ColaError, match="a.xlsx cell B2: a formula without its value"):
            read_table(path)
    else: assert read_table(path).id.tolist() == [value, "7"]

@needs("openpyxl")
def test_a_sentence_that_pandas_writes_as_a_formula(cola, model, tmp_path):
    sentences = pd.DataFrame({"sentence": ["He left.", "=( she left.", "They left."]})
    sentences.to_excel(tmp_path/"a.xlsx", index=False)
    refused(cola("score", model, "a.xlsx", "b.csv"), "a.xlsx cell A3: a formula without its value")

@needs("openpyxl")
def test_what_excel_writes_for_a_line_end_and_for_nothing(cola, model, tmp_path):
    wild = pd.DataFrame({"sentence": ["A b._x000D_\nC d.", "", " ", "E f."]})
    wild.to_excel(tmp_path/"a.xlsx", index=False)
    assert read_table(tmp_path/"a.xlsx").sentence.tolist() == ["A b.\r\nC d.", "", " ", "E f."]
    assert cola("score", model, "a.xlsx", "b.jsonl")[2] == 0
    assert len((tmp_path/"b.jsonl").read_text().splitlines()) == 4

def test_a_model_of_mistakes_says_nothing_about_what_is_good(cola, copied, tmp_path):
    edit(copied/"config.json", id2label={"0": "fine", "1": "faulty"},
         label2id={"fine": 0, "faulty": 1}, positive_label="faulty")
    (tmp_path/"p.csv").write_text("sentence_good,sentence_bad\nHe left.,Him left.\n")
    (tmp_path/"t.tsv").write_text("index\tsentence\n0\tHe left.\n")
    (tmp_path/"d.csv").write_text("sentence,label\nHe left.,1\nHim left.,0\n")
    (tmp_path/"own.csv").write_text("sentence,label\nHe left.,fine\nHim left.,faulty\n")
    for command in (("pairs", copied, "p.csv"), ("glue", copied, "t.tsv")):
        refused(cola(*command), "say which one is good, as in --positive fine")
        assert cola(*command, "--positive", "fine")[2] == 0
    refused(cola("evaluate", copied, "--data", "d.csv"), "name its labels as the model does")
    for positive in ("fine", "faulty"):
        said = cola("evaluate", copied, "--data", "own.csv", "--positive", positive)
        assert said[2] == 0 and f"judged_{positive}" in said[0]

def test_evaluations_are_seeds_only_if_their_models_are(finished, cola, tmp_path):
    other = tmp_path/"other"
    fine_tune(small(), dataclasses.replace(TINY, seed=7), other, progress=False)
    small().export(tmp_path/"data")
    def evaluate(run, out):
        done = cola("evaluate", run, "--data", "data", "--split", "dev", "--out", out)
        assert done[2] == 0, done
    for name in ("seeds", "recipes", "twice", "strangers"): (tmp_path/name).mkdir()
    evaluate(finished, "seeds/a")
    evaluate(other, "seeds/b")
    runs = load_predictions(tmp_path/"seeds")
    assert [run.attrs["config"]["seed"] for run in runs] == [42, 7]
    shutil.copytree(tmp_path/"seeds/a", tmp_path/"twice/a")
    shutil.copytree(tmp_path/"seeds/a", tmp_path/"twice/b")
    with pytest.raises(ColaError, match="have the same seed, so they are one run"):
        load_predictions(tmp_path/"twice")
    fine_tune(small(), dataclasses.replace(TINY, seed=7, epochs=2), tmp_path/"long", progress=False)
    shutil.copytree(tmp_path/"seeds/a", tmp_path/"recipes/a")
    evaluate(tmp_path/"long", "recipes/b")
    with pytest.raises(ColaError, match="different recipes .they differ in epochs"):
        load_predictions(tmp_path/"recipes")
    for name, run in (("a", finished), ("b", other)):  # as if from the Hub: nobody knows how made
        shutil.copytree(run/"model", tmp_path/f"hub-{name}")
        evaluate(tmp_path/f"hub-{name}", f"strangers/{name}")
    with pytest.raises(ColaError, match="says its recipe"): load_predictions(tmp_path/"strangers")
    alone = [load_predictions(tmp_path/"strangers"/name) for name in "ab"]
    assert "cola seeds" not in compare(*alone, draws=200).note
    small(seed=3).export(tmp_path/"elsewhere")
    done = cola("evaluate", finished, "--data", "elsewhere", "--split", "dev", "--out", "e")
    assert done[2] == 0, done
    note = compare(load_predictions(tmp_path/"e"), load_predictions(tmp_path/"e"), draws=200).note
    assert "cola seeds --data '…' --model tiny" in note  # what it learned from has another name

def test_no_run_is_of_two_versions(tmp_path, monkeypatch):
    from cola_nbdev import experiments, training
    config = Config(model="tiny", epochs=2, checkpoint_minutes=0)
    def train(): return training.train(small().train, config, tmp_path/"kept", True, False)
    with monkeypatch.context() as patch:
        patch.setattr(training, "check_state", stop_after(training.check_state, 2))
        with pytest.raises(KeyboardInterrupt): train()
    same_recipe(small(), config, tmp_path/"seeds")
    for module in (training, experiments): monkeypatch.setattr(module, "__version__", "9.9")
    with pytest.raises(ColaError, match="belongs to another run: version of cola_nbdev"): train()
    with pytest.raises(ColaError, match="runs of another recipe: version of cola_nbdev"):
        same_recipe(small(), config, tmp_path/"seeds")

def test_files_of_yours_in_an_unfinished_run_stay(tmp_path, monkeypatch):
    def train(**options): return fine_tune(small(), TINY, tmp_path/"run", progress=False, **options)
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "write_results", lambda *_, **__: (_ for _ in ()).throw(
            KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): train()
    work = tmp_path/"run.unfinished"
    (work/"thesis").mkdir()
    (work/"thesis"/"notes.txt").write_text("mine")
    with unchanged(tmp_path), pytest.raises(ColaError, match="also holds thesis"):
        train(overwrite=True)
    shutil.rmtree(work/"thesis")
    (work/".metrics.json.0123abcd.new").touch()  # what a power cut leaves of ours
    train(overwrite=True)
    assert not work.exists()

@pytest.mark.parametrize("address", ["s3://AK:se/cret@bucket/x", "postgresql://bob:secret@host/x"])
def test_a_corpus_is_not_exported_to_an_address(cola, tmp_path, address):
    done = cola("data", "demo", "--export", address)
    refused(done, "is an address; give a path on this machine")
    assert "cret" not in done[1] and not list(tmp_path.glob("*:"))

@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_is_not_judged_by_the_line(cola, model, tmp_path, encoding):
    rows = "id\tsentence\tlabel\r\n1\tHe left.\t1\r\n2\tHim left.\t0\r\n"
    (tmp_path/"a.txt").write_text(rows, encoding=encoding, newline="")
    refused(cola("score", model, "a.txt", "b.csv"), "a.txt is a table (id, sentence, label); let")
    assert cola("score", model, "a.txt", "b.csv", "--format", "tsv")[2] == 0
    assert pd.read_csv(tmp_path/"b.csv").sentence.tolist() == ["He left.", "Him left."]
    (tmp_path/"c.txt").write_text("Tab\there.\nThe sentence\tis split.\n", encoding=encoding)
    assert cola("score", model, "c.txt", "d.csv")[2] == 0

def test_lines_of_text_that_end_in_two_ways(cola, model, tmp_path):
    (tmp_path/"a.txt").write_bytes(b"He left.\nShe left.\rThey left.\n")
    done = cola("score", model, "a.txt", "b.csv")
    assert "line 2: lines end in two ways" in done[0] + done[1]

@pytest.mark.parametrize("question", ["Please write a sentence of English", "What do you say?"])
def test_the_questions_of_a_survey_are_names(cola, model, tmp_path, question):
    rows = [f"2024-01-0{day},The cat sat.\n" for day in range(1, 5)]
    (tmp_path/"a.csv").write_text(f"Timestamp,{question}\n{''.join(rows)}")
    refused(cola("score", model, "a.csv", "b.csv"), "choose with --column")
    assert cola("score", model, "a.csv", "b.csv", "--column", question)[2] == 0
    assert list(pd.read_csv(tmp_path/"b.csv"))[:2] == ["Timestamp", question]

def test_one_word_above_a_column_of_text_is_asked_about(cola, model, tmp_path):
    (tmp_path/"a.csv").write_text("ok\nsee you at the station\nwhere are you going now\n")
    refused(cola("score", model, "a.csv", "b.csv"), "names of columns, or a row?")
    assert cola("score", model, "a.csv", "b.csv", "--column", "ok")[2] == 0

def test_intervals_lie_where_scores_do():
    from cola_nbdev.comparison import draw_mcc_of_seeds, paired_draws
    labels = [0, 1] * 30
    good, bad = labels, [1 - label for label in labels]
    assert np.abs(draw_mcc_of_seeds(labels, [good, bad])).max() <= 1
    for paired in (False, True):
        drawn = paired_draws(labels, [good, bad], [bad, good], paired=paired)
        assert np.abs(drawn).max() <= 2

def test_names_of_labels_under_colas_columns(tmp_path):
    rows = [f"a\t{label}\t\tMessage {number} here.\n" for number, label in
            enumerate(["ham", "spam"] * 5)]
    (tmp_path/"a.tsv").write_text("sentence_source\tlabel\tlabel_notes\tsentence\n" + "".join(rows))
    assert read_sentences(tmp_path/"a.tsv").names == ("ham", "spam")

# What an eighth attack found

def test_a_file_that_was_learned_is_scored_where_it_was_held_out(cola, tmp_path):
    rows = load_corpus("demo").train[:100][["sentence", "label"]]
    rows.to_csv(tmp_path/"own.csv", index=False)
    assert cola("train", "--data", "own.csv", *TRAIN, "--out", "run")[2] == 0
    trained = json.loads((tmp_path/"run/metrics.json").read_text())["splits"]["dev"]
    assert cola("evaluate", "run", "--data", "own.csv", "--out", "again")[2] == 0
    again = json.loads((tmp_path/"again/metrics.json").read_text())["splits"]["dev, unseen"]
    assert trained["n"] == again["n"] == 20
    assert {**again} == pytest.approx(trained, nan_ok=True)
    rows[:60].to_csv(tmp_path/"other.csv", index=False)  # of this file all is scored
    assert " of 60 sentences occur in the training set" in \
        cola("evaluate", "run", "--data", "other.csv")[0]

@pytest.mark.parametrize("name, value", [("answer", "reject"), ("answer", "ignore"),
                                         ("status", "discarded"), ("status", "draft")])
def test_what_an_annotator_refused_is_no_label(cola, tmp_path, name, value):
    rows = [{"text": f"Sentence {number}.", "label": "POSITIVE" if number % 2 else "NEGATIVE",
             name: "accept" if number < 9 else value} for number in range(10)]
    (tmp_path/"a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(cola("data", "a.jsonl"), f"the column {name} says '{value}'; leave such rows out")
    (tmp_path/"a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:9]))
    assert cola("data", "a.jsonl")[2] == 0

@pytest.mark.parametrize("header", ["id,essay,sentences", "item,stimulus,sentence"])
def test_a_number_is_no_sentence(cola, model, tmp_path, header):
    rows = [f"{number},The cat sat on mat {number}.,{number + 2}\n" for number in range(1, 9)]
    (tmp_path/"a.csv").write_text(f"{header}\n{''.join(rows)}")
    refused(cola("score", model, "a.csv", "b.csv"), "holds numbers or labels; say which one")
    text = header.split(",")[1]
    assert cola("score", model, "a.csv", "b.csv", "--column", text)[2] == 0
    labeled = [f"{row.rstrip()},{number % 2}\n" for number, row in enumerate(rows)]
    (tmp_path/"c.csv").write_text(f"{header},acceptable\n{''.join(labeled)}")
    refused(cola("data", "c.csv"), "say which one holds the sentences, with --text")
    assert f"taken: {text} → sentence" in cola("data", "c.csv", "--text", text)[0]

def test_quotes_in_colas_four_columns(tmp_path):
    sentences = ['He said "hi" to me.', "Him said hi to I.", "He left early today."]
    plain = pd.DataFrame({"a": "bk", "b": [1, 0, 1], "c": ["", "*", ""], "d": sentences})
    plain.to_csv(tmp_path/"pandas.tsv", sep="\t", header=False, index=False)
    by_r = [f'"bk"\t{label}\t"{note}"\t"{sentence}"\n' for _, label, note, sentence in
            plain[1:].itertuples(index=False)]
    (tmp_path/"r.tsv").write_text("".join(by_r))
    raw = "".join("\t".join(map(str, row)) + "\n" for row in plain.itertuples(index=False))
    (tmp_path/"raw.tsv").write_text(raw)  # as CoLA's own files
    for name, expected in {"pandas": sentences, "r": sentences[1:], "raw": sentences}.items():
        assert read_sentences(tmp_path/f"{name}.tsv").sentences.sentence.tolist() == expected, name

def test_quotes_around_fields_and_within_one(cola, model, tmp_path):
    lines = ['"He left early today."\t1', '"He said \\"no\\" to me."\t1', '"Him left early."\t0']
    (tmp_path/"a.tsv").write_text("\n".join(lines) + "\n")
    refused(cola("score", model, "a.tsv", "b.csv"), "quotes stand around its fields")

def test_whoever_has_learned_a_sentence_has_not_to_judge_it():
    rng, frame = np.random.default_rng(0), load_corpus("demo").dev["in_domain_dev"][:200]
    frame = frame.assign(split="dev", predicted=rng.integers(0, 2, 200))
    learned = frame.assign(in_train=[True] * 100 + [False] * 100,
                           predicted=np.where(np.arange(200) < 100, frame.label, frame.predicted))
    for both in ((frame, learned), (learned, frame)):
        found = compare(*both, draws=200).table
        assert found.n.to_dict() == {"dev": 200, "dev, unseen": 100}
        assert found.difference["dev, unseen"] == 0

@pytest.mark.parametrize("settings", [
    {"sp_model_kwargs": {"model_file": "/etc/hostname"}}, {"gguf_file": "/etc/hostname"}])
def test_a_tokenizer_lies_in_its_folder(copied, settings):
    edit(copied/"tokenizer_config.json", **settings)
    with pytest.raises(ColaError, match="names a (model|gguf)_file; remove it"): Judge(copied)

@needs("optuna")
@pytest.mark.parametrize("tables", [["customers"], ["customers", "alembic_version"]])
def test_a_database_of_yours_is_no_study(cola, tmp_path, tables):
    import sqlite3
    with contextlib.closing(sqlite3.connect(tmp_path/"user.db")) as file, file:
        for name in tables: file.execute(f"CREATE TABLE {name} (version_num TEXT)")
    before = (tmp_path/"user.db").read_bytes()
    refused(cola("search", "--data", "demo", *TRAIN, "--out", "s", "--trials", "1",
                 "--storage", f"sqlite:///{tmp_path}/user.db"), "not Optuna's")
    assert (tmp_path/"user.db").read_bytes() == before

@pytest.mark.parametrize("name", ["hasError", "violation"])
def test_a_column_of_errors_whatever_its_spelling(cola, model, tmp_path, name):
    (tmp_path/"a.csv").write_text(f"text,{name}\n" + "".join(
        f"Sentence number {number}.,{number % 2}\n" for number in range(10)))
    refused(cola("evaluate", model, "--data", "a.csv", "--label", name), "--positive")

def test_a_table_or_a_text_is_no_list_of_sentences(judge):
    frame = pd.DataFrame({"sentence": ["He left.", "Him left."]})
    with pytest.raises(ColaError, match="give one of its columns .sentence."):
        judge.predict_probability(frame)
    assert judge.predict_probability("He left.")[0].shape == (1,)

def test_a_difference_that_one_sentence_shows():
    from cola_nbdev.comparison import plan
    assert plan(1.9).sentences.eq(1).all()

def test_a_folder_called_like_a_corpus_of_ours(cola, tmp_path):
    assert "is ours" not in cola("data", "demo")[0]
    small().export(tmp_path/"demo")
    assert "demo is ours; for what is here, say ./demo" in cola("data", "demo")[0]
    assert "is ours" not in cola("data", "./demo")[0]

@pytest.mark.parametrize("labels, probability", [([-1, 1], [.2, .7]), ([0, 1], [20, 70])])
def test_calibration_is_of_probabilities(labels, probability):
    with pytest.raises(ColaError, match="labels must be 0 or 1, and probabilities lie between"):
        calibration_error(labels, probability)

def test_a_short_name_is_no_folder_for_predict_either(copied, monkeypatch):
    seen = []
    monkeypatch.chdir(copied.parent)
    monkeypatch.setattr(cli, "read_record", lambda path, *_: seen.append(path) or {})
    for name in ("bert", *MODELS, "mpnet", "tiny"):
        shutil.copytree(copied, name, dirs_exist_ok=True)
        (Path(name)/"onnx").mkdir(exist_ok=True)
        (Path(name)/"onnx"/cli.ONNX_FILES["fp32"]).touch()
        cli.verdicts_at_once(name, ["He left."])
        assert not seen
        cli.verdicts_at_once(f"./{name}", ["He left."])
        assert seen and not seen.clear()

def test_a_row_whose_neighbors_begin_with_numbers_by_chance(tmp_path):
    (tmp_path/"a.csv").write_text("He left early.,x y\nI saw 2 dogs.,x z\nThose 3 cats sat.,y z\n")
    assert len(read_table(tmp_path/"a.csv")) == 3

# What a ninth attack found

def read(path): return read_table(path).sentence.tolist()

def test_the_worse_label_is_not_the_acceptable_one(cola, model, tmp_path):
    pairs = [("The farmers sleep.", "The farmers sleeps."), ("He left.", "Him left.")] * 4
    for good, bad in (("grammatical", "ungrammatical"), ("right", "wrong")):
        rows = [f"{text},{label}\n" for pair in pairs
                for text, label in zip(pair, (good, bad), strict=True)]
        (tmp_path/"a.csv").write_text("text,label\n" + "".join(rows))
        refused(cola("evaluate", model, "--data", "a.csv", "--positive", bad),
                f"counts {bad} as 1, and the model acceptable; add --positive {good}")
        assert cola("evaluate", model, "--data", "a.csv", "--positive", good)[2] == 0
    (tmp_path/"a.csv").write_text((tmp_path/"a.csv").read_text().replace("wrong", "spam")
                                  .replace("right", "ham"))
    refused(cola("evaluate", model, "--data", "a.csv"), "and not ham from spam")

def test_what_a_model_has_learned_is_told_from_what_is_new_to_it(cola, tmp_path):
    rows = load_corpus("demo").train[:100][["sentence", "label"]]
    rows.to_csv(tmp_path/"own.csv", index=False)
    assert cola("train", "--data", "own.csv", *TRAIN, "--out", "run")[2] == 0
    shutil.copytree(tmp_path/"run/model", tmp_path/"alone")
    new = pd.DataFrame({"sentence": ["It is new here.", "Here new it is."], "label": [1, 0]})
    changed = pd.concat([rows.sample(frac=1, random_state=0), new])
    changed.assign(sentence=changed.sentence.str.upper()).to_csv(tmp_path/"more.csv", index=False)
    for run, data, size, unseen in (("run", "more", 102, 22), ("alone", "own", 100, 20)):
        out, _, code = cola("evaluate", run, "--data", f"{data}.csv", "--out", f"{run}-{data}")
        assert code == 0 and f"80 of {size} sentences occur in the training set" in out
        sets = json.loads((tmp_path/f"{run}-{data}/metrics.json").read_text())["splits"]
        assert (sets["dev"]["n"], sets["dev, unseen"]["n"]) == (size, unseen)
    new.to_csv(tmp_path/"new.csv", index=False)
    assert "occur in" not in cola("evaluate", "alone", "--data", "new.csv")[0]

@pytest.mark.parametrize("sentences", [
    ["He left\rthe house.", 'He said "no".', "Him left."],
    ["He left\nthe house.", "", "She left."]])
@pytest.mark.parametrize("columns", [["sentence", "label"], ["sentence"]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_of_pandas_around_line_ends(tmp_path, sentences, columns, end):
    frame = pd.DataFrame({"sentence": sentences, "label": [1, 0, 1]})[columns]
    frame.to_csv(tmp_path/"a.tsv", sep="\t", index=False, lineterminator=end)
    if "\r" in sentences[0] and end == "\n":  # pandas has put no quotes around it
        with pytest.raises(ColaError, match="line 2: "): read(tmp_path/"a.tsv")
    else: assert read(tmp_path/"a.tsv") == sentences

@pytest.mark.parametrize("row", ["He left.\rHim left.", "He left.\r"])
def test_a_line_with_two_ends_is_no_row(cola, model, tmp_path, row):
    (tmp_path/"a.tsv").write_bytes(f"sentence\n{row}\r\nShe left.\r\n".encode())
    refused(cola("score", model, "a.tsv", "b.csv"), "line 2: lines end in two ways")

@pytest.mark.parametrize("table", [
    "email,spam\nBuy this now,spam\nHow are you today,ham\nCheap pills here,spam\n",
    "item,acceptable\nHe left,acceptable\nHim left,unacceptable\nShe left,acceptable\n",
    "Satz,good\nEr ging,good\nIhn ging,bad\nSie ging,good\n"])
def test_a_column_called_like_one_of_its_labels(cola, model, tmp_path, table):
    (tmp_path/"a.csv").write_text(table)
    refused(cola("score", model, "a.csv", "b.csv"), "names of columns, or a row?")
    rows = table.split("\n", 1)[1]
    (tmp_path/"a.csv").write_text(f"This is a sentence,{rows.split(',')[1].split()[0]}\n{rows}")
    assert len(read_table(tmp_path/"a.csv")) == 4  # without a header, as before

@pytest.mark.parametrize("names", [("ham", "spam"), ("0", "1"), ("1", "2")])
def test_labels_keep_their_names_in_an_export(cola, tmp_path, names):
    rows = [f"Message number {number} came.,{names[number % 2]}\n" for number in range(40)]
    (tmp_path/"a.csv").write_text("text,label\n" + "".join(rows))
    say = ["--positive", "2"] if "2" in names else []
    assert cola("data", "a.csv", *say, "--export", "ex")[2] == 0
    if say: refused(cola("data", "ex"), "label '2' is neither 0 nor 1")
    again = load_corpus(tmp_path/"ex", positive="2" if say else None)
    assert again.names == names
    assert again.fingerprint == load_corpus(tmp_path/"a.csv", positive=say[-1] if say else None
                                            ).fingerprint

def test_an_export_is_read_again_as_it_was(tmp_path):
    train = small().train
    dev = pd.DataFrame({"sentence": ['"Yes, it goes."', "Goes it not so."], "label": [1, 0]})
    quoted = dataclasses.replace(small(), splits={"train": train, "dev": check_sentences(dev)})
    with pytest.raises(ColaError, match="would be read back as others"):
        quoted.export(tmp_path/"ex")
    assert not (tmp_path/"ex").exists()

@pytest.mark.parametrize("table", [
    "source,target,comment\nEr ging.,He left.,very good translation\nSie sah.,It saw.,a bad one\n",
    "sentence,stimulus\ns1,He left.\ns2,Saw she it.\n", "text,line\nA01,He left.\nA02,Him left.\n"])
def test_other_text_than_in_the_column_of_that_name(cola, model, tmp_path, table):
    (tmp_path/"a.csv").write_text(table)
    refused(cola("score", model, "a.csv", "b.csv"), "the sentences could be in")
    assert cola("score", model, "a.csv", "b.csv", "--column", table.split("\n")[0].split(",")[1]
                )[2] == 0

@pytest.mark.parametrize("table, kind", [
    ("id,sentence,label\n1,He left.,1\n2,Him left.,0\n", "csv"), ("text;n\nHe left.;1\n", "csv"),
    ("id\tsatz\tlabel\n1\tEr ging.\t1\n2\tIhn ging.\t0\n", "tsv")])
def test_a_table_is_no_text(cola, model, tmp_path, table, kind):
    (tmp_path/"a.txt").write_text(table)
    refused(cola("score", model, "a.txt", "b.csv"), f"add --format {kind}")
    refused(cola("distill", "--teacher", model, "--unlabelled", "a.txt", "--out", "o"),
            "is a table")
    (tmp_path/"a.txt").write_text("No text, please.\nHe left, and she stayed.\n")
    assert cola("score", model, "a.txt", "b.csv")[2] == 0

def test_votes_are_no_pairs(cola, model, tmp_path):
    (tmp_path/"a.csv").write_text("sentence,good,bad\nHe left.,7,3\nHim left.,2,8\n")
    refused(cola("pairs", model, "a.csv"), "no column is known to hold the labels")
    (tmp_path/"b.csv").write_text("stimulus,good,bad\n" + "".join(
        f"The cat sat {number}.,0.{number}1,0.{number}3\n" for number in range(9)))
    refused(cola("data", "b.csv"), "say which with --text and --label")

def test_what_r_has_not(cola, model, tmp_path):
    (tmp_path/"a.csv").write_text('"","sentence","note"\n"1","He left.",NA\n"2",NA,"x"\n')
    assert "2 rows, 1 without a sentence" in cola("score", model, "a.csv", "b.csv")[0]
    (tmp_path/"b.csv").unlink()
    (tmp_path/"a.csv").write_text('"sentence","label","note"\n"He left.",1,NA\n"Him left.",0,"x"\n')
    assert cola("score", model, "a.csv", "b.csv")[2] == 0
    assert (tmp_path/"b.csv").read_text().splitlines()[1].startswith("He left.,1,NA,")
    (tmp_path/"a.csv").write_text('"sentence","label"\n"He left.",1\nNA,0\n"Him left.",0\n')
    refused(cola("data", "a.csv"), "line 3: the sentence is empty")
    for sign in MISSING:  # readr quotes nothing that needs no quotes, Excel writes errors out
        (tmp_path/"a.csv").write_text(f"sentence,label\nHe left.,1\n{sign},0\nHim left.,0\n")
        refused(cola("data", "a.csv"), "line 3: the sentence is empty")
        (tmp_path/"p.csv").write_text(f"good,bad\n{sign},He leave.\nShe left.,She leave.\n")
        refused(cola("pairs", model, "p.csv"), "line 2: good is no sentence")

def test_a_split_in_a_file_of_a_split(cola, tmp_path):
    small().export(tmp_path/"c")
    train = small().train.assign(split="train")
    train[["sentence", "label", "split"]].to_csv(tmp_path/"c/train.csv", index=False)
    (tmp_path/"c/in_domain_train.tsv").unlink()
    assert cola("data", "c")[2] == 0
    train.loc[train.index[-4:], "split"] = "test"
    train[["sentence", "label", "split"]].to_csv(tmp_path/"c/train.csv", index=False)
    refused(cola("data", "c"), "its column split says test")

def test_what_is_left_out_of_a_folder_of_pairs_is_said(cola, model, tmp_path):
    (tmp_path/"p/sub").mkdir(parents=True)
    (tmp_path/"p/a.csv").write_text("good,bad\nHe left.,Him left.\n")
    (tmp_path/"p/notes.txt").write_text("of 2026\n")
    out = cola("pairs", model, "p")[0]
    assert "left out: notes.txt" in out and "left out: sub" in out

def test_two_folders_that_could_hold_the_corpus(cola, tmp_path):
    for name in ("raw", "data"): small().export(tmp_path/f"c/{name}")
    refused(cola("data", "c"), "holds no corpus")

def test_a_blank_before_a_quote(cola, model, tmp_path):
    (tmp_path/"a.csv").write_text('label, sentence\n1, "He left."\n')
    refused(cola("score", model, "a.csv", "b.csv"), "line 2: there is a blank before a quote")

def test_a_judge_is_what_it_was_when_it_was_opened(copied, monkeypatch):
    changed = Judge(copied)
    edit(copied/"config.json", hidden_act="relu")
    with pytest.raises(ColaError, match="has changed since it was opened; open it anew"):
        str(changed.fingerprint)
    fresh = Judge(copied)
    assert fresh.fingerprint == Judge(copied).fingerprint
    shorter = Judge(copied)
    shorter.tokenizer.model_max_length = 16
    assert shorter.fingerprint != fresh.fingerprint
    monkeypatch.chdir(copied.parent)
    relative = Judge(copied.name)
    (copied.parent/"b").mkdir()
    shutil.copytree(copied, copied.parent/"b"/copied.name)
    monkeypatch.chdir(copied.parent/"b")
    with pytest.raises(ColaError, match="has changed since"): str(relative.fingerprint)

@needs("onnxruntime")
def test_onnx_that_says_something_else_is_not_kept(copied, monkeypatch):
    real = export.predict_splits

    def other(model, *rest):
        found = real(model, *rest)
        return found.assign(logit=found.logit + .02 * isinstance(model, prediction.OnnxModel))

    monkeypatch.setattr(export, "predict_splits", other)
    with pytest.raises(ColaError, match=r"logits differ by up to 0\.02; nothing is kept"):
        export.export_onnx(copied, small(), int8=False, progress=False)
    assert not [*copied.glob("onnx/*.onnx")]

def test_trying_to_rename_moves_nothing(tmp_path, monkeypatch):
    (tmp_path/"run").mkdir()
    (tmp_path/"run/mine").touch()
    seen = []
    real = Path.rename

    def rename(path, target):
        with contextlib.suppress(OSError): real(path, target)
        seen.append((tmp_path/"run/mine").exists())
        raise OSError(errno.ENOTEMPTY, "not empty")

    monkeypatch.setattr(Path, "rename", rename)
    prediction._check_rename(tmp_path/"run")
    assert seen == [True]  # whoever dies here has lost nothing
    monkeypatch.setattr(Path, "rename", lambda path, target: os.mkdir("/proc/none"))
    with pytest.raises(ColaError, match="can't be replaced"):
        prediction._check_rename(tmp_path/"run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

def test_another_run_under_the_same_inode(finished, tmp_path):
    from cola_nbdev.basics import state_of
    run = Path(shutil.copytree(finished, tmp_path/"run"))
    before = state_of(run)
    assert before == state_of(run)
    edit(run/"metrics.json", corpus="other")
    assert before != state_of(run)

@pytest.mark.parametrize("name", ["vocab.txt", "README.md", "tokenizer.json", "model.safetensors",
                                  "onnx"])
def test_a_link_in_a_model_leads_nowhere_else(copied, tmp_path, name):
    (tmp_path/"private").mkdir()
    (tmp_path/"private/file").write_text("private")
    if (copied/name).exists(): (copied/name).unlink()
    (copied/name).symlink_to(tmp_path/"private"/("" if name == "onnx" else "file"))
    with pytest.raises(ColaError, match=f"{name} is a link to another folder"): Judge(copied)

def test_a_link_in_the_cache_of_the_hub(copied, tmp_path):
    snapshot, blobs = tmp_path/"models--a--b/snapshots/1", tmp_path/"models--a--b/blobs"
    shutil.copytree(copied, snapshot)
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        shutil.move(path, blobs/str(number))
        path.symlink_to(f"../../blobs/{number}")
    assert Judge(snapshot).fingerprint == Judge(copied).fingerprint

def test_a_long_path_is_refused_at_once(tmp_path):
    body = json.dumps({"path": "/a" * 120_000}).encode()
    with within(5), pytest.raises(app.Refused): app.check_paths(body, tmp_path)
    dots = json.dumps({"path": f"{tmp_path}/{'./' * 2100}../secret"}).encode()
    with pytest.raises(app.Refused): app.check_paths(dots, tmp_path)

@needs("optuna")
@pytest.mark.parametrize("driver, tables", [
    ("sqlite+pysqlite:///{}", ["customers"]), ("sqlite:///file:{}?uri=true", ["customers"]),
    ("sqlite:///{}", ["studies"]), ("sqlite:///{}", ["version_info"])])
def test_a_database_of_yours_by_any_address(cola, tmp_path, driver, tables):
    import sqlite3
    with contextlib.closing(sqlite3.connect(tmp_path/"user.db")) as file, file:
        for name in tables: file.execute(f"CREATE TABLE {name} (version_num TEXT)")
    before = (tmp_path/"user.db").read_bytes()
    refused(cola("search", "--data", "demo", *TRAIN, "--out", "s", "--trials", "1",
                 "--storage", driver.format(tmp_path/"user.db")), "not Optuna's")
    assert (tmp_path/"user.db").read_bytes() == before

@pytest.mark.parametrize("kind", [bool, float, object, "category", "int8", "uint64"])
def test_labels_of_any_kind_that_are_0_or_1(kind):
    rows = small().train
    run = train(rows.assign(label=rows.label.astype(kind)), TINY, progress=False)
    assert run.step == 2
    for other in ("1", 2, -100, None):
        with pytest.raises(ColaError, match="a label is 0 or 1, and not"):
            train(rows.assign(label=[other, *rows.label[1:]]), TINY, progress=False)

def test_a_disk_that_is_full_when_the_weights_are_saved(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def save(*_, **__): raise SafetensorError("I/O error: File too large (os error 27)")
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", save)
    with pytest.raises(ColaError, match="cannot be written .*(?i:file too large)"):
        fine_tune(small(), TINY, tmp_path/"run", progress=False)

# What a tenth attack found

def test_a_link_in_a_run_shows_nothing(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path/"run"))
    (tmp_path/"private").write_text("secret")
    (run/"README.md").symlink_to(tmp_path/"private")
    assert "secret" not in app.model_card(run) and "tiny" in app.model_card(run)

def test_a_link_in_a_folder_of_a_model(copied, tmp_path):
    (tmp_path/"private").write_text("private")
    (copied/"additional_chat_templates").mkdir()
    (copied/"additional_chat_templates/x.jinja").symlink_to(tmp_path/"private")
    with pytest.raises(ColaError, match="x.jinja is a link to another folder"): Judge(copied)

@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_quotes_of_a_dialogue_and_an_empty_line(tmp_path, end):
    rows = ['1\t"I went home.', '2\tIt was late."', "3\tYes I do."]
    (tmp_path/"a.tsv").write_text("id\tsentence\n" + "\n".join(rows) + "\n" + end, newline="")
    assert read(tmp_path/"a.tsv") == ['"I went home.', 'It was late."', "Yes I do."]

@pytest.mark.parametrize("names", [("0", "1"), ("no", "yes"), ("ham", "spam"), ("bad", "good")])
def test_an_export_does_not_turn_labels_round(cola, tmp_path, names):
    (tmp_path/"a.csv").write_text("text,error\n" + "".join(
        f"Sentence number {number}.,{names[number % 2]}\n" for number in range(40)))
    refused(cola("data", "a.csv", "--positive", names[0], "--export", "ex"),
            f"{names[0]} is 1 here, and would be 0 when it is read again")
    assert not (tmp_path/"ex").exists()
    assert cola("data", "a.csv", "--positive", names[1], "--export", "ex")[2] == 0
    assert load_corpus(tmp_path/"ex").names == names

@pytest.mark.parametrize("names", [("0", "1"), ("no", "yes")])
def test_the_same_words_for_errors_turn_no_model_round(cola, tmp_path, names):
    rows = load_corpus("demo").train[:60]
    good = pd.DataFrame({"text": rows.sentence, "label": rows.label.map(dict(enumerate(names)))})
    good.to_csv(tmp_path/"good.csv", index=False)
    bad = pd.DataFrame({"text": rows.sentence,
                        "error": rows.label.map(dict(enumerate(names[::-1])))})
    bad.to_csv(tmp_path/"bad.csv", index=False)
    assert cola("train", "--data", "good.csv", *TRAIN, "--out", "run")[2] == 0
    edit(tmp_path/"run/model/config.json", id2label=dict(enumerate(names)),
         label2id={name: number for number, name in enumerate(names)}, positive_label=names[1])
    tensors_of(tmp_path/"run/model", lambda weights: weights["classifier.weight"].mul_(50))
    for data, say in (("good", ()), ("bad", ("--positive", names[0]))):
        assert cola("evaluate", "run", "--data", f"{data}.csv", *say, "--out", data)[2] == 0
    one, other = (read_predictions(tmp_path/f"{data}/predictions.csv") for data in ("good", "bad"))
    assert one.label.equals(other.label) and one.logit.equals(other.logit)

@pytest.mark.parametrize("text, words", [
    ("1\tHe left.\n2\tHim left.\n3\tIt is.\n", "is a table (1, He left.)"),
    ("id\tphrase\n1\tHe left.\n2\tHim left.\n", "is a table (id, phrase)"),
    ("He left.,1\n\"Him, left.\",0\n", "is a table (He left., 1)"),
    ("gj04\t1\t\tHe left.\ngj04\t0\t*\tHim left.\n" * 2, "is a table (gj04, 1, , He left.)"),
    ('"sentence" "label"\n"1" "He left." 1\n"2" "Him left." 0\n', "is a table of R"),
    ('{"sentence": "He left."}\n{"sentence": "Him."}\n', "is JSON; let its name end in .jsonl"),
    ('[{"sentence": "He left."}]', "is JSON; let its name end in .jsonl")])
def test_what_is_no_text_for_all_its_name(cola, model, judge, tmp_path, text, words):
    (tmp_path/"a.txt").write_text(text)
    refused(cola("score", model, "a.txt", "b.csv"), words)
    assert words.split(";")[0].split("(")[0] in app.Answers(judge).file(tmp_path/"a.txt")

def test_what_is_text_for_all_its_commas(cola, model, tmp_path):
    (tmp_path/"a.txt").write_text("Yes, he left.\nNo, she stayed.\nYes, at 1.\nNo, 0\n")
    assert cola("score", model, "a.txt", "b.csv")[2] == 0
    assert len(pd.read_csv(tmp_path/"b.csv")) == 4

@pytest.mark.parametrize("votes", [("TRUE", "FALSE"), ("yes", "no"), ("1", "0")])
def test_words_of_labels_are_no_pairs(cola, model, tmp_path, votes):
    (tmp_path/"a.csv").write_text("sentence,grammatical,ungrammatical\n" + "".join(
        f"He left {number}.,{votes[number // 2 % 2]},{votes[1 - number // 2 % 2]}\n"
        for number in range(6)))
    refused(cola("pairs", model, "a.csv"), "rows 0 and 1 are no pair")

def test_what_was_learned_before_is_not_forgotten(tmp_path):
    fine_tune(small(), TINY, tmp_path/"one", progress=False)
    other = small(7).splits | {"train": load_corpus("demo").train[100:140]}
    again = dataclasses.replace(TINY, model=str(tmp_path/"one/model"))
    fine_tune(Corpus("other", other), again, tmp_path/"two", progress=False)
    for sentences in (small().train, other["train"]):
        assert all(Judge(tmp_path/"two/model").has_learned(sentences.sentence))
    assert not any(Judge(tmp_path/"one/model").has_learned(other["train"].sentence))
    edit(tmp_path/"two/model/learned.json", sentences=[{}])
    assert Judge(tmp_path/"two/model").has_learned(["He left."]) == [False]

def test_the_scores_of_a_run_are_not_those_of_what_lies_in_it(cola, finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path/"run"))
    shutil.copytree(run/"model", run/"candidate")
    assert "not known here" in app.about_scores(run/"candidate")[0]
    assert "not known here" not in app.about_scores(run/"model")[0]
    small().dev["dev"][["sentence", "label"]].to_csv(tmp_path/"a.csv", index=False)
    assert cola("evaluate", run/"candidate", "--data", "a.csv", "--out", "e")[2] == 0
    assert "config" not in json.loads((tmp_path/"e/metrics.json").read_text())

def test_the_page_asks_for_the_column_as_the_command_does(judge, tmp_path):
    (tmp_path/"a.csv").write_text("satz,comment\nEr ging.,very good\nIhn ging.,a bad one\n")
    assert "the sentences could be in" in app.Answers(judge).file(tmp_path/"a.csv")

def test_a_name_of_a_label_that_no_line_can_hold(cola, tmp_path):
    frame = pd.DataFrame({"text": [f"Sentence number {number}." for number in range(40)],
                          "label": ["a\tb", "c"] * 20})
    frame.to_json(tmp_path/"a.jsonl", orient="records", lines=True)
    refused(cola("data", "a.jsonl", "--positive", "c", "--export", "ex"), "a tab or a line break")

@needs("onnxruntime")
def test_an_export_changes_no_judge(cola, copied):
    opened = Judge(copied)
    assert cola("export", copied, "--data", "demo", "--no-int8")[2] == 0
    assert opened.fingerprint == Judge(copied).fingerprint
    exported = Judge(copied, onnx="fp32")
    (copied/"onnx/model.onnx").write_bytes(b"")
    with pytest.raises(ColaError, match="has changed since it was opened"):
        str(exported.fingerprint)

@needs("optuna")
def test_two_searches_in_one_database(cola, tmp_path):
    options = ("--data", "demo", *TRAIN, "--trials", "1", "--out")
    assert cola("search", *options, "one")[2] == 0
    storage = f"sqlite:///{tmp_path}/one/search.db"
    assert cola("search", *options, "two", "--storage", storage)[2] == 0
    assert cola("search", *options, "one")[2] == 0

# Rows that are swallowed, columns that are guessed, signs for nothing

OPEN = "".join(f"{number % 2},He left {number} times.\n" for number in range(40))
OPEN = OPEN.replace("0,He left 10", '0,"He left 10').replace("31 times.", '31 times."')

@pytest.mark.parametrize("name, content", [
    ("a.csv", "label,sentence\n" + OPEN), ("a.csv", OPEN),
    ("a.csv", "sentence;label\n" + re.sub(r"(.),(\"?)(.*?)(\"?)\n", r"\2\3\4;\1\n", OPEN)),
    ("a.tsv", 'label\tsentence\n0\t"a\tb"\n' + OPEN.replace(",", "\t")),
    ("a.csv", "id,text,label\n" + "".join(f"{n},{line[2:]},{line[0]}\n" for n, line in
                                         enumerate(OPEN.splitlines())))])
def test_a_quote_swallows_no_rows(cola, model, tmp_path, name, content):
    (tmp_path/name).write_text(content)
    message = "is a quote opened and not closed?"
    for command in (("data", name), ("score", model, name, "b.jsonl")):
        error, code = cola(*command)[1:]
        assert code == 2 and (message in error or "quotes around a field" in error
                              or "; save it as CSV" in error), error

def test_a_line_break_in_a_field_is_text(cola, model, tmp_path):
    text = "He left,\nand she stayed.\n\nBoth, then.\nIt was May, 1999\n1. No, 2. Yes"
    (tmp_path/"a.csv").write_text(f'id,text\n1,"{text}"\n2,Go on.\n')
    assert cola("score", model, "a.csv", "b.csv")[2] == 0
    assert pd.read_csv(tmp_path/"b.csv").text[0] == text

@pytest.mark.parametrize("content", [
    "sentence\nThe cat sat.\n\"Well, go.\"\n",
    '"x"\n"1" "The cat sat."\n"2" "A dog ran."\n',
    '"1" "The cat sat." 1\n"2" "A dog ran." 0\n',
    "label,text\n1,The cat, which sat.\n0,A dog.\n",
    "id\ttext\tlabel\r\n1\tThe cat sat.\t1\r\n2\t\"A dog\nran.\"\t0\r\n3\tBirds fly.\t1\r\n",
    'id\ttext\n1\tThe cat.\n2\tA dog\ta cat.\n',
    " id | text\n----+----\n 1 | He left.\n",
    '[\n  {\n    "text": "The cat sat."\n  }\n]\n', '{\n "text": ["The cat sat."]\n}\n'])
def test_a_table_is_no_text_even_if_it_is_ragged(cola, model, tmp_path, monkeypatch, content):
    for encoding in ("utf-8", "utf-16"):
        (tmp_path/"a.txt").write_bytes(content.encode(encoding))
        error, code = cola("score", model, "a.txt", "b.csv")[1:]
        assert code == 2 and re.search("is (a table|JSON)", error), error
        with pytest.raises(ColaError, match="is (a table|JSON)"):
            unlabelled_sentences(tmp_path/"a.txt")
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode(encoding))))
            assert cola("score", model, "-", "b.csv")[2] == 2

def test_columns_that_are_only_numbered(cola, model, tmp_path):
    rows = ["แมวนั่งบนเสื่อ,The cat sits on it.,1", "สุนัขเห่าเสียงดัง,The dog barks loud.,0",
            "ฉันกินข้าว,I eat rice now.,1"]
    rows = [f"{number},{row}\n" for number, row in enumerate(rows)]
    (tmp_path/"a.csv").write_text(",0,1,2\n" + "".join(rows))
    refused(cola("score", model, "a.csv", "b.csv"), "choose with --column")
    refused(cola("data", "a.csv"), "no column is known to hold the sentences")
    (tmp_path/"a.csv").write_text(",0,1\n" + "".join(
        f"{n},He left {n} times.,{n % 2}\n" for n in range(20)))
    said = cola("score", model, "a.csv", "b.csv")[1]
    assert said.splitlines()[-1] == "taken: no header; column 2 → sentence"

def test_quotes_in_four_columns_are_told_of(cola, tmp_path):
    rows = [(1, "Go home."), (0, "He go home."), (1, "She goes."), (0, "She go.")]
    (tmp_path/"a.tsv").write_text("".join(f'gj04\t{n}\t\t"{text}"\n' for n, text in rows))
    refused(cola("data", "a.tsv"), "quotes stand around its fields")
    (tmp_path/"a.tsv").write_text("".join(
        f'gj04\t{n}\t\t{text}\n' for n, text in [(1, '"Well, go home."'), *rows] * 3))
    assert "taken: CoLA's four columns; quotes around fields\n" in cola("data", "a.tsv")[0]
    (tmp_path/"a.tsv").write_text("".join(
        f"a{n}\t{1 - n}\t{n}\tThe cat {text}\n" for n, text in rows * 3))
    refused(cola("data", "a.tsv"), "no column is known to hold the labels")

def test_every_split_says_what_was_taken(cola, tmp_path):
    rows = [(1, "Well, go home."), (0, "He go home."), (1, "She goes."), (0, "She go.")] * 3
    pd.DataFrame(rows, columns=["label", "sentence"]).to_csv(tmp_path/"train.csv", index=False)
    dev = [f"{n}\t{text}\n" for n, text in [(1, '"Well, go home."'), *rows[1:4]]]
    (tmp_path/"dev.tsv").write_text("label\tsentence\n" + "".join(dev))
    out, error, _ = cola("data", ".")
    assert not error, error
    assert "taken: sentence → sentence, label → label;" in out
    assert "\ndev: quotes around fields; sentence → sentence, label → label;" in out

def test_text_in_a_column_without_a_name_is_not_lost(cola, model, tmp_path):
    rows = 'ham,Go until jurong point,,,\nspam,"Usher, PO Box"," MK17 92H",,\nham,Hi there,,,\n'
    (tmp_path/"a.csv").write_text("v1,v2,,,\n" + rows)
    refused(cola("data", "a.csv"), "line 3: there is text in a column without a name")
    (tmp_path/"a.csv").write_text("text,label,\nGo on,0,\nHello Louis,1,I am on my way\n")
    for command in (("data", "a.csv"), ("score", model, "a.csv", "b.csv")):
        refused(cola(*command), "line 3: there is text in a column without a name")

@pytest.mark.parametrize("name, content, message", [
    ("a.csv", "text,label\n" + "'The cat sat.',1\n'The the sat.',0\n" * 3, "quotes stand around"),
    ("a.tsv", "text\tlabel\n" + "'The cat sat.'\t1\n'The the sat.'\t0\n" * 3, "quotes stand"),
    ("a.csv", b"text,label\n\x1b$B$3$l$OK\x1b(B,1\n", "ISO-2022-JP"),
    ("a.csv", "good,bad\nThe cat sits.,3\nThe dog sits.,2\n", "no column is known")])
def test_other_ways_of_writing_are_refused(cola, model, tmp_path, name, content, message):
    (tmp_path/name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (("data", name), ("pairs", model, name)): refused(cola(*command), message)

def test_backslashes_are_told_of(cola, tmp_path):
    (tmp_path/"a.tsv").write_text('sentence\tlabel\nHe said \\"hi\\" to me.\t1\nThe the.\t0\n'
                                  + "He left here.\t1\nHim left here.\t0\n" * 6)
    assert "taken: backslashes are text; sentence → sentence" in cola("data", "a.tsv")[0]

def test_a_table_of_pairs_keeps_its_splits(tmp_path):
    rows = [(f"He left {n}.", f"Him left {n}.", ("train", "dev")[n > 7]) for n in range(10)]
    pd.DataFrame(rows, columns=["good", "bad", "split"]).to_csv(tmp_path/"a.csv", index=False)
    splits = load_corpus(tmp_path/"a.csv").splits
    assert {name: len(frame) for name, frame in splits.items()} == {"train": 16, "dev": 4}
    assert splits["dev"].sentence.tolist() == ["He left 8.", "Him left 8.", "He left 9.",
                                               "Him left 9."]

def test_glue_takes_no_table_of_another_kind(cola, model, tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"index": [0, 1], "sentence": ["He left.", "Him left."]})
    table.to_parquet("test.parquet")
    out, error, code = cola("glue", model, "test.parquet")
    assert code == 0 and "written: CoLA.tsv" in out, error

# What others put beside, and what is exchanged while a command works

def rewrite(path):
    "The same number of bytes, in place, but for the last one"
    content = path.read_bytes()
    time.sleep(.01)
    with open(path, "r+b") as file: file.write(content[:-1] + bytes([content[-1] ^ 1]))

def test_what_lies_in_an_unfinished_run_is_not_removed(cola, tmp_path):
    work = tmp_path/"run.unfinished"
    (work/"checkpoints").mkdir(parents=True)
    (work/".cola-run").touch()
    for name in ("notes.txt", "checkpoints/notes.txt"):
        (work/name).write_text("mine")
        for option in ("--resume", "--overwrite"):
            with unchanged(work):
                refused(cola("train", *TRAIN, "--max-length", 99, "--out", "run", option),
                        f"it also holds {name}")
        (work/name).unlink()
    (work/".checkpoints.cola.lock").write_text("1")  # left by a process that was killed
    (work/".checkpoints.cola.pid").write_text("1")
    assert cola("train", *TRAIN, "--out", "run", "--overwrite")[2] == 0

def test_a_finished_training_is_not_removed(tmp_path, monkeypatch):
    real = prediction.write_results
    def writes(run, corpus, work, progress):
        shutil.rmtree(work/"checkpoints")  # there was no room for them
        (tmp_path/"run").mkdir()
        (tmp_path/"run/x").write_text("mine")
        return real(run, corpus, work, progress)
    monkeypatch.setattr(prediction, "write_results", writes)
    with pytest.raises(ColaError, match="the finished run is in"):
        fine_tune(small(), TINY, tmp_path/"run", progress=False)
    assert Judge(tmp_path/"run.unfinished/model").predict(["He left."]).shape == (1,)

def test_a_model_that_is_changed_while_it_judges(cola, copied, tmp_path, monkeypatch):
    (tmp_path/"a.txt").write_text("He left.\n")
    real = Judge.predict_probability
    def predict(self, *arguments, **options):
        found = real(self, *arguments, **options)
        rewrite(copied/"model.safetensors")
        return found
    monkeypatch.setattr(Judge, "predict_probability", predict)
    refused(cola("score", copied, "a.txt", "b.csv"), "has changed since it was opened")
    assert not (tmp_path/"b.csv").exists()

def test_a_base_model_that_is_changed_while_it_is_loaded(copied, tmp_path, monkeypatch):
    from cola_nbdev import experiments, training
    real = training.load_model
    def loads(*arguments):
        rewrite(copied/"model.safetensors")
        return real(*arguments)
    config = dataclasses.replace(TINY, model=str(copied))
    with monkeypatch.context() as patch, pytest.raises(ColaError, match="was changed while it was"):
        patch.setattr(training, "load_model", loads)
        train(small().train, config, progress=False)
    trains = experiments.fine_tune
    def then_changes(*arguments, **options):
        report = trains(*arguments, **options)
        rewrite(copied/"model.safetensors")
        return report
    monkeypatch.setattr(experiments, "fine_tune", then_changes)
    with pytest.raises(ColaError, match="was changed between two seeds; remove .*seed-2"):
        run_seeds(small(), config, [1, 2, 3], tmp_path/"seeds", False)
    assert not (tmp_path/"seeds/summary.json").exists()

@needs("optuna")
def test_a_base_model_that_is_changed_while_it_is_searched(copied, tmp_path, monkeypatch):
    from cola_nbdev import search
    trains = search._train_trial
    def then_changes(*arguments):
        score = trains(*arguments)
        rewrite(copied/"model.safetensors")
        return score
    monkeypatch.setattr(search, "_train_trial", then_changes)
    config = dataclasses.replace(TINY, model=str(copied))
    found = search.search(small(), config, 3, tmp_path/"search", ["weight_decay"], progress=False)
    states = [trial.state.name for trial in found.study.get_trials()]
    assert states == ["COMPLETE", "PRUNED", "PRUNED"]
    assert "holds another search: base" in found.study.get_trials()[1].user_attrs["error"]

@needs("onnxruntime")
def test_a_model_that_is_changed_while_it_is_exported(cola, copied, monkeypatch):
    pytest.importorskip("onnxscript")
    real = export._write_fp32
    def writes(*arguments):
        real(*arguments)
        rewrite(copied/"model.safetensors")
    monkeypatch.setattr(export, "_write_fp32", writes)
    refused(cola("export", copied, "--no-int8"), "has changed since it was opened")
    assert not (copied/"onnx/model.onnx").exists()

def test_a_run_that_is_exchanged_while_it_is_evaluated(cola, finished, tmp_path, monkeypatch):
    from cola_nbdev import comparison
    run, real = shutil.copytree(finished, tmp_path/"run"), comparison.metrics_of
    def reads(folder):
        run.rename(tmp_path/"gone")
        shutil.copytree(finished, run)
        return real(folder)
    small().export(tmp_path/"c")
    monkeypatch.setattr(comparison, "metrics_of", reads)
    refused(cola("evaluate", run, "--data", "c", "--out", "ev"), "has changed since it was opened")
    assert not (tmp_path/"ev").exists()

def test_what_appears_while_a_file_is_made_stays(cola, model, tmp_path, monkeypatch):
    from cola_nbdev.basics import write_atomic
    (tmp_path/"mine").write_text("mine")
    (tmp_path/"link").symlink_to("nowhere")
    for name in ("mine", "link"):
        with unchanged(tmp_path), pytest.raises(FileExistsError):
            write_atomic(tmp_path/name, "other", fresh=True)
    (tmp_path/"test.tsv").write_text("index\tsentence\n0\tHe left.\n")
    real = Judge.predict
    def predict(*arguments):
        (tmp_path/"CoLA.tsv").write_text("mine")
        return real(*arguments)
    monkeypatch.setattr(Judge, "predict", predict)
    refused(cola("glue", model, "test.tsv"), "CoLA.tsv: file exists")
    assert (tmp_path/"CoLA.tsv").read_text() == "mine"

def test_two_exports_of_a_corpus_at_once(tmp_path, monkeypatch):
    from cola_nbdev import data
    one, real = small(), data.read_rows
    def reads(*arguments):
        if not (tmp_path/"c").exists():
            (tmp_path/"c").mkdir()
            (tmp_path/"c/in_domain_train.tsv").write_text("mine")
        return real(*arguments)
    monkeypatch.setattr(data, "read_rows", reads)
    with pytest.raises(FileExistsError): one.export(tmp_path/"c")
    assert (tmp_path/"c/in_domain_train.tsv").read_text() == "mine"

def test_a_file_of_a_tokenizer_counts(copied):
    (copied/"bpe.codes").write_text("a b 1\n")
    before = Judge(copied).fingerprint
    (copied/"bpe.codes").write_text("a b 2\n")
    assert Judge(copied).fingerprint != before

def test_a_folder_of_notes_is_not_ours_for_its_name(cola, model, tmp_path):
    (tmp_path/"in").mkdir()
    (tmp_path/"in/a.txt").write_text("He left.\n")
    mine = tmp_path/"out/_cola/shards/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    score = ("score", model, "in", "out", "--engine", "process")
    for more in ((), ("--overwrite",)):
        with unchanged(tmp_path/"out"): refused(cola(*score, *more), "was not made by this command")
    mine.unlink()
    assert cola(*score)[2] == 0
    for name in ("notes.txt", "deep/a"):
        mine = tmp_path/"out/_cola/shards"/name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
    assert cola(*score, "--overwrite")[2] == 0
    assert {"notes.txt", "deep", "a.txt.json"} == {
        path.name for path in (tmp_path/"out/_cola/shards").iterdir()}

@pytest.mark.parametrize("name", ["service-account.json", ".credentials.json", "other.safetensors",
                                  "notes.jinja", ".x.01234567.new", "onnx/keys.json"])
def test_what_is_no_part_of_a_model_is_not_published(cola, copied, name):
    (copied/name).parent.mkdir(exist_ok=True)
    (copied/name).write_text("{}")
    (copied/"README.md").write_text("A card.")
    refused(cola("push", copied, "me/judge"), f"{name} does not belong to a model")

@pytest.mark.parametrize(("id2label", "label2id"), [
    (None, {"acceptable": 0, "unacceptable": 1}), (None, {"LABEL_0": 1, "LABEL_1": 0}),
    ({0: "LABEL_0", 1: "LABEL_1"}, {"acceptable": 0, "unacceptable": 1}),
    ({0: "unacceptable", 1: "acceptable"}, {"Acceptable": 0, "Unacceptable": 1})])
def test_labels_that_contradict_each_other(cola, copied, id2label, label2id):
    changed(copied/"config.json", id2label=id2label, label2id=label2id)
    refused(cola("predict", copied, "He left."), "id2label and label2id of config.json don't fit")

@pytest.mark.parametrize("label2id", [{"LABEL_0": 0, "LABEL_1": 1}, {}, {"Acceptable": 1,
                                      "Unacceptable": 0}, None])
def test_labels_that_do_not_contradict_each_other(cola, copied, label2id):
    changed(copied/"config.json", label2id=label2id)
    assert cola("predict", copied, "He left.")[2] == 0

def test_a_regression_is_no_verdict(cola, copied):
    changed(copied/"config.json", problem_type="regression")
    refused(cola("predict", copied, "He left."), "is for regression")

def test_a_command_that_is_printed_can_be_pasted():
    from cola_nbdev.comparison import seeds_command
    run = pd.DataFrame()
    run.attrs |= {"config": {"model": "tiny; touch x", "epochs": 1}, "corpus": "demo `touch y`"}
    said = shlex.split(seeds_command(run, "out; touch z"))
    assert said == ["cola", "seeds", "--data", "demo `touch y`", "--model", "tiny; touch x",
                    "--epochs", "1", "--out", "out; touch z"]

def test_the_bar_shows_no_escapes_of_a_column():
    from cola_nbdev.scoring import survey
    file = io.BytesIO(b'{"te\\u001b[1mxt": "He left."}\n')
    assert survey(file, ("jsonl", "jsonl")).taken == "te\\u001b[1mxt → sentence"
