"""For whatever comes in: success, or one of the package's own errors. Hypothesis makes up the input; `make faults` tries many more than `make test`."""
import json
import math
import os
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from cola_nbdev.checkpoints import MANIFEST,find_corruption,latest_checkpoint,read_checkpoint,save_checkpoint,write_manifest
from cola_nbdev.reading import read_shaped
from cola_nbdev.basics import ColaError
from cola_nbdev.data import Corpus
from cola_nbdev.basics import COLUMNS
from cola_nbdev.reading import check_sentences,read_cola_tsv,read_csv
from cola_nbdev.evaluation import bootstrap_mcc
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.vocabulary import split_word,word_table
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import LengthSampler,encode,load_tokenizer,show_tokens

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
FREQUENT, COSTLY = (3000, 1000) if LONG else (60, 25)
check = lambda examples: settings(max_examples=examples, deadline=None, database=None, derandomize=not LONG, suppress_health_check=list(HealthCheck), print_blob=False)

@pytest.fixture(autouse=True)
def counted(record_property, request):
    "How many cases were made up, for the table of `make faults`"
    yield
    record_property("cases", getattr(getattr(request.function, "_hypothesis_internal_use_settings", None), "max_examples", 0))

# Unicode of every kind: lone surrogates, control characters, right to left, joiners, emoji, line separators
ODD = ["\ud83d", "\x00", "\x1b", "\u202e", "שלום", "مرحبا", "\u200d", "👩‍👩‍👧", "🏳️‍🌈", "\u2028", "\x85", "\ufeff", "e\u0301", "ﬁ", "\t", "\n", "\r\n", '"', "'", ",", "NA", "null", "[CLS]", "##s", "ß", "İ", "字", "\U0010ffff"]
text = st.one_of(st.text(max_size=40), st.text(st.characters(), max_size=40), st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=8)), max_size=8).map(" ".join))
line = st.lists(st.one_of(st.sampled_from(["gj04", "0", "1", "*", "", "2"]), text), min_size=1, max_size=6)
scratch = Path(tempfile.mkdtemp())

READERS = {"read_cola_tsv": read_cola_tsv, "read_csv": read_csv, "read_shaped": lambda path: read_shaped(path)[0]}

def read(reader, content, kind):
    "What the reader makes of a file with this content: a table fit to use, or a ColaError, which is None"
    path = scratch/f"file.{kind}"
    path.write_bytes(content)
    try: table = reader(path)
    except ColaError as error:
        assert str(error).strip() and "\n" not in str(error)
        return None
    assert set(table.label) <= {0, 1} and table.sentence.map(lambda sentence: isinstance(sentence, str) and sentence.strip() != "").all()
    return table

def encoded(content): return content.encode("utf-8", "surrogatepass")

# Readers

@pytest.mark.parametrize("reader", ["read_cola_tsv", "read_csv", "read_shaped"])
@check(FREQUENT)
@given(content=st.one_of(st.binary(max_size=200), text.map(encoded), st.lists(line, max_size=6).map(lambda rows: encoded("\n".join("\t".join(row) for row in rows))),
                         st.lists(line, max_size=6).map(lambda rows: encoded("sentence,label,more,x\n" + "\n".join(",".join(row) for row in rows)))))
def test_any_file_is_read_or_refused(reader, content):
    for kind in ("tsv", "csv", "jsonl") if reader == "read_shaped" else ("tsv",): read(READERS[reader], content, kind)

printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"), min_size=1, max_size=30).filter(lambda sentence: sentence.strip() != "")

@check(FREQUENT)
@given(sentences=st.lists(printable, min_size=2, max_size=6))
def test_what_is_written_is_read_again(sentences):
    table = check_sentences(pd.DataFrame({"sentence": sentences, "label": [number % 2 for number in range(len(sentences))]}))
    with tempfile.TemporaryDirectory() as folder:
        file, = Corpus("any", {"train": table}).export(folder)
        again = read_cola_tsv(file)
    assert again.sentence.tolist() == sentences and again.label.tolist() == table.label.tolist() and list(again) == COLUMNS[:4]

