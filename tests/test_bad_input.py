"""What a user can get wrong is answered with one line and exit code 2, and nothing is touched."""
import functools
import http.server
import os
import subprocess
import sys
import threading
import zipfile

import pytest

from cola_nbdev import cli, data

GOOD = "ad03\t1\t\tHe left.\nad03\t0\t*\tHim left.\n"

def refused(outcome, message):
    _, error, code = outcome
    lines = error.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("cola: "), error
    assert message in lines[0], lines[0]

@pytest.mark.parametrize("content, message", [
    (GOOD + "ad03\t0\tHim left.\n",
     "line 3: 3 fields where CoLA has 4 (source, label, note, sentence); is a tab missing?"),
    (GOOD + "Him left.\n", "file.tsv line 3: 1 field where CoLA has 4"),
    (GOOD + "ad03\t0\t*\tHim\tleft.\n", "file.tsv line 3: 5 fields where CoLA has 4"),
    (GOOD + "ad03\t2\t*\tHim left.\n",
     "file.tsv line 3: label '2' is neither 0 nor 1"),
    (GOOD + "ad03\t\t*\tHim left.\n", "file.tsv line 3: the label is missing"),
    (GOOD + "ad03\t0\t*\t\n", "file.tsv line 3: the sentence is empty"),
    (GOOD.encode() + b"ad03\t0\t*\tHi\0m left.\n", "file.tsv line 3: a NUL byte"),
    (GOOD.encode() + b"ad03\t0\t*\tcaf\xe9\n", "file.tsv line 3: byte 0xe9 is not UTF-8"),
    (GOOD.encode("utf-16-le"), "a NUL byte; is this a text file in UTF-8?"),
    ("", "file.tsv is empty"),
    ("\n\n", "file.tsv is empty"),
    ("ad03\t1\t\tHe left.\n" * 5, "file.tsv: one class only, all 5 labels are 1"),
])
def test_a_broken_tsv_is_refused_with_its_line(cola, tmp_path, content, message):
    (tmp_path/"file.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(cola("data", "file.tsv"), message)
    refused(cola("train", "--data", "file.tsv", "--model", "tiny", "--out", "run"), message)
    assert not (tmp_path/"run").exists()

@pytest.mark.parametrize("content, message", [
    ("sentence,label\nHe left.,1\n\"Him left.,0\n",
     "file.csv line 3: unexpected end of data; is a quote opened and not closed?"),
    ("sentence,label\nHe left,again.,1\n", "file.csv line 2: 3 fields where the header has 2"),
    ("words,score\nHe left.,.1\nShe left.,.3\n",
     "file.csv: no column is known to hold the sentences; it has 'words', 'score': say which"),
    ("sentence,label\n", "file.csv holds no sentences"),
    ("sentence,sentence,label\nHe left.,He left.,1\n",
     "file.csv: two columns are called 'sentence'; rename one"),
    ("sentence,label\nHe left.,1\n\"A sentence\nof two lines.\",yes\n",
     "file.csv line 3: label 'yes' is neither 0 nor 1"),
])
def test_a_broken_csv_is_refused_with_its_line(cola, tmp_path, content, message):
    (tmp_path/"file.csv").write_text(content)
    refused(cola("data", "file.csv"), message)

def test_odd_sentences_are_kept_as_text(tmp_path):
    sentences = ["NA", "None", "null", "nan", '"unbalanced', "it's \"fine\"", "1", "=SUM(A1)",
                 "naïve 😀", "a\u2028b", "#"]
    rows = "".join(f"s\t{number % 2}\t\t{sentence}\n"
                   for number, sentence in enumerate(sentences))
    (tmp_path/"plain.tsv").write_text(rows, encoding="utf-8")
    (tmp_path/"windows.tsv").write_bytes(b"\xef\xbb\xbf" + rows.replace("\n", "\r\n").encode())
    (tmp_path/"no_last_line_end.tsv").write_text(rows.rstrip("\n"), encoding="utf-8")
    for name in ("plain", "windows", "no_last_line_end"):
        read = data.read_cola_tsv(tmp_path/f"{name}.tsv")
        assert read.sentence.tolist() == sentences
        assert read.sentence_source.tolist() == ["s"] * len(sentences)

@pytest.mark.parametrize("arguments, message", [
    (["data", "nowhere.tsv"],
     "there is no corpus 'nowhere.tsv'; say demo, demo-pt, cola, or the path"),
    (["data", "."], "holds no corpus; expected in_domain_train.tsv"),
    (["train", "--out", "run", "--model", "no/such-model"],
     "cannot load the model 'no/such-model': use minilm, mpnet, bert, tiny, a Hub id, or a"),
    (["train", "--out", "run", "--learning-rate", "0"], "learning_rate is 0.0; it must be above 0"),
    (["train", "--out", "run", "--learning-rate", "nan"],
     "learning_rate is nan; it must be above 0"),
    (["train", "--out", "run", "--batch-size", "0"], "batch_size is 0; it must be at least 1"),
    (["train", "--out", "run", "--validation-fraction", "1.5"],
     "validation_fraction is 1.5; it must be 0 or more and below 1"),
    (["train", "--out", "run", "--model", "tiny", "--learning-rate", "1e30"],
     "the loss became nan at step"),
    (["train", "--out", "run", "--model", "tiny", "--max-length", "100"],
     "max_length is 100; tiny has only 64 positions"),
    (["predict", "nowhere", "He left."], "cannot load the model 'nowhere'"),
    (["predict", "minilm", "He left."], "minilm has no trained head"),
    (["predict", "minilm"], "no sentence to judge"),
    (["evaluate", "nowhere", "--data", "demo"], "cannot load the model 'nowhere'"),
])
def test_a_wrong_argument_is_refused(cola, tmp_path, arguments, message):
    refused(cola(*arguments), message)
    assert list(tmp_path.iterdir()) == [], "something was left behind"

def test_a_file_that_may_not_be_read_or_a_folder_that_may_not_be_written(cola, tmp_path):
    (tmp_path/"file").write_text("not a folder")
    refused(cola("train", "--model", "tiny", "--out", "file/run"), "file/run cannot be written")
    refused(cola("train", "--model", "tiny", "--out", "file"), "file exists already")

def test_odd_outputs(cola, tmp_path):
    def train(out): return cola("train", "--model", "tiny", "--out", out)
    refused(train("."), ". is the folder you are in; choose a folder of its own")
    refused(train("/"), "/ cannot hold a run; choose a folder of its own")
    (tmp_path/"link").symlink_to("nowhere")
    refused(train("link"), "link is a link; choose a folder of its own")
    refused(cola("data", "x" * 300), "file name too long")
    (tmp_path/"file").write_text("")
    refused(cola("data", "demo", "--export", "file/below"), "file/below: not a directory")

def test_a_damaged_model_folder(cola, tmp_path):
    assert cola("train", "--model", "tiny", "--epochs", "1", "--out", "run")[2] == 0
    weights, tokenizer = tmp_path/"run/model/model.safetensors", tmp_path/"run/model/tokenizer.json"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    refused(cola("predict", "run", "He left."), "cannot load the model")
    weights.write_bytes(content)
    tokenizer.unlink()
    refused(cola("predict", "run", "He left."), "has no tokenizer")

def test_what_existed_is_not_touched(cola, tmp_path):
    (tmp_path/"run").mkdir()
    (tmp_path/"run/thesis.txt").write_text("three years of work")
    train = ("train", "--model", "tiny", "--out", "run")
    refused(cola(*train),
            "run exists already; choose another --out, or add --overwrite to replace it")
    refused(cola(*train, "--overwrite"),
            "is not the folder of a run (it has no metrics.json) and will not be overwritten")
    assert (tmp_path/"run/thesis.txt").read_text() == "three years of work"
    assert cola("data", "demo", "--export", "files")[2] == 0
    before = (tmp_path/"files/in_domain_train.tsv").read_bytes()
    refused(cola("data", "demo", "--export", "files"),
            "exists already; choose another folder or remove it")
    assert (tmp_path/"files/in_domain_train.tsv").read_bytes() == before

def test_too_few_sentences(cola, tmp_path):
    (tmp_path/"two.tsv").write_text(GOOD)
    refused(cola("train", "--data", "two.tsv", "--model", "tiny", "--out", "run"),
            "2 sentences (1 with label 0 and 1 with label 1) are too few to hold out 20% of them")

# The download, from a server on this machine

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments): pass

