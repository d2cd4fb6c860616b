"""Tables as people really have them: read rightly, or refused in a sentence that helps."""
import gzip
import io
import itertools
import json
import os
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cola_nbdev import cli
from cola_nbdev.basics import ColaError
from cola_nbdev.data import corpus_of, load_corpus, split_sentences
from cola_nbdev.evaluation import Report
from cola_nbdev.pairs import load_pairs
from cola_nbdev.prediction import Judge
from cola_nbdev.reading import read_sentences
from cola_nbdev.scoring import score_file

LONG = bool(os.environ.get("COLA_NBDEV_LONG"))

def refused(outcome, message):
    _, error, code = outcome
    lines = error.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("cola: "), error
    assert message in lines[0], lines[0]

# Ten sentences, and how they are written

GOOD = ["The dog barked loudly.", "She reads books, often.", "We went home early.",
        "They have left; we too.", "It rained all day."]
BAD = ["Dog the loudly barked.", "Reads she books often.", 'Went "early" we home.',
       "Have they left not.", "Rained day all it."]
TEN = [(sentence, label) for pair in zip(GOOD, BAD) for sentence, label in zip(pair, (1, 0))]

def quote(field, delimiter):
    if not any(each in field for each in (delimiter, '"', "\n")): return field
    return '"' + field.replace('"', '""') + '"'

def table(columns=("sentence", "label"), words=("0", "1"), delimiter=",", header=True, rows=TEN):
    "A file with a column of sentences and one of labels"
    lines = [list(columns)] if header else []
    lines += [[sentence, words[label]] for sentence, label in rows]
    return "".join(delimiter.join(quote(field, delimiter) for field in line) + "\n"
                   for line in lines)

def frame(columns=("sentence", "label"), words=(0, 1)):
    return pd.DataFrame([(sentence, words[label]) for sentence, label in TEN], columns=columns)

def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items(): archive.writestr(name.replace("_csv", ".csv"), content)
    return out.getvalue()

def parquet(table):
    out = io.BytesIO()
    table.to_parquet(out)
    return out.getvalue()

def workbook(*sheets, header=True):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet{number}")
        for row in rows: sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()

RAW = "".join(f"{sentence}\t{label}\n" for sentence, label in TEN)
R_QUOTED = "".join('"{}"\t{}\n'.format(sentence.replace('"', '""'), label)
                   for sentence, label in TEN)
R_NAMES = "".join('"{}"\t"{}"\t{}\n'.format(number, sentence.replace('"', '""'), label)
                  for number, (sentence, label) in enumerate(TEN, 1))
COLA = "".join(f"ad03\t{label}\t\t{sentence}\n" for sentence, label in TEN)
NUMBERED = frame().rename(columns={"sentence": 0, "label": 1})
JSONL = "".join(json.dumps({"sentence": s, "label": label}) + "\n" for s, label in TEN)

def jsonl(*rows): return "".join(json.dumps(row) + "\n" for row in rows)

def split_by(*names):
    return pd.DataFrame([(*pair, name) for pair, name in zip(TEN, itertools.cycle(names))],
                        columns=["sentence", "label", "split"]).to_csv(index=False)

def said(text, label, one="1", zero="0"):
    "What was taken; where sentence and label are called that, or judgments, it's acceptability"
    judged = (text.lower(), label.lower()) == ("sentence", "label") or label == "acceptable"
    pair = (zero.lower(), one.lower())
    if judged and pair in (("0", "1"), ("false", "true"), ("no", "yes")):
        zero, one = "unacceptable", "acceptable"
    taken = f"taken: {text} → sentence, {label} → label"
    return taken + (f"; {one} is 1, {zero} 0\n" if (zero, one) != ("0", "1") else "\n")

def no_header(text=1, label=2, names=""):
    return f"taken: no header; column {text} → sentence, column {label} → label{names}\n"

def of_text(line): return re.sub("taken: (no header; )?", r"\g<0>quotes are text; ", line)
def of_quotes(line): return re.sub("taken: (no header; )?", r"\g<0>quotes around fields; ", line)

