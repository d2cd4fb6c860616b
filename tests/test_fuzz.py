"""Attacks that are made up: model folders, records, corpora, tables to score, addresses.

Whatever comes in: a result, or one line; no traceback, no waiting, no gigabytes, and nothing
outside the output is touched. `make test` tries some hundred cases, `make faults` 20,000.
"""
import contextlib
import io
import json
import os
import re
import resource
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_attacks import TINY, Constant, small, unchanged, within

from cola_nbdev import cli, engine
from cola_nbdev.basics import ColaError, explain, without_password
from cola_nbdev.checkpoints import write_manifest
from cola_nbdev.comparison import load_predictions
from cola_nbdev.experiments import same_recipe
from cola_nbdev.prediction import Judge, fine_tune
from cola_nbdev.scoring import read_rows, score_file, work_folder
from cola_nbdev.training import train

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.usefixtures("counted")]

def cases(short, long):
    "How many to make up; the same ones every time in `make test`"
    def decorate(test):
        return settings(max_examples=long if LONG else short, deadline=None, derandomize=not LONG,
                        database=None, suppress_health_check=list(HealthCheck))(test)
    return decorate

def one_line(error):
    said = str(error)
    assert said.strip() and "\n" not in said and len(said) < 1_200 and said.isprintable(), said

# What is made up

ODD = ["", "../victim/letter.txt", "/etc/passwd", "bert", "gpt2", "[PAD]", "\ud800", "\x1b[31m",
       "x" * 500, "1e400", "NaN", "\u202e", "\r", "\u200b", "$a$ $\\frac$", "<img src=x>"]
number = st.one_of(st.sampled_from([-1, 0, 1, 2, 31, 10**7, 3 * 10**7, 2**31, 10**12, 2**70]),
                   st.integers(-5, 70), st.floats())
text = st.one_of(st.sampled_from(ODD), st.text(max_size=12))
def nested(inner): return st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
value = st.recursive(st.one_of(st.none(), st.booleans(), number, text), nested, max_leaves=5)

@st.composite
def edited(draw, content):
    "A file with a mistake in it, or with something that was put there on purpose"
    how = draw(st.sampled_from(["value", "value", "value", "field", "drop", "bytes", "cut", "all"]))
    try: found = json.loads(content)
    except ValueError: how = draw(st.sampled_from(["bytes", "cut"]))
    if how not in ("bytes", "cut") and not (isinstance(found, (dict, list)) and found): how = "all"
    if how == "all": return json.dumps(draw(value)).encode()
    if how == "cut": return content[:draw(st.integers(0, len(content)))]
    if how == "bytes":
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 4)):]
    place, inside = found, found
    while isinstance(inside, (dict, list)) and inside:  # somewhere in it, rather at the top
        place, keys = inside, list(inside) if isinstance(inside, dict) else range(len(inside))
        key = draw(st.sampled_from(keys))
        inside = place[key]
        if draw(st.integers(0, 2)): break
    if how == "drop": del place[key]
    elif how == "field" and isinstance(place, dict): place[draw(text)] = draw(value)
    else: place[key] = draw(value)
    return json.dumps(found).encode()

@pytest.fixture(scope="module")
def world(model, tmp_path_factory):
    "What every case begins with: a model, a run, records, and what must not be touched"
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(model, folder/"model")
    (folder/"victim").mkdir()
    (folder/"victim"/"letter.txt").write_text("precious")
    fine_tune(small(), TINY, folder/"run", progress=False)
    same_recipe(small(), TINY, folder/"seeds")
    (folder/"in").mkdir()
    (folder/"in"/"a.csv").write_text("sentence\n" + "He left.\n" * 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Judge", lambda *_, **__: Constant())
        engine.score_folder("m", folder/"in", folder/"out", progress=False)
    (folder/"files").mkdir()
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, "replace", failing(os.replace, "b.csv"))
        rows(folder/"files")
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("cola_nbdev.training.finish", interrupted)
        train(small().train, TINY, folder/"kept", progress=False)
    return folder

def failing(function, name):
    def call(source, target, **options):
        if Path(target).name == name: raise KeyboardInterrupt
        return function(source, target, **options)
    return call

def interrupted(*_): raise KeyboardInterrupt

@pytest.fixture
def fresh(world, tmp_path):
    "Brings one folder of the world back to how it was, and gives its path"
    def bring(name):
        shutil.rmtree(tmp_path/name, ignore_errors=True)
        return Path(shutil.copytree(world/name, tmp_path/name))
    bring("victim")
    return bring

@contextlib.contextmanager
def bounded(seconds=60, memory=2**31):
    "No waiting, no gigabytes"
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, before[1]))
    try:
        with within(seconds): yield
    finally: resource.setrlimit(resource.RLIMIT_AS, before)

# Model folders

