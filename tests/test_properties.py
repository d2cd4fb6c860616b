"""Whatever comes in: success, or one of the package's own errors.

Hypothesis makes up the input; `make faults` tries many more cases than `make test`."""
import json
import math
import os
import random
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from cola_nbdev.basics import COLUMNS, ColaError, is_blank
from cola_nbdev.checkpoints import (
    MANIFEST,
    find_corruption,
    latest_checkpoint,
    read_checkpoint,
    save_checkpoint,
    write_manifest,
)
from cola_nbdev.corruption import WAYS, corrupt
from cola_nbdev.data import Corpus, audit
from cola_nbdev.distributed import shard_batches
from cola_nbdev.evaluation import bootstrap_mcc
from cola_nbdev.model import load_model
from cola_nbdev.packing import predict_logits
from cola_nbdev.reading import (
    check_sentences,
    read_cola_tsv,
    read_sentences,
    read_table,
    take_columns,
)
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import LengthSampler, encode, load_tokenizer, show_tokens

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))
pytestmark = pytest.mark.usefixtures("counted")
FREQUENT, COSTLY = (3000, 1000) if LONG else (60, 25)

def check(examples):
    slow: Any = list(HealthCheck)
    return settings(max_examples=examples, deadline=None, database=None, derandomize=not LONG,
                    suppress_health_check=slow, print_blob=False)

# Unicode of every kind: lone surrogates, control characters, right to left, joiners, emoji, …
ODD = ["\ud83d", "\x00", "\x1b", "\u202e", "שלום", "مرحبا", "\u200d", "👩‍👩‍👧", "🏳️‍🌈",
       "\u2028", "\x85", "\ufeff", "e\u0301", "ﬁ", "\t", "\n", "\r\n", '"', "'", ",", "NA", "null",
       "[CLS]", "##s", "ß", "İ", "字", "\U0010ffff"]
odd_text = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=8)), max_size=8)
text = st.one_of(st.text(max_size=40), st.text(st.characters(), max_size=40),
                 odd_text.map(" ".join))
field = st.one_of(st.sampled_from(["gj04", "0", "1", "*", "", "2"]), text)
line = st.lists(field, min_size=1, max_size=6)
scratch = Path(tempfile.mkdtemp())

def has_surrogate(sentence): return any("\ud800" <= c <= "\udfff" for c in sentence)

def encoded(content): return content.encode("utf-8", "surrogatepass")

def tab_separated(rows): return encoded("\n".join("\t".join(row) for row in rows))

def comma_separated(rows):
    return encoded("sentence,label,more,x\n" + "\n".join(",".join(row) for row in rows))

# Readers

READERS = {  # name → what reads a path, and the kinds of files that it reads
    "read_cola_tsv": (read_cola_tsv, ["tsv"]),
    "read_table": (lambda path: take_columns(read_table(path), path.name)[0], ["tsv"]),
    "read_sentences": (lambda path: read_sentences(path)[0], ["tsv", "csv", "jsonl"])}

def read(reader, path):
    "What the reader makes of a file: a table fit to use, or a `ColaError`, which is None"
    try: table = reader(path)
    except ColaError as error:
        assert str(error).strip() and "\n" not in str(error)
        return None
    assert set(table.label) <= {0, 1}
    assert all(isinstance(sentence, str) and sentence.strip() for sentence in table.sentence)
    return table

@pytest.mark.parametrize("reader", READERS)
@check(FREQUENT)
@given(content=st.one_of(st.binary(max_size=200), text.map(encoded),
                         st.lists(line, max_size=6).map(tab_separated),
                         st.lists(line, max_size=6).map(comma_separated)))
def test_any_file_is_read_or_refused(reader, content):
    function, kinds = READERS[reader]
    for kind in kinds:
        path = scratch/f"file.{kind}"
        path.write_bytes(content)
        read(function, path)

values = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-1, 2), st.floats(), text),
                      lambda inner: st.lists(inner, max_size=2), max_leaves=3)
columns = st.sampled_from(["sentence", "label", "Label", "acceptability", "source", "split",
                           "sentence_good", "sentence_bad", "UID", "uniqueindexid"])

@check(FREQUENT)
@given(objects=st.lists(st.dictionaries(columns, values, max_size=6), max_size=4))
def test_any_json_is_read_or_refused(objects):
    path = scratch/"file.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    read(lambda path: read_sentences(path)[0], path)

printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"),
                    min_size=1, max_size=30).filter(lambda sentence: not is_blank(sentence))