READ = [  # file, content, options, what is printed
    # which columns
    *((f"{text}_{label}.csv", table((text, label)), [], said(text.strip(), label))
      for text, label in (
        ("sentence", "label"), ("text", "label"), ("Text", "Label"), (" text ", "label"),
        ("review", "sentiment"), ("sentence_text", "class"), ("SENTENCE", "TARGET"),
        ("message", "spam"), ("tweet", "labels"), ("comment", "acceptable"), ("content", "target"),
        ("title", "category"), ("frase", "label"), ("sentence", "juízo"))),
    ("more.csv", "id,title,text,label,source\n" + "".join(
        f"{n},Title,{quote(s, ',')},{label},web\n" for n, (s, label) in enumerate(TEN)), [],
     said("text", "label")),
    ("self.jsonl", jsonl(*({"sentence": s, "label": n, "self": True} for s, n in TEN)), [],
     said("sentence", "label")),
    ("notes.csv", frame().assign(label_notes="*", error_type="x", count=3).to_csv(index=False), [],
     said("sentence", "label")),
    ("integers.parquet", None, ["--text", "0", "--label", "1"], said("0", "1")),
    ("index.csv", frame().to_csv(), [], said("sentence", "label")),
    # words for labels
    *((f"{one.strip()}.csv", table(words=(zero, one)), [],
       said("sentence", "label", one.strip(), zero.strip()))
      for zero, one in (("false", "true"), ("False", "True"), ("FALSE", "TRUE"), ("no", "yes"),
                        ("No", "Yes"), ("negative", "positive"), ("neg", "pos"), ("ham", "spam"),
                        ("Ham", "SPAM"), ("unacceptable", "acceptable"), ("bad", "good"),
                        ("incorrect", "correct"), ("ungrammatical", "grammatical"))),
    ("float.csv", table(words=("0.0", "1.0")), [], said("sentence", "label")),
    ("blank.csv", table(words=(" 0", "1 ")), [], said("sentence", "label")),
    ("json_bool.jsonl", jsonl(*({"text": s, "label": bool(n)} for s, n in TEN)), [],
     said("text", "label", "true", "false")),
    ("json_float.jsonl", jsonl(*({"text": s, "label": float(n)} for s, n in TEN)), [],
     said("text", "label")),
    # said by the user
    ("urteil.csv", table(("Satz", "Urteil"), ("schlecht", "gut")),
     ["--text", "Satz", "--label", "Urteil", "--positive", "gut"],
     said("Satz", "Urteil", "gut", "schlecht")),
    ("upside_down.csv", table(words=("0", "1")), ["--positive", "0"],
     "taken: sentence → sentence, label → label; 0 is 1, 1 0"),
    ("minus.csv", table(words=("-1", "1")), ["--positive", "1"],
     said("sentence", "label", "1", "-1")),
    ("positive.csv", table(words=("1.0", "2.0")), ["--positive", "2"],
     said("sentence", "label", "2", "1")),
    ("two_labels.csv", frame().assign(acceptable=0).to_csv(index=False), ["--label", "label"],
     said("sentence", "label")),
    ("two_texts.csv", frame().assign(text="x").to_csv(index=False), ["--text", "Sentence"],
     said("sentence", "label")),
    # delimiters, with a header and without
    *((f"delimiter_{number}{header}.{kind}", table(delimiter=delimiter, header=header), [],
       said("sentence", "label") if header else no_header())
      for number, delimiter in enumerate(",;|") for header in (True, False)
      for kind in ("csv", "txt", "data")),
    ("excel.csv", "sep=;\n" + table(delimiter=";"), [], said("sentence", "label")),
    ("excel_colon.csv", "sep=:\n" + table(delimiter=":"), [], said("sentence", "label")),
    ("semicolon.tsv", table(delimiter=";"), [], said("sentence", "label")),
    # tabs and quotes
    ("raw.tsv", "sentence\tlabel\n" + RAW, [], of_text(said("sentence", "label"))),
    ("pandas.tsv", frame().to_csv(index=False, sep="\t"), [], of_quotes(said("sentence", "label"))),
    ("r.tsv", '"sentence"\t"label"\n' + R_QUOTED, [], of_quotes(said("sentence", "label"))),
    ("r_names.tsv", '"sentence"\t"label"\n' + R_NAMES, [], of_quotes(said("sentence", "label"))),
    ("r_no_header.tsv", R_QUOTED, [], of_quotes(no_header())),
    ("raw_no_header.tsv", RAW, [], of_text(no_header())),
    ("sms", "".join(f"{('ham', 'spam')[n]}\t{s}\n" for s, n in TEN), [],
     of_text(no_header(2, 1, "; spam is 1, ham 0"))),
    ("cola.tsv", COLA, [], "taken: CoLA's four columns"),
    ("cola.txt", COLA, [], "taken: CoLA's four columns"),
    ("numbered.csv", NUMBERED.to_csv(), [], no_header(2, 3)),
    ("numbered.tsv", NUMBERED.to_csv(sep="\t", index=False), [], of_quotes(no_header())),
    # encodings, ends of lines, packed
    ("bom.csv", table().encode("utf-8-sig"), [], said("sentence", "label")),
    ("utf16.csv", table().encode("utf-16"), [], said("sentence", "label")),
    ("utf16.tsv", ("sentence\tlabel\n" + RAW).encode("utf-16"), [],
     of_text(said("sentence", "label"))),
    ("utf16be.csv", b"\xfe\xff" + table().encode("utf-16-be"), [], said("sentence", "label")),
    ("windows.csv", table().replace("\n", "\r\n"), [], said("sentence", "label")),
    ("mac.csv", table().replace("\n", "\r"), [], said("sentence", "label")),
    ("no_end.csv", table().rstrip("\n"), [], said("sentence", "label")),
    ("blank_lines.csv", "\n" + table().replace("\n", "\n\n"), [], said("sentence", "label")),
    ("packed.csv.gz", gzip.compress(table().encode()), [], said("sentence", "label")),
    ("packed.tsv.gz", gzip.compress(RAW.encode()), [], of_text(no_header())),
    ("packed.zip", zipped(inner_csv=table()), [], said("sentence", "label")),
    # JSON
    ("lines.jsonl", JSONL, [], said("sentence", "label")),
    ("lines.json", JSONL, [], said("sentence", "label")),
    ("lines.ndjson", JSONL.replace("\n", "\n\n"), [], said("sentence", "label")),
    ("array.json", json.dumps(frame().to_dict("records")), [], said("sentence", "label")),
    ("array.jsonl", json.dumps(frame().to_dict("records")), [], said("sentence", "label")),
    ("pretty.json", json.dumps(frame().to_dict("records"), indent=2), [],
     said("sentence", "label")),
    *((f"{orient}.json", frame().to_json(orient=orient), [], said("sentence", "label"))
      for orient in ("records", "columns", "index", "table")),
    ("lists.json", json.dumps(frame().to_dict("list"), indent=1), [], said("sentence", "label")),
    ("unnamed_json", JSONL, [], said("sentence", "label")),
    # Parquet and Excel
    ("table.parquet", None, [], said("sentence", "label")),
    ("bool.parquet", None, [], said("sentence", "label", "true", "false")),
    ("words.parquet", None, [], said("sentence", "label", "spam", "ham")),
    ("really_parquet.csv", None, [], said("sentence", "label")),
    ("sheet.xlsx", None, [], said("sentence", "label")),
    ("no_header.xlsx", None, [], no_header()),
    ("really_excel.csv", None, [], said("sentence", "label")),
    # splits
    ("splits.csv", split_by("train", "train", "dev", "dev", "test", "test"), [], "test  "),
    ("splits2.csv", split_by("Training", "training", "validation", "VAL"), [], "dev  "),
    ("only_train.csv", split_by("train"), [], "no dev set: 2 of 10 sentences are held out"),
    ("empty_split.csv", split_by(""), [], "no dev set: 2 of 10 sentences are held out"),
    ("copies.csv", table(rows=TEN * 3), [], "20 copies of sentences stay on the side of the first"),
    # minimal pairs
    ("blimp.jsonl", jsonl(*({"sentence_good": g, "sentence_bad": b, "UID": "x"}
                            for g, b in zip(GOOD, BAD))), [], "minimal pairs: sentence_good is 1"),
    ("pairs.csv", pd.DataFrame({"good_sentence": GOOD, "bad_sentence": BAD}).to_csv(index=False),
     [], "minimal pairs: good_sentence is 1, bad_sentence 0"),
]
BINARY = {"integers.parquet": lambda: parquet(frame().set_axis(["0", "1"], axis=1)),
          "table.parquet": lambda: parquet(frame()),
          "bool.parquet": lambda: parquet(frame(words=(False, True))),
          "words.parquet": lambda: parquet(frame(words=("ham", "spam"))),
          "really_parquet.csv": lambda: parquet(frame()),
          "sheet.xlsx": lambda: workbook([["sentence", "label"], *TEN]),
          "no_header.xlsx": lambda: workbook(TEN),
          "really_excel.csv": lambda: workbook([["sentence", "label"], [None], *TEN], [])}