FILES = ["config.json", "config.json", "tokenizer_config.json", "tokenizer.json",
         "model.safetensors"]
NEW = ["model.safetensors.index.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
       "generation_config.json", "adapter_config.json", "chat_template.json", "tokenizer.model",
       "processor_config.json", "shard-00001-model-00001-of-00001.safetensors"]

@cases(40, 2_000)
@given(data=st.data())
def test_any_model_folder_judges_or_is_refused(fresh, data):
    folder = fresh("model")
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*FILES, *FILES, *NEW]))
        path = folder/name
        content = path.read_bytes() if path.exists() else b'{"weight_map": {}, "a": ["b"]}'
        path.write_bytes(data.draw(edited(content)))
    with unchanged(folder.parent), bounded():
        try: verdict = Judge(folder)("He left.").iloc[0]
        except ColaError as error: return one_line(error)
    assert 0 <= verdict.probability <= 1 and isinstance(verdict.label, str)

# Records, journals, what a run has written

def resumed(folder): fine_tune(small(), TINY, folder, resume=True, progress=False)
def compared(folder): load_predictions(folder)
def recipe(folder): same_recipe(small(), TINY, folder)
def shards(folder, **options):
    engine.score_folder("m", folder.parent/"in", folder, progress=False, **options)
def shards_again(folder): shards(folder, overwrite=True, chunk=5)
def rows(folder, **options):
    source = folder.parent/"in"/"a.csv"
    score_file(Constant(), source, folder/"b.csv", progress=False, chunk=10, **options)
def rows_again(folder): rows(folder, overwrite=True)
def checkpoint(folder): train(small().train, TINY, folder, resume=True, progress=False)

RECORDS = [("run", "metrics.json", resumed), ("run", "metrics.json", compared),
           ("run", "predictions.csv", compared), ("run", "predictions.csv", resumed),
           ("seeds", "recipe.json", recipe), ("out", "_cola/job.json", shards),
           ("out", "_cola/job.json", shards_again), ("out", "_cola/shards/a.csv.json", shards),
           ("out", "_cola/shards/a.csv.json", shards_again), ("out", "a.csv", shards),
           ("files", ".b.csv.unfinished/job.json", rows),
           ("files", ".b.csv.unfinished/0.scores", rows),
           ("files", ".b.csv.unfinished/job.json", rows_again),
           ("kept", "*/facts.json", checkpoint), ("kept", "*/manifest.json", checkpoint)]

@cases(60, 3_000)
@given(data=st.data())
def test_any_record_is_used_or_refused(fresh, data, monkeypatch):
    monkeypatch.setattr(engine, "Judge", lambda *_, **__: Constant())
    name, file, ask = data.draw(st.sampled_from(RECORDS))
    folder = fresh(name)
    beside = fresh("in"), folder.parent/"victim"
    path, = folder.glob(file)
    path.write_bytes(data.draw(edited(path.read_bytes())))
    if path.name == "facts.json": write_manifest(path.parent)
    with unchanged(*beside), bounded(), contextlib.redirect_stdout(io.StringIO()):
        try: ask(folder)
        except ColaError as error: return one_line(error)
    if name == "files": assert (folder/"b.csv").read_text().count(",0.75,1,False\n") == 30
    if name == "out": assert (folder/"a.csv").read_text().count(",0.75,1,False\n") == 30

# Corpora

CELLS = ["0", "1", "train", "dev", "*", "He left.", "sentence", "label", "split"]
cell = st.one_of(st.sampled_from(CELLS), text)
table = st.lists(st.lists(cell, min_size=1, max_size=5), max_size=8)

SEPARATOR = {"csv": ",", "tsv": "\t", "txt": "\t"}

def encoded(rows, separator):
    return "\n".join(map(separator.join, rows)).encode("utf-8", "surrogatepass")

@st.composite
def corpora(draw):
    "The name of a file and what is in it"
    kind = draw(st.sampled_from(["csv", "tsv", "jsonl", "json", "txt"]))
    if draw(st.booleans()):  # one that can be read, but for what is in it
        splits = ["train", "dev", draw(text)]
        rows = [{"sentence": draw(text) + f" {row}", "label": row % 2, draw(text): draw(value),
                 "split": draw(st.sampled_from(splits))} for row in range(draw(st.integers(2, 12)))]
        return "jsonl", "\n".join(map(json.dumps, rows)).encode()
    if kind in ("jsonl", "json"):
        return kind, "\n".join(map(json.dumps, draw(st.lists(value)))).encode()
    header, separator = draw(st.permutations(["sentence", "label", "split"])), SEPARATOR[kind]
    made = table.map(lambda rows: encoded([header, *rows], separator))
    return kind, draw(st.one_of(st.binary(max_size=200), made))