# Tokens and batches

@pytest.fixture(scope="module", params=["tiny", "minilm"])
def tokenizer(request): return load_tokenizer(request.param)

@check(FREQUENT)
@given(sentences=st.lists(text, max_size=5), longest=st.integers(3, 80))
def test_any_text_is_encoded_or_refused(tokenizer, sentences, longest):
    try: rows = encode(sentences, tokenizer, longest)
    except ColaError as error:
        assert "lone surrogate" in str(error) and any("\ud800" <= c <= "\udfff" for sentence in sentences for c in sentence)
        return
    assert len(rows) == len(sentences)
    for row in rows: assert 2 <= len(row) <= longest and row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id and max(row) < len(tokenizer)

class Page(HTMLParser):
    "The elements and the text of a piece of HTML"
    def __init__(self, page):
        super().__init__()
        self.elements, self.text = set(), []
        self.feed(page)
        self.close()
    def handle_starttag(self, tag, attributes): self.elements |= {tag, *(name for name, _ in attributes)}
    def handle_data(self, data): self.text.append(data)

markup = st.lists(st.one_of(st.sampled_from(["<script>", "</span>", "<b", "&lt;", "&", '"', "' onclick='x", "-->", "[PAD]", "[UNK]"]), text), min_size=1, max_size=6).map("".join)

@check(FREQUENT)
@given(sentence=markup, length=st.integers(0, 12))
def test_any_text_is_shown_safely_or_refused(tokenizer, sentence, length):
    try: shown = show_tokens(sentence, tokenizer, length)
    except ColaError as error:
        assert "\n" not in str(error)
        return
    page = Page(shown._repr_html_())
    assert page.elements <= {"div", "span", "p", "br", "title", "style"}
    assert all(piece in page.text for piece in shown.frame.piece) and len(shown.frame) == (length or min(64, len(shown.frame)))

@check(FREQUENT)
@given(sentences=st.lists(text, max_size=4))
def test_any_text_comes_apart_or_is_refused(tokenizer, sentences):
    try: words = word_table(sentences, tokenizer)
    except ColaError: return
    assert set(words.sentence) <= set(range(len(sentences))) and (words["count"] == words.pieces.map(len)).all() and (words["count"] > 0).all()

@check(FREQUENT)
@given(word=st.text("unplgedsé🙂", max_size=12))
def test_a_word_comes_apart_as_the_tokenizer_says(word):
    known = load_tokenizer("tiny").backend_tokenizer.model
    vocabulary = load_tokenizer("tiny").get_vocab()
    assert split_word(word, vocabulary) == [piece.value for piece in known.tokenize(word)]

lengths_of = st.lists(st.integers(1, 64), max_size=200)

@check(FREQUENT)
@given(lengths=lengths_of, size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 50), window=st.integers(1, 60), shuffle=st.booleans(), start=st.integers(0, 300))
def test_batches_hold_every_example_once(lengths, size, seed, epoch, window, shuffle, start):
    def batches(start=0):
        sampler = LengthSampler(lengths, size, seed, window, shuffle)
        sampler.set_epoch(epoch)
        sampler.start = start
        assert len(sampler) == math.ceil(len(lengths) / size)
        return list(sampler)
    whole = batches()
    assert sorted(number for batch in whole for number in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= size for batch in whole) and len(whole) == math.ceil(len(lengths) / size)
    assert batches(start) == whole[start:], "going on in the middle of an epoch is a slice of it"