def write(name, content):
    if content is None:
        pytest.importorskip("pyarrow")
        content = BINARY[name]()
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

@pytest.mark.parametrize("name, content, options, printed", READ, ids=[row[0] for row in READ])
def test_a_table_is_read_and_said_to_be(cola, name, content, options, printed):
    write(name, content)
    out, error, code = cola("data", name, *options)
    assert code == 0 and not error, error
    assert printed in out, out
    given = dict(zip((option[2:] for option in options[::2]), options[1::2]))
    corpus = load_corpus(name, columns={what: given[what] for what in ("text", "label")
                                        if what in given}, positive=given.get("positive"))
    found = {(row.sentence, row.label) for part in corpus.splits.values()
             for row in part.itertuples()}
    flipped = given.get("positive") == "0"
    assert found == {(sentence, 1 - label if flipped else label) for sentence, label in TEN}
    sizes = sum(map(len, corpus.splits.values()))
    assert sizes == (30 if name == "copies.csv" else 10)
    assert out.split("\n\n")[1].splitlines()[0].split() == ["sentence", "label", "split"]

REFUSED = [  # file, content, options, what is said
    # which columns
    ("both.csv", frame().assign(text="x").to_csv(index=False), [],
     "both.csv: the sentences could be in 'sentence' or 'text'; choose with --text sentence or "
     "--text text"),
    ("both.jsonl", jsonl(*({"sentence": s, "acceptable": n, "label": n} for s, n in TEN)), [],
     "both.jsonl: the labels could be in 'acceptable' or 'label'; choose with --label acceptable"),
    ("none.csv", "phrase_x,kind,y\na b,c,1\nb c,d,2\nc d,e,3\n", [],
     "none.csv: no column is known to hold the sentences; it has 'phrase_x', 'kind', 'y': say "
     "which with --text and --label"),
    ("umfrage.csv", "Nr,Bewertung,empfohlen\n" + "".join(
        f"{n},{quote(s, ',')},{('nein', 'ja')[label]}\n" for n, (s, label) in enumerate(TEN)), [],
     "it has 'Nr', 'Bewertung', 'empfohlen': is it --text Bewertung --label empfohlen?"),
    ("lines.txt", "Excellent quality\nTerrible, sorry\n", [],
     "lines.txt has one column, 'sentence'; sentences and labels are needed (cola score judges"),
    ("no_label.csv", "sentence,score\na b,.3\nb c,.7\nd e,.1\n", [],
     "no column is known to hold the labels; it has 'sentence', 'score'"),
    ("wrong.csv", table(), ["--text", "words"],
     "wrong.csv has no column 'words'; it has 'sentence', 'label'"),
    ("same.csv", table(), ["--text", "label"], "'label' can't hold both"),
    ("twice.csv", "sentence,label,Label\na b,1,0\n", [], "two columns are called 'label'; rename"),
    ("twice.jsonl", jsonl({"label": 1, "Label": 0, "text": "a"}), [],
     "two columns are called 'label'; rename one"),
    # labels
    ("three.csv", table(rows=[*TEN, ("Perhaps.", 2)], words=("0", "1", "2")), [],
     "three.csv line 12: label '2' is neither 0 nor 1"),
    ("stars.csv", "text,label\n" + "".join(f"Text {n}.,{n % 5 + 1}\n" for n in range(20)), [],
     "stars.csv: the labels are of 5 classes ('1', '2', '3', '4', '5'); two are needed"),
    ("gut.csv", table(words=("schlecht", "gut")), [],
     "the labels are 'gut' and 'schlecht'; which of them counts as 1? Add --positive"),
    ("blank words.csv", table(words=("not so good", "so good")), [],
     "Add --positive 'not so good' or --positive 'so good'"),
    ("minus.csv", table(words=("-1", "1")), [], "Add --positive -1 or --positive 1"),
    ("one.csv", table(words=("1", "1")), [], "one.csv: one class only, all 10 labels are 1"),
    ("one_word.csv", table(words=("x", "x")), [], "one class only, all labels are 'x'"),
    ("positive.csv", table(words=("ham", "spam")), ["--positive", "good"],
     "positive.csv: no label is 'good', as --positive says; they are 'spam' and 'ham'"),
    ("empty_label.csv", table() + "A sentence.,\n", [],
     "empty_label.csv line 12: the label is missing; fill it or remove the row"),
    ("list.jsonl", jsonl(*({"sentence": s, "label": [n]} for s, n in TEN)), [],
     "list.jsonl line 1: the label is a list: [1]"),
    ("typo.jsonl", jsonl({"sentence": "a b", "label": 1}, {"sentence": "b a", "label": 0},
                         {"sentence": "c d", "lable": 1}), [],
     "typo.jsonl line 3: the label is missing"),
    ("unlabeled.csv", table(words=("-1", "-1")), [], "there are no labels in the column 'label'"),
    # sentences
    ("empty.csv", table() + " ,1\n", [], "empty.csv line 12: the sentence is empty"),
    ("number.jsonl", JSONL + jsonl({"sentence": 7, "label": 1}), [],
     "number.jsonl line 11: the sentence is int, not text: 7"),
    ("null.jsonl", JSONL + jsonl({"sentence": None, "label": 1}), [],
     "null.jsonl line 11: the sentence is empty"),
    # fields
    ("fields.csv", table() + "Well, he left.,1\n", [],
     "fields.csv line 12: 3 fields where the header has 2; is there a comma inside the sentence?"),
    ("fields;.csv", table(delimiter=";") + "He left.\n", [],
     "line 12: 1 field where the header has 2; is a semicolon missing?"),
    ("fields|.csv", table(delimiter="|") + "He left.\n", [], "is a vertical bar missing?"),
    ("fields.tsv", "sentence\tlabel\n" + RAW + "He left.\n", [],
     "fields.tsv line 12: 1 field where the header has 2; is a tab missing?"),
    ("no_header.csv", table(header=False) + "Well, he left.,1\n", [],
     "line 11: 3 fields where the first row has 2; is there a comma"),
    ("cola.tsv", COLA + "ad03\t0\tHim left.\n", [],
     "cola.tsv line 11: 3 fields where CoLA has 4 (source, label, note, sentence); is a tab"),
    ("cola_label.tsv", COLA + "ad03\tno\t*\tHim left.\n", [],
     "cola_label.tsv line 11: label 'no' is neither 0 nor 1"),
    ("quote.csv", table() + '"He left.,1\n', [],
     "quote.csv line 12: unexpected end of data; is a quote opened and not closed?"),
    ("header.tsv", "text\tscore\nHe left.\t.3\nHim left.\t.7\n", [],
     "header.tsv: no column is known to hold the labels"),
    ("lone.csv", "sentence\nHe left.\nShe left.\n", [], "lone.csv has one column, 'sentence'"),
    ("unclear.csv", "dies;das\nhier;da\n", [],
     "unclear.csv line 1: names of columns, or a row? It says 'dies, das'; write the names above"),
    ("several.csv", "a;b|c\nd;e|f\n", [],
     "what separates the columns, semicolon or vertical bar? Let its first line say it"),
    # bytes
    ("nul.csv", table().encode() + b"a\0b,1\n", [], "nul.csv line 12: a NUL byte; is this a text"),
    ("latin.csv", table().encode() + b"caf\xe9,1\n", [],
     "latin.csv line 12: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ("empty_file.csv", "", [], "empty_file.csv is empty"),
    ("header_only.csv", "sentence,label\n", [], "header_only.csv holds no sentences"),
    ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), [],
     "old.xls is a workbook of an old Excel; save it as .xlsx or .csv"),
    ("text.xlsx", table(), [], "text.xlsx"),
    ("text.parquet", table(), [], "text.parquet: cannot be read as Parquet"),
    ("cut.csv.gz", gzip.compress(table().encode())[:-12], [], "cut.csv.gz: the file is damaged"),
    ("two.zip", zipped(a_csv=table(), b_csv=table()), [],
     "two.zip holds 2 files (a.csv, b.csv); unpack it and give one of them"),
    ("image.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", [], "image.png line "),
    ("sheets.xlsx", None, [], "sheets.xlsx has 2 sheets (Sheet0, Sheet1); save the one you mean"),
    ("broken.json", json.dumps(frame().to_dict("records"))[:-9], [], "broken.json: no JSON"),
    ("broken.jsonl", JSONL + '{"sentence": \n', [], "broken.jsonl line 11: no JSON"),
    ("scalar.json", "[1, 2]", [], "scalar.json row 1: a JSON object is expected"),
    ("word.json", '"a"', [], "word.json: JSON, but no table; write a list of objects"),
    # splits
    ("null_split.jsonl", jsonl(*({"sentence": s, "label": n, "split": "train"} for s, n in TEN),
                               {"sentence": "e f", "label": 1, "split": None}), [],
     "null_split.jsonl line 11: the split is missing; write train, dev or test"),
    ("no_split.jsonl", jsonl(*({"sentence": s, "label": n, "split": "train"} for s, n in TEN),
                             {"sentence": "e f", "label": 1}), [],
     "no_split.jsonl line 11: the split is missing"),
    ("one_class.csv", split_by("train", "dev", "train", "train"), [],
     "one_class.csv: the split dev is of one class only"),
    ("rare.csv", table(rows=[*TEN[::2], TEN[1]]), [],
     "6 sentences (1 with label 0 and 5 with label 1) are too few to hold out 20% of them"),
    ("demo", None, ["--positive", "1"], "demo has no columns to choose from"),
    ("nowhere.csv", None, [], "there is no corpus 'nowhere.csv'"),
]
BINARY["sheets.xlsx"] = lambda: workbook(TEN, TEN)