@pytest.fixture
def server(tmp_path, monkeypatch):
    "A folder served over HTTP, and an empty cache; `serve(name)` gives CoLA's address to a file"
    folder = tmp_path/"served"
    folder.mkdir()
    monkeypatch.delenv("COLA_NBDEV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    handler = functools.partial(Quiet, directory=folder)
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    fetch = data.fetch_cola
    def serve(name):
        url = f"http://127.0.0.1:{site.server_port}/{name}"
        monkeypatch.setattr(data, "fetch_cola", lambda to: fetch(to, url))
    yield folder, serve
    site.shutdown()
    site.server_close()

def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items(): archive.writestr(name, content)

RAW = [f"cola_public/raw/{name}" for name, _ in data.COLA_FILES.values()]

@pytest.mark.parametrize("name, message", [
    ("missing.zip", "cannot download CoLA from"),
    ("page.zip", "damaged or not the zip file"),
    ("cut.zip", "damaged or not the zip file"),
    ("changed.zip", "wrong checksum"),
    ("other.zip", "damaged or not the zip file of CoLA"),
    ("outside.zip", "damaged or not the zip file of CoLA"),
    ("bomb.zip", "wrong checksum"),
])
def test_a_download_that_is_not_cola_leaves_nothing(cola, tmp_path, server, name, message):
    folder, serve = server
    (folder/"page.zip").write_text("<html>Please log in</html>")
    zip_of(folder/"changed.zip", dict.fromkeys(RAW, GOOD))
    (folder/"cut.zip").write_bytes((folder/"changed.zip").read_bytes()[:-40])
    zip_of(folder/"other.zip", {"readme.txt": "something else"})
    zip_of(folder/"outside.zip", {"../../escaped.tsv": GOOD, "/escaped.tsv": GOOD})
    zip_of(folder/"bomb.zip", dict.fromkeys(RAW, b"\0" * 50_000_000))
    serve(name)
    refused(cola("data", "cola"), message)
    assert not list(tmp_path.rglob("*.tsv")), "nothing may be written before everything is verified"

def test_without_network_the_message_says_what_to_do(cola, server, monkeypatch):
    _, serve = server
    nobody = functools.partial(data.fetch_cola, url="http://127.0.0.1:9/cola.zip")
    monkeypatch.setattr(data, "fetch_cola", nobody)
    refused(cola("data", "cola"),
            "where there is no network, unpack the zip file by hand and set COLA_NBDEV_DATA to its "
            "folder, or use the demo corpus")

def test_a_folder_with_changed_files_is_refused(cola, tmp_path, monkeypatch):
    monkeypatch.setenv("COLA_NBDEV_DATA", str(tmp_path))
    refused(cola("data", "cola"), "there is no in_domain_train.tsv in")
    for name, _ in data.COLA_FILES.values(): (tmp_path/name).write_text(GOOD)
    refused(cola("data", "cola"), "wrong checksum")

def test_a_real_process_prints_no_traceback(tmp_path):
    (tmp_path/"file.tsv").write_text("one field\n")
    command = [sys.executable, "-c", "from cola_nbdev.cli import main; main()", "data", "file.tsv"]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(cli.__file__))}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 2
    assert done.stderr == ("cola: file.tsv line 1: names of columns, or a row? It says "
                           "'one field'; write the names above it, for example sentence and "
                           "label, or choose one (--column, --text)\n")
    assert done.stdout == ""