@check(FREQUENT)
@given(lengths=lengths_of, size=st.integers(1, 40), processes=st.integers(1, 6))
def test_several_processes_share_every_example_once(lengths, size, processes):
    from cola_nbdev.distributed import shard_batches
    batches = list(LengthSampler(lengths, size))
    parts = [shard_batches(batches, lengths, process, processes) for process in range(processes)]
    assert sorted(row for part in parts for rows, weight in part for row in rows if weight) == list(range(len(lengths)))
    for batch, *of_batch in zip(batches, *parts, strict=True):
        assert all(rows for rows, _ in of_batch), "nobody comes out empty"
        assert abs(sum(weight for _, weight in of_batch) - 1) < 1e-9
        counts = [len(rows) if weight else 0 for rows, weight in of_batch]
        assert max(counts) - min(counts) <= 1 and sum(counts) == len(batch)
        pieces = [sum(lengths[row] for row in rows) if weight else 0 for rows, weight in of_batch]
        assert max(pieces) - min(pieces) <= max(lengths[row] for row in batch), "the fullest has at most one sentence more of work"

@pytest.fixture(scope="module")
def judge(): return load_model("tiny"), load_tokenizer("tiny")

@check(COSTLY)
@given(sentences=st.lists(text.filter(lambda sentence: not any("\ud800" <= c <= "\udfff" for c in sentence)), max_size=7), size=st.integers(1, 9))
def test_a_score_does_not_depend_on_its_batch(judge, sentences, size):
    model, its_tokenizer = judge
    together = predict_logits(model, its_tokenizer, sentences, batch_size=size)
    alone = [predict_logits(model, its_tokenizer, [sentence])[0] for sentence in sentences]
    assert together.shape == (len(sentences), 2) and np.isfinite(together).all()
    if sentences: np.testing.assert_allclose(together, np.array(alone), atol=1e-5)

# Scores

@check(COSTLY)
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60), seed=st.integers(0, 1000))
def test_an_interval_is_one_or_is_refused(pairs, seed):
    labels, predicted = [label for label, _ in pairs], [judged for _, judged in pairs]
    if len(set(labels)) < 2:
        with pytest.raises(ColaError): bootstrap_mcc(labels, predicted, 200, seed=seed)
        return
    found = bootstrap_mcc(labels, predicted, 200, seed=seed)
    assert found.mcc == pytest.approx(matthews_corrcoef(labels, predicted)) and -1 <= found.low <= found.high <= 1

# Settings

anything = st.one_of(st.none(), st.booleans(), st.integers(-10, 10**6), st.floats(), st.text(max_size=5), st.just([]))

@check(FREQUENT)
@given(changed=st.dictionaries(st.sampled_from(list(Config.__dataclass_fields__)), anything, max_size=4))
def test_settings_work_or_are_refused(changed):
    try: Config(**changed)
    except ColaError as error: assert any(name in str(error) for name in changed)

# Checkpoints

names = st.text("abcdef._0123", min_size=1, max_size=12).filter(lambda name: name.strip(".") and name != MANIFEST)

@check(FREQUENT)
@given(files=st.dictionaries(names, st.binary(min_size=1, max_size=60), min_size=1, max_size=4), which=st.integers(0, 3), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_one_flipped_bit_is_noticed(files, which, position, bit):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, content in files.items(): (folder/name).write_bytes(content)
        write_manifest(folder)
        assert find_corruption(folder) == ""
        name = sorted(files)[which % len(files)]
        content = bytearray(files[name])
        content[position % len(content)] ^= 1 << bit
        (folder/name).write_bytes(content)
        assert find_corruption(folder) == f"{name} is damaged"

shape = st.lists(st.integers(0, 4), max_size=3)

@check(COSTLY)
@given(shapes=st.dictionaries(st.text("abc.", min_size=1, max_size=6), shape, max_size=4), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]),
       step=st.integers(0, 10**9), facts=st.dictionaries(text.filter(lambda key: key.isprintable()), st.one_of(st.integers(), st.floats(allow_nan=False), text, st.none()), max_size=4))
def test_a_checkpoint_gives_back_what_was_saved(shapes, dtype, step, facts):
    tensors = {name: torch.randint(0, 2, size).to(dtype) for name, size in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, step, {"model": tensors}, facts)
        found, said = read_checkpoint(latest_checkpoint(folder))
    assert said == facts
    assert found["model"].keys() == tensors.keys() and all(torch.equal(found["model"][name], values) and found["model"][name].dtype == dtype for name, values in tensors.items())