@pytest.mark.parametrize("name, content, options, message", REFUSED,
                         ids=[row[0] for row in REFUSED])
def test_a_table_is_refused_in_one_line(cola, name, content, options, message):
    if name not in ("demo", "nowhere.csv"): write(name, content)
    refused(cola("data", name, *options), message)

def test_there_are_enough_kinds(): assert len(READ) + len(REFUSED) >= 120

# Folders

def folder(**files):
    Path("corpus").mkdir()
    for name, content in files.items():
        name = name.replace("__", "-").replace("_csv", ".csv").replace("_tsv", ".tsv")
        (Path("corpus")/name).write_text(content, encoding="utf-8")
    return "corpus"

@pytest.mark.parametrize("files, splits", [
    ({"train_csv": table(), "dev_csv": table()}, ["train", "dev"]),
    ({"Train_csv": table(), "VAL_csv": table()}, ["train", "dev"]),
    ({"training_csv": table(), "validation_csv": table(), "testing_csv": table()},
     ["train", "dev", "test"]),
    ({"train_tsv": "sentence\tlabel\n" + RAW, "valid_csv": table(),
      "test_tsv": "index\tsentence\n0\tHe left.\n"},
     ["train", "dev"]),
    ({"train__00000-of-00002_csv": table(), "train__00001-of-00002_csv": table(),
      "development_csv": table()}, ["train", "dev"])])
