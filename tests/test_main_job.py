"""The main job, done for real: a pretrained BERT learns acceptability, and anybody can use it."""
import functools
import http.server
import json
import re
import threading

import pandas as pd
import pytest
import torch
from sklearn.metrics import matthews_corrcoef
from transformers import pipeline

from cola_nbdev import cli, data, tokenization
from cola_nbdev.basics import LABELS, ColaError
from cola_nbdev.evaluation import read_predictions
from cola_nbdev.prediction import Judge
from cola_nbdev.settings import Config
from cola_nbdev.training import train

pytestmark = [pytest.mark.xdist_group("main_job"), pytest.mark.long]  # one worker trains, once

@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "The folder that `cola train` makes with its defaults"
    folder = tmp_path_factory.mktemp("runs")/"demo"
    cli.main(["train", "--data", "demo", "--model", "minilm", "--out", str(folder)])
    return folder

@pytest.fixture(scope="module")
def predictions(run): return read_predictions(run/"predictions.csv")

@pytest.fixture(scope="module")
def metrics(run): return json.loads((run/"metrics.json").read_text())

def test_minilm_learns_the_demo_corpus(metrics):
    splits = metrics["splits"]
    assert .60 < splits["in_domain_dev"]["mcc"] < .98
    assert splits["out_of_domain_dev"]["mcc"] < splits["in_domain_dev"]["mcc"]
    for scores in splits.values(): assert scores["mcc_low"] <= scores["mcc"] <= scores["mcc_high"]

def test_the_folder_holds_what_it_promises(run, metrics):
    assert {path.name for path in run.iterdir()} >= {
        "model", "metrics.json", "history.csv", "predictions.csv", "report.html",
        "history.png", "mcc.png", "confusion.png", "batch_mcc.png"}
    assert metrics["fingerprint"] == data.load_corpus("demo").fingerprint
    assert metrics["config"]["seed"] == 42 and metrics["model"] == "minilm"
    assert metrics["versions"]["torch"] and metrics["seconds"] > 0
    history = pd.read_csv(run/"history.csv")
    assert len(history) == 4 and history.validation_mcc.idxmax() + 1 == metrics["best_epoch"]
    assert [path.name for path in run.parent.iterdir()] == ["demo"], "a staging folder was left"

def test_the_scores_are_those_of_the_predictions(predictions, metrics):
    for split, part in predictions.groupby("split"):
        scores = metrics["splits"][split]
        assert scores["n"] == len(part)
        assert scores["mcc"] == pytest.approx(matthews_corrcoef(part.label, part.predicted))

def test_the_saved_model_judges_as_the_trained_one(run, predictions):
    judged = Judge(run/"model")(*predictions.sentence)
    assert judged.probability.tolist() == pytest.approx(predictions.probability.tolist(), abs=1e-6)

def test_bare_transformers_opens_the_folder(run, predictions):
    first = predictions[:20]
    answers = pipeline("text-classification", str(run/"model"))(list(first.sentence))
    assert [answer["label"] for answer in answers] == first.predicted.map(LABELS).tolist()
    assert not list((run/"model").glob("*.bin")), "safetensors only"

def test_the_report_needs_no_other_file(run):
    page = (run/"report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page) and "MCC" in page

def test_changed_weights_of_minilm_are_refused(run, monkeypatch):
    tokenization.find_minilm.cache_clear()
    assert tokenization.find_minilm()  # training did not change them
    tokenization.find_minilm.cache_clear()
    monkeypatch.setattr(tokenization, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ColaError, match="the weights of minilm are damaged"):
        tokenization.load_tokenizer("minilm")

def test_the_seed_decides_everything():
    sentences, config = data.load_corpus("demo").train[:100], Config(model="tiny", epochs=1)
    weights = []
    for before in (1, 2):  # whatever was drawn before
        torch.manual_seed(before)
        model = train(sentences, config, progress=False).model
        weights.append(torch.cat([values.flatten() for values in model.parameters()]))
    assert torch.equal(*weights)

# The real corpus

def test_cola_is_what_its_authors_say(needs_cola):
    cola = data.load_corpus("cola")
    assert {split: len(frame) for split, frame in cola.splits.items()} == {
        "train": 8551, "in_domain_dev": 527, "out_of_domain_dev": 516}
    assert cola.train.sentence.nunique() == 8532
    assert cola.train.sentence_source.nunique() == 17
    assert cola.dev["out_of_domain_dev"].sentence_source.nunique() == 6
    assert cola.together == "glue_dev"

def test_cola_survives_export(needs_cola, tmp_path):
    cola = data.load_corpus("cola")
    cola.export(tmp_path/"files")
    assert data.load_corpus(tmp_path/"files").fingerprint == cola.fingerprint

def test_cola_is_downloaded_once(needs_cola, tmp_path, monkeypatch):
    archive = needs_cola.parent/"cola_public_1.1.zip"
    if not archive.exists(): pytest.skip(f"needs cola_public_1.1.zip beside {needs_cola.name}")
    monkeypatch.delenv("COLA_NBDEV_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=archive.parent)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    monkeypatch.setattr(data, "fetch_cola", functools.partial(data.fetch_cola, url=url))
    first = data.load_corpus("cola")
    server.shutdown()
    server.server_close()
    assert data.load_corpus("cola").fingerprint == first.fingerprint
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "in_domain_dev.tsv", "in_domain_train.tsv", "out_of_domain_dev.tsv"]