@cases(80, 4_000)
@given(made=corpora(), export=st.booleans())
def test_any_corpus_is_described_or_refused(fresh, made, export):
    victim = fresh("victim")
    for path in victim.parent.glob("corpus.*"): path.unlink()
    path = victim.parent/f"corpus.{made[0]}"
    path.write_bytes(made[1])
    shutil.rmtree(victim.parent/"out", ignore_errors=True)
    said, complained, code = io.StringIO(), io.StringIO(), 0
    command = ["data", str(path), "--audit"]
    if export: command += ["--export", str(victim.parent/"out")]
    with unchanged(victim), bounded(), contextlib.redirect_stdout(said), \
            contextlib.redirect_stderr(complained):
        try: cli.main(command)
        except SystemExit as stopped: code = stopped.code
    shown = said.getvalue() + complained.getvalue()
    assert code in (0, 2) and complained.getvalue().count("\n") == (code == 2), shown
    assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown), shown
    assert {path.name for path in victim.parent.iterdir()} <= {"victim", path.name, "out"}

# Tables to score

KINDS = ["csv", "tsv", "jsonl", "txt"]

@st.composite
def tables(draw):
    kind = draw(st.sampled_from(KINDS))
    if kind == "jsonl":
        row = st.dictionaries(st.sampled_from(["sentence", "a"]), value)
        return kind, "\n".join(map(json.dumps, draw(st.lists(st.one_of(value, row))))).encode()
    content = table.map(lambda rows: encoded([["id", "sentence"], *rows], SEPARATOR[kind]))
    return kind, draw(st.one_of(st.binary(max_size=200), content))

def check_lines(out, count): assert out.read_text(encoding="utf-8").count("\n") == count

@cases(120, 5_000)
@given(made=tables(), kind=st.sampled_from(KINDS))
@example(("jsonl", b'{"sentence": "a", "n": 0.12345678901234567890}'), "csv")
@example(("jsonl", b'{"sentence": "\\u0000"}'), "csv")
@example(("jsonl", b'{"sentence": "a", "b": "\\u0000"}'), "txt")
@example(("jsonl", b'{"sentence": "a\\rb", "n": 1e999999999999999999999}'), "csv")
def test_any_table_is_scored_or_refused(fresh, made, kind):
    victim = fresh("victim")
    source, out = victim.parent/f"in.{made[0]}", victim.parent/f"scored.{kind}"
    source.write_bytes(made[1])
    out.unlink(missing_ok=True)
    with unchanged(victim), bounded():
        try: done = score_file(Constant(), source, out, progress=False)
        except ColaError as error:
            assert not out.exists()
            return one_line(error)
    assert source.read_bytes() == made[1] and not work_folder(out).exists()
    if kind == "txt": return check_lines(out, done["rows"])
    try:
        with open(out, "rb") as file: found = list(read_rows(file, kind, "out")[1])
    except ColaError as error:  # it is right, but could also be what others write wrongly
        assert re.search("quotes stand|row begins inside|without a name", str(error))
        return
    assert len(found) == done["rows"]
    if kind == "jsonl":
        assert all(row["predicted"] in (1, None) for _, row in found)
        if made[0] == "jsonl" and made[1][:1] != b"[":  # it is written as it was, to the last digit
            before = [line.strip() for line in made[1].decode().splitlines() if line.strip()]
            after = out.read_text(encoding="utf-8").splitlines()
            pairs = zip(before, after, strict=True)
            assert all(new.startswith(old[:-1].rstrip()) for old, new in pairs)

# Addresses

word = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=5, max_size=12)
between = st.sampled_from(["", "@", "/", ":", "#", "?", "&", "=", "%40", "+", "@/", "?@"])
secret = st.builds("{}{}{}".format, word, between, word)
scheme = st.sampled_from(["s3", "gs", "ftp", "sftp", "https", "postgresql", "mysql+pymysql"])

@cases(150, 6_000)
@given(scheme=scheme, user=word, secret=secret, host=word, path=word, query=st.booleans())
def test_no_secret_of_an_address_is_shown(scheme, user, secret, host, path, query):
    address = f"{scheme}://{user}:{secret}@{host}/{path}"
    if query: address = f"{scheme}://{host}/{path}?signature={secret}"
    parts = [part for part in re.split(r"[@/:#?&=+]|%40", secret)
             if part and part not in f"{scheme} {user} {host} {path} {address.split(':')[0]}"]
    said = [without_password(address), str(ColaError(f"{address} cannot be opened")),
            explain(ValueError(f"cannot open {address!r}"), address),
            explain(ValueError(f"invalid literal for int(): {secret[3:]!r} {secret!r}"), address)]
    try: engine.Folder(f"nowhere{address[len(scheme):]}").files()
    except ColaError as error: said.append(str(error))
    for each in said:
        assert not any(part in each for part in parts), each
    if "?" not in address and "#" not in address: assert host in said[0]