def test_a_folder_of_splits(cola, files, splits):
    path = folder(**files)
    out, error, code = cola("data", path)
    assert code == 0 and not error, error
    corpus = load_corpus(path)
    assert [*corpus.splits] == splits
    assert len(corpus.train) == 10 * sum(name.lower().startswith("train") for name in files)
    left_out = "test_tsv" in files
    assert ("left out: test.tsv (without labels)" in out) == left_out

@pytest.mark.parametrize("files, message", [
    ({"train_csv": table(), "train_tsv": RAW, "dev_csv": table()},
     "corpus has train.csv and train.tsv: one file for train, or all of its parts, are expected"),
    ({"train_csv": table(words=("ham", "spam")), "dev_csv": table(("sentence", "label"))},
     "corpus: the labels of dev are unacceptable and acceptable, of train ham and spam"),
    ({"train_csv": table(), "notes_csv": table()}, "corpus holds no corpus; expected"),
    ({"train_csv": table(), "dev_csv": "sentence\nHe left.\n"}, "dev.csv has one column")])
def test_a_folder_that_is_unclear(cola, files, message):
    refused(cola("data", folder(**files)), message)

# What is in memory

def test_frames_and_rows_by_the_same_rules():
    rows = frame(("Review", "sentiment"), ("negative", "positive"))
    for train in (rows, rows.to_dict("records"), rows.to_dict("list")):
        corpus = corpus_of({"train": train, "validation": rows, "test": rows[["Review"]]})
        assert [*corpus.splits] == ["train", "dev"]
        assert corpus.names == ("negative", "positive")
        assert corpus.train.label.tolist() == [label for _, label in TEN]
        assert corpus.notes == ("left out: mine, test has one column, 'Review'; sentences and "
                                "labels are needed (cola score judges sentences without labels)",)
    with pytest.raises(ColaError, match="mine has two splits for dev; remove one"):
        corpus_of({"train": rows, "dev": rows, "validation": rows})
    with pytest.raises(ColaError, match="mine, train: two columns are called 'label'"):
        corpus_of({"train": pd.DataFrame([["a", 1, 0]], columns=["text", "label", "label"])})
    numbered = corpus_of({"train": pd.DataFrame(TEN)}, columns={"text": "0", "label": "1"})
    assert numbered.train.sentence.tolist() == [sentence for sentence, _ in TEN]