@check(FREQUENT)
@given(sentences=st.lists(printable, min_size=2, max_size=6))
def test_what_is_written_is_read_again(sentences):
    labels = [number % 2 for number in range(len(sentences))]
    table = check_sentences(pd.DataFrame({"sentence": sentences, "label": labels}))
    with tempfile.TemporaryDirectory() as folder:
        try: file, = Corpus("any", {"train": table}).export(folder)
        except ColaError as error:  # of single words nobody could say that they are the sentences
            assert re.search("would be read back as others|quotes stand around", str(error))
            is_quoted = any({*"\"'"} & {*sentence} for sentence in sentences)
            assert is_quoted or not any(re.search(r"[^\W\d]\s+\S", each) for each in sentences)
            return
        again, told = read_cola_tsv(file), read_table(file)
        assert [*told] == COLUMNS[:4] and told.sentence.tolist() == sentences
    assert again.sentence.tolist() == sentences
    assert again.label.tolist() == table.label.tolist()
    assert list(again) == COLUMNS[:4]

@check(FREQUENT)
@given(sentences=st.lists(text, max_size=6), label=st.integers(0, 1))
def test_any_sentences_are_audited(sentences, label):
    frame = pd.DataFrame({"sentence": pd.Series(sentences, dtype=object), "label": label})
    counts = audit(Corpus("any", {"train": frame, "dev": frame})).table.set_index("question")
    assert (counts.loc["sentences", "count"] == len(sentences)).all()
    assert counts.loc["sentences that occur in train", "count"] == len(sentences)

@check(FREQUENT)
@given(sentence=text, seed=st.integers(0, 1000), way=st.sampled_from([*WAYS]))
def test_any_sentence_is_corrupted_or_left_alone(sentence, seed, way):
    found = corrupt(sentence, random.Random(seed), [way])
    assert found == corrupt(sentence, random.Random(seed), [way])
    assert found is None or (found[0] != sentence and found[1] == way)

# Tokens and batches

@pytest.fixture(scope="module", params=["tiny", "minilm"])
def tokenizer(request): return load_tokenizer(request.param)

@check(FREQUENT)
@given(sentences=st.lists(text, max_size=5), longest=st.integers(3, 80))
def test_any_text_is_encoded_or_refused(tokenizer, sentences, longest):
    try: rows = encode(sentences, tokenizer, longest)
    except ColaError as error:
        assert "lone surrogate" in str(error) and any(map(has_surrogate, sentences))
        return
    assert len(rows) == len(sentences)
    for row in rows:
        assert 2 <= len(row) <= longest and max(row) < len(tokenizer)
        assert row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id

class Page(HTMLParser):
    "The elements and the text of a piece of HTML"
    def __init__(self, page):
        super().__init__()
        self.elements, self.text = set(), []
        self.feed(page)
        self.close()
    def handle_starttag(self, tag, attrs): self.elements |= {tag, *(name for name, _ in attrs)}
    def handle_data(self, data): self.text.append(data)

MARKUP = ["<script>", "</span>", "<b", "&lt;", "&", '"', "' onclick='x", "-->", "[PAD]", "[UNK]"]
markup = st.lists(st.one_of(st.sampled_from(MARKUP), text), min_size=1, max_size=6).map("".join)

@check(FREQUENT)
@given(sentence=markup, length=st.integers(0, 12))
def test_any_text_is_shown_safely_or_refused(tokenizer, sentence, length):
    try: shown = show_tokens(sentence, tokenizer, length)
    except ColaError as error:
        assert "\n" not in str(error)
        return
    page = Page(shown._repr_html_())
    assert page.elements <= {"div", "span", "p", "br", "title", "style"}
    assert all(piece in page.text for piece in shown.frame.token)
    assert len(shown.frame) == (length or min(64, len(shown.frame)))

lengths_of = st.lists(st.integers(1, 64), max_size=200)

@check(FREQUENT)
@given(lengths=lengths_of, size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1),
       epoch=st.integers(0, 50), window=st.integers(1, 60), shuffle=st.booleans())
def test_batches_hold_every_example_once(lengths, size, seed, epoch, window, shuffle):
    def batches():
        sampler = LengthSampler(lengths, size, seed, window, shuffle)
        sampler.set_epoch(epoch)
        assert len(sampler) == math.ceil(len(lengths) / size)
        return list(sampler)
    whole = batches()
    assert sorted(number for batch in whole for number in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= size for batch in whole)
    assert len(whole) == math.ceil(len(lengths) / size)
    assert batches() == whole, "resuming in the middle of an epoch is a slice of it"