def test_no_sentence_is_on_both_sides_and_both_labels_are():
    sentences = pd.DataFrame({"sentence": [f"S{number % 37}." for number in range(200)],
                              "label": [int(number % 37 > 2) for number in range(200)]})
    for seed in range(20):
        kept, held_out = split_sentences(sentences, .1, seed, groups=sentences.sentence)
        assert not {*kept.sentence} & {*held_out.sentence}
        assert kept.label.nunique() == held_out.label.nunique() == 2
        both = pd.concat([kept, held_out]).sort_values("sentence")
        assert both.sentence.tolist() == sorted(sentences.sentence)

# From a table to a judge

FILES = {"spam.csv": (table(("message", "label"), ("ham", "spam"), ";", rows=TEN * 2), []),
         "urteil.tsv": (table(("Satz", "Urteil"), ("schlecht", "gut"), "\t"),
                        ["--positive", "gut", "--text", "Satz", "--label", "Urteil"]),
         "zeros.csv": (table(("text", "label")), [])}
NAMES = {"spam.csv": ("ham", "spam"), "urteil.tsv": ("schlecht", "gut"), "zeros.csv": ("0", "1")}

@pytest.mark.parametrize("name", FILES)
def test_the_names_travel(cola, name):
    content, options = FILES[name]
    write(name, content)
    zero, one = NAMES[name]
    out, error, code = cola("train", "--data", name, *options, "--model", "tiny", "--epochs", "1",
                            "--out", "run")
    assert code == 0, error
    assert f"judged_{one}" in out and "taken: " in out
    config = json.loads(Path("run/model/config.json").read_text())
    assert config["id2label"] == {"0": zero, "1": one}
    card = Path("run/model/README.md").read_text()
    assert f"*{one}* (label 1)" in card and "acceptab" not in card
    page = Path("run/report.html").read_text()
    assert f"judged_{one}" in page and "acceptab" not in page
    assert cola("predict", "run", "He left.")[0].split()[1] in (zero, one)
    out, error, code = cola("evaluate", "run", "--data", name, *options)
    assert code == 0 and f"judged_{one}" in out, error
    column = [] if name != "urteil.tsv" else ["--column", "Satz"]
    out, error, code = cola("score", "run", name, "scored.jsonl", *column)
    assert code == 0, error
    verdicts = {row["predicted"] for row in map(
        json.loads, Path("scored.jsonl").read_text().splitlines())}
    assert verdicts <= ({zero, one} if one != "1" else {0, 1})

def test_evaluate_leaves_the_training_set_out_unless_asked(cola, model):
    write("splits.csv", split_by("train", "train", "dev", "dev"))
    assert "dev" in (out := cola("evaluate", model, "--data", "splits.csv")[0])
    assert "train  " not in out
    assert "train" in cola("evaluate", model, "--data", "splits.csv", "--split", "train")[0]
    refused(cola("evaluate", model, "--data", "splits.csv", "--split", "test"),
            "splits.csv has no split 'test'; it has train, dev")
    write("train.csv", split_by("train"))
    refused(cola("evaluate", model, "--data", "train.csv"), "no split but train; add --split train")

def test_what_the_model_does_not_see_is_said(cola, model):
    long = [(f"{sentence} " * 30, label) for sentence, label in TEN]
    write("long.csv", table(rows=long))
    write("chinese.csv", table(rows=[("猫" * (number + 2), label) for number, (_, label)
                                     in enumerate(TEN)]))
    for name, message in (("long.csv", "sentences have more than 64 tokens and are cut"),
                          ("chinese.csv", "sentences are of unknown tokens only: this tokenizer")):
        assert message in cola("evaluate", model, "--data", name)[0]
    assert cola("train", "--data", "long.csv", "--model", "tiny", "--epochs", "1",
                "--out", "run")[2] == 0
    assert json.loads(Path("run/metrics.json").read_text())["lost"]

# Scoring

class Counter:
    "A judge that knows nothing and notes what it is asked"
    fingerprint = "none"
    def __init__(self): self.asked = []
    def predict_probability(self, sentences, batch_size=64, done=None):
        self.asked += sentences
        return np.full(len(sentences), .25), np.zeros(len(sentences), dtype=bool)

JUST = [sentence for sentence, _ in TEN]
LONE = "".join(f"{sentence}\n" for sentence in JUST if "," not in sentence)
NO_COMMA = [sentence for sentence in JUST if "," not in sentence]

@pytest.mark.parametrize("name, content, column, sentences, taken", [
    ("a.txt", LONE, None, NO_COMMA, ""),
    ("a.txt.gz", gzip.compress(LONE.encode()), None, NO_COMMA, ""),
    ("header.csv", "sentence\n" + LONE, None, NO_COMMA, ""),
    ("satz.csv", "Satz\n" + LONE, "Satz", NO_COMMA, "Satz → sentence"),
    ("no_header.csv", LONE.replace(";", ""), None, [s.replace(";", "") for s in NO_COMMA],
     "no header; column 1 → sentence"),
    ("spam.csv", table(header=False), None, JUST, "no header; column 1 → sentence"),
    ("semicolon.csv", "id;text\n" + "".join(f"{n};{quote(s, ';')}\n" for n, s in enumerate(JUST)),
     None, JUST, "text → sentence"),
    ("utf16.csv", table().encode("utf-16"), None, JUST, ""),
    ("review.csv", table(("review", "stars")), None, JUST, "review → sentence"),
    ("raw.tsv", RAW, None, JUST, "no header; quotes are text; column 1 → sentence"),
    ("pandas.tsv", frame(("text", "label")).to_csv(sep="\t", index=False), None, JUST,
     "quotes around fields; text → sentence"),
    ("r.tsv", '"sentence"\t"label"\n' + R_QUOTED, None, JUST,
     "quotes around fields; sentence → sentence"),
    ("array.json", json.dumps(frame().to_dict("records")), None, JUST, ""),
    ("columns.json", frame().to_json(), None, JUST, ""),
    ("late.jsonl", '{"note": 1}\n' + JSONL, None, JUST, ""),
    ("other.jsonl", JSONL.replace('"sentence"', '"review"'), None, JUST, "review → sentence"),
    ("chosen.csv", table(("Satz", "Wert")), "Satz", JUST, "Satz → sentence"),
    ("packed.zip", zipped(inner_csv=table()), None, JUST, ""),
    ("sheet.xlsx", None, None, JUST, ""),
    ("table.parquet", None, None, JUST, "")])
def test_scoring_asks_for_the_sentences_and_nothing_else(
        tmp_path, monkeypatch, name, content, column, sentences, taken):
    monkeypatch.chdir(tmp_path)
    write(name, content)
    for kind in ("csv", "jsonl"):
        judge = Counter()
        done = score_file(judge, name, f"out.{kind}", column, progress=False)
        assert judge.asked == sentences
        assert done["rows"] == len(sentences) + done["empty"]
        assert done["taken"] == ([taken] if taken else [])

def test_what_scoring_took_is_said_on_standard_error(cola, model, tmp_path, monkeypatch):
    write(tmp_path/"a.csv", table(header=False))
    out, error, code = cola("score", model, "a.csv", "b.csv")
    assert (code, out) == (0, "scored in b.csv: 10 rows\n")
    assert error.splitlines()[-1] == "taken: no header; column 1 → sentence"
    given = io.BytesIO(table(("text", "b")).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given))
    out, error, code = cola("score", model, "-", "-", "--format", "csv")
    assert code == 0 and out.startswith("text,b,probability")
    assert error.splitlines()[-1] == "taken: text → sentence"
    for name, columns in (("a", "text"), ("b", "review"), ("c", "text"), ("d", "sentence")):
        (tmp_path/"shards").mkdir(exist_ok=True)
        write(tmp_path/f"shards/{name}.csv", table((columns, "label")))
    out, error, code = cola("score", model, "shards", "scored", "--engine", "process")
    assert code == 0 and [line for line in error.splitlines() if line.startswith("taken: ")] == [
        "taken: text → sentence (a.csv and 1 more)", "taken: review → sentence (b.csv)"]

def test_what_was_taken_of_pairs_is_said(cola, model, tmp_path):
    write(tmp_path/"a.csv", "good,bad\nHe left.,He leave.\nShe sings.,She sing.\n")
    write(tmp_path/"b.csv", table(header=False))
    said = {"a.csv": "taken: good → good, bad → bad",
            "b.csv": "taken: no header; column 1 → sentence, column 2 → label; "
                     "two rows are a pair"}
    for name, line in said.items():
        out, error, code = cola("pairs", model, name)
        assert code == 0 and out.splitlines()[0] == line, error