@check(FREQUENT)
@given(lengths=lengths_of, size=st.integers(1, 40), processes=st.integers(1, 6))
def test_several_processes_share_every_example_once(lengths, size, processes):
    batches = list(LengthSampler(lengths, size))
    parts = [shard_batches(batches, lengths, process, processes) for process in range(processes)]
    held = [row for part in parts for rows, weight in part for row in rows if weight]
    assert sorted(held) == list(range(len(lengths)))
    for batch, *of_batch in zip(batches, *parts, strict=True):
        assert all(rows for rows, _ in of_batch), "no process comes out empty"
        assert abs(sum(weight for _, weight in of_batch) - 1) < 1e-9
        shares = [rows if weight else [] for rows, weight in of_batch]
        counts = [len(rows) for rows in shares]
        assert max(counts) - min(counts) <= 1 and sum(counts) == len(batch)
        tokens = [sum(lengths[row] for row in rows) for rows in shares]
        longest = max(lengths[row] for row in batch)
        assert max(tokens) - min(tokens) <= longest, "at most one sentence more of work"

@pytest.fixture(scope="module")
def judge(): return load_model("tiny"), load_tokenizer("tiny")

@check(COSTLY)
@given(sentences=st.lists(text.filter(lambda sentence: not has_surrogate(sentence)), max_size=7),
       size=st.integers(1, 9))
def test_a_score_does_not_depend_on_its_batch(judge, sentences, size):
    model, its_tokenizer = judge
    together = predict_logits(model, its_tokenizer, sentences, batch_size=size)
    alone = [predict_logits(model, its_tokenizer, [sentence])[0] for sentence in sentences]
    assert together.shape == (len(sentences), 2) and np.isfinite(together).all()
    if sentences: np.testing.assert_allclose(together, np.array(alone), atol=1e-5)

# Scores

@check(COSTLY)
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60),
       seed=st.integers(0, 1000))
def test_an_interval_is_one_or_is_refused(pairs, seed):
    labels, predicted = [label for label, _ in pairs], [judged for _, judged in pairs]
    if len(set(labels)) < 2:
        with pytest.raises(ColaError): bootstrap_mcc(labels, predicted, 200, seed=seed)
        return
    found = bootstrap_mcc(labels, predicted, 200, seed=seed)
    assert found.mcc == pytest.approx(matthews_corrcoef(labels, predicted))
    assert -1 <= found.low <= found.high <= 1

# Settings

anything = st.one_of(st.none(), st.booleans(), st.integers(-10, 10**6), st.floats(),
                     st.text(max_size=5), st.just([]))
setting = st.sampled_from(list(Config.__dataclass_fields__))

@check(FREQUENT)
@given(changed=st.dictionaries(setting, anything, max_size=4))
def test_settings_work_or_are_refused(changed):
    try: Config(**changed)
    except ColaError as error: assert any(name in str(error) for name in changed)

# Checkpoints

names = st.text("abcdef._0123", min_size=1, max_size=12).filter(
    lambda name: name.strip(".") and name != MANIFEST)
contents = st.dictionaries(names, st.binary(min_size=1, max_size=60), min_size=1, max_size=4)

@check(FREQUENT)
@given(files=contents, which=st.integers(0, 3), position=st.integers(0, 10**6),
       bit=st.integers(0, 7))
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

shapes_of = st.dictionaries(st.text("abc.", min_size=1, max_size=6),
                            st.lists(st.integers(0, 4), max_size=3), max_size=4)
facts_of = st.dictionaries(
    text.filter(lambda key: key.isprintable()),
    st.one_of(st.integers(), st.floats(allow_nan=False), text, st.none()), max_size=4)
DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]

@check(COSTLY)
@given(shapes=shapes_of, dtype=st.sampled_from(DTYPES), step=st.integers(0, 10**9), facts=facts_of)
def test_a_checkpoint_gives_back_what_was_saved(shapes, dtype, step, facts):
    tensors = {name: torch.randint(0, 2, size).to(dtype) for name, size in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, step, {"model": tensors}, facts)
        newest = latest_checkpoint(folder)
        assert newest is not None
        found, said = read_checkpoint(newest)
    assert said == facts
    assert found["model"].keys() == tensors.keys()
    for name, values in tensors.items():
        assert torch.equal(found["model"][name], values) and found["model"][name].dtype == dtype