@pytest.mark.parametrize("name, content, message", [
    ("unclear.csv", "dies\ndas\n", "unclear.csv line 1: names of columns, or a row?"),
    ("two.csv", "id,words\n1,He left.\n", "two.csv has no column 'sentence'; it has 'id', 'words'"),
    ("both.csv", "text,sentence\na,b\n", "choose with --column text or --column sentence"),
    ("comma.csv", "Well, he left.\nHe left.\n", "comma.csv has no header, and what its columns"),
    ("none.jsonl", '{"note": 1}\n{"other": 2}\n', "none.jsonl has no column 'sentence'"),
    ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "its name does not say what it is"),
    ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a workbook of an old Excel")])
def test_scoring_refuses_what_it_can_not_tell(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    write(name, content)
    with pytest.raises(ColaError) as found:
        score_file(Counter(), name, "out.csv", progress=False)
    assert message in str(found.value)
    for out in ("out.xlsx", "out.json", "out.csv.gz"):
        with pytest.raises(ColaError, match="scores are written as .txt, .csv"):
            score_file(Counter(), "a.txt", out, format="text", progress=False)

def test_a_lone_end_of_a_line_stays_inside_its_row(tmp_path):
    (tmp_path/"a.jsonl").write_text('{"text":"She left.\\rHe stayed."}\n{"text":"Plain."}\n')
    with pytest.raises(ColaError, match="line 1: a tab or a line end inside a field, which text"):
        score_file(Counter(), tmp_path/"a.jsonl", tmp_path/"b.txt", progress=False)
    score_file(Counter(), tmp_path/"a.jsonl", tmp_path/"b.csv", progress=False)
    assert pd.read_csv(tmp_path/"b.csv").text.tolist() == ["She left.\rHe stayed.", "Plain."]

# Pairs

def test_pairs_of_other_benchmarks(tmp_path):
    climp = "".join(f"{n},anaphor,anaphor_agreement,王皓治疗过他自己{n},{1 - n % 2}\n"
                    for n in range(20))
    files = {"climp.csv": ",0,1,2,3\n" + climp,
             "blimp_nl.csv": "phenomenon,sentence_good,sentence_bad\nx,Hij komt.,Hij komen.\n" * 1,
             "other.tsv": "good_sentence\tbad_sentence\nHij komt.\tHij komen.\n"}
    for name, content in files.items():
        (tmp_path/name).write_text(content, encoding="utf-8")
        pairs = load_pairs(tmp_path/name)
        assert len(pairs) == (10 if name == "climp.csv" else 1)
        assert (pairs.good != pairs.bad).all()
    assert set(load_pairs(tmp_path/"blimp_nl.csv").phenomenon) == {"x"}

# The command line

@pytest.mark.parametrize("arguments, message", [
    (["predct", "run", "He left."], "there is no command 'predct'; did you mean cola predict?"),
    (["xyz"], "there is no command 'xyz'; there are train, evaluate"),
    (["train"], "--out"),
    (["train", "--out", "run", "--epochs", "many"], "epochs"),
    (["train", "--out", "run", "--epoch", "2"], "--epoch"),
    (["train", "--out", "run", "--epoch", "2"], "did you mean --epochs?; see cola train --help"),
    (["score", "run"], "Missing from cola score:")])
def test_a_mistake_in_the_arguments_is_one_line(cola, arguments, message):
    refused(cola(*arguments), message)

def test_the_version(cola):
    assert cola("--version") == (f"cola_nbdev {cli.__version__}\n", "", 0)

# What is written is read, or refused

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1,
               max_size=20).filter(lambda sentence: sentence.strip() != "")
name = st.sampled_from(["sentence", "text", "review", "Satz"])
WRITERS = {
    "csv": lambda table, path: table.to_csv(path, index=False),
    "index.csv": lambda table, path: table.to_csv(path),
    "semicolon.csv": lambda table, path: table.to_csv(path, index=False, sep=";"),
    "tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "bar.csv": lambda table, path: table.to_csv(path, index=False, sep="|"),
    "windows.csv": lambda table, path: table.to_csv(path, index=False, lineterminator="\r\n"),
    "utf16.csv": lambda table, path: table.to_csv(path, index=False, encoding="utf-16"),
    "all.csv": lambda table, path: table.to_csv(path, index=False, quoting=1),
    "none.csv": lambda table, path: table.to_csv(path, index=False, header=False),
    "csv.gz": lambda table, path: table.to_csv(path, index=False),
    "jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    "records.json": lambda table, path: table.to_json(path, orient="records"),
    "columns.json": lambda table, path: table.to_json(path),
    "parquet": lambda table, path: table.to_parquet(path)}

@settings(max_examples=300 if LONG else 25, deadline=None, database=None, derandomize=not LONG,
          suppress_health_check=[*HealthCheck], print_blob=False)
@given(sentences=st.lists(text, min_size=4, max_size=8, unique=True), column=name,
       words=st.sampled_from([(0, 1), ("0", "1"), (False, True), ("ham", "spam"), ("no", "yes")]))
def test_what_is_written_is_read_or_refused(sentences, column, words):
    labels = [number % 2 for number in range(len(sentences))]
    table = pd.DataFrame({column: sentences, "label": [words[label] for label in labels]})
    with tempfile.TemporaryDirectory() as scratch:
        for kind, write in WRITERS.items():
            path = Path(scratch)/f"a.{kind}"
            try: write(table, path)
            except ImportError: continue
            columns = None if kind == "none.csv" else {"text": column}
            try: found = read_sentences(path, columns).sentences
            except ColaError as error:
                assert "\n" not in str(error)
                continue
            assert found.label.tolist() == labels, kind
            assert found.sentence.tolist() == sentences, kind

def test_plain_tables_are_not_refused(tmp_path):
    "That the test above is not passed by refusing everything"
    for kind, write in WRITERS.items():
        write(frame(), tmp_path/f"a.{kind}")
        assert read_sentences(tmp_path/f"a.{kind}").sentences.sentence.tolist() == JUST, kind

def test_a_judge_can_be_copied_and_pickled(judge):
    import copy
    import pickle
    expected = judge("He left.").probability[0]
    for again in (copy.deepcopy(judge), pickle.loads(pickle.dumps(judge))):
        assert isinstance(again, Judge) and again("He left.").probability[0] == expected

def test_letters_that_no_font_has_give_no_warning(tmp_path, recwarn):
    letters = ["量词", "शब्द", "plain"]
    predictions = pd.DataFrame([
        {"split": "dev", "sentence": f"{letter} {number}", "label": number % 2,
         "predicted": number % 2, "logit": 1., "probability": .7, "sentence_source": "web",
         "label_notes": "", "phenomenon": letter} for letter in letters for number in range(12)])
    Report(predictions, {"names": ["垃圾", "$pam$"]}).save(tmp_path)
    assert not [str(each.message) for each in recwarn if "Glyph" in str(each.message)]
    assert (tmp_path/"mcc.png").exists() and "量词" in (tmp_path/"report.html").read_text()
