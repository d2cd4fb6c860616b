"""A small model learns what a large one thinks: what passes between them, and what must not."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cola_nbdev.basics import ColaError
from cola_nbdev.data import load_corpus
from cola_nbdev.distributed import Processes
from cola_nbdev.experiments import distill, unlabelled_sentences
from cola_nbdev.model import tiny_model
from cola_nbdev.packing import Packed, pack_batch
from cola_nbdev.settings import Config
from cola_nbdev.training import TrainingData, settings_of, train

CONFIG = Config(model="tiny", epochs=1, validation_fraction=.2)

def small():
    demo = load_corpus("demo")
    return replace(demo, splits={split: frame[:120] for split, frame in demo.splits.items()})

def lesson(sentences, teacher="somebody"):
    return pd.DataFrame({"sentence": list(sentences), "label": np.linspace(.1, .9, len(sentences)),
                         "teacher": teacher})

@pytest.mark.parametrize("weight", [1., 3.])
@pytest.mark.parametrize("smoothing", [0., .2])
def test_a_probability_is_a_label_that_is_partly_each(weight, smoothing):
    torch.manual_seed(0)
    packed = Packed(tiny_model().eval(), smoothing, weight)
    ids = [2, 7, 8, 3]
    def loss(label): return packed(**pack_batch([(ids, label)])).item()
    unweighted = Packed(packed.model, smoothing)
    apart = [unweighted(**pack_batch([(ids, label)])).item() for label in (0, 1)]
    for share in (0., .25, 1.):
        mixed = (1 - share) * apart[0] + share * apart[1]
        assert loss(share) == pytest.approx(((1 - share) * weight + share) * mixed, rel=1e-5)
    assert loss(1) == pytest.approx(loss(1.), rel=1e-6)
    assert loss(0) == pytest.approx(loss(0.), rel=1e-6)

def test_what_is_held_out_is_not_taught():
    sentences = small().train
    taught = lesson([*sentences.sentence, "A sentence of nobody's."])
    data = TrainingData(sentences, CONFIG, Processes("no"), taught)
    learned, held_out = {*data.train.sentence}, {*data.held_out.sentence}
    assert not learned & held_out and learned | held_out == {*taught.sentence}
    assert data.held_out.label.isin([0, 1]).all()  # the best epoch goes by the labels
    assert data.train.label.between(.1, .9).all()
    assert data.steps == -(-len(data.train) // CONFIG.batch_size)

def test_it_learns_from_the_lesson_and_not_from_the_labels():
    sentences = small().train
    settings = replace(CONFIG, epochs=6, learning_rate=3e-3)
    for wish in (0., 1.):
        taught = lesson(sentences.sentence).assign(label=wish)
        run = train(sentences, settings, progress=False, taught=taught)
        assert run.history[-1]["validation_acceptable"] == wish

def test_a_run_resumes_with_the_same_lesson_only(tmp_path):
    sentences = small().train
    taught = lesson(sentences.sentence)
    other = taught.assign(label=taught.label + 1e-9)  # a probability of another machine
    known = settings_of(sentences, CONFIG, taught)
    assert settings_of(sentences, CONFIG, other) == known
    assert settings_of(sentences, CONFIG, taught[:-1]) != known
    assert settings_of(sentences, CONFIG, lesson(sentences.sentence, "another")) != known
    assert settings_of(sentences, CONFIG) != known
    train(sentences, CONFIG, tmp_path/"run", progress=False, taught=taught)
    with pytest.raises(ColaError, match="belongs to another run: taught"):
        train(sentences, CONFIG, tmp_path/"run", resume=True, progress=False)

def test_a_file_without_labels_is_read(tmp_path):
    text = tmp_path/"text.txt"
    text.write_bytes("He left.\n\n   \nShe \xe9tait.\n".encode("latin-1"))
    assert unlabelled_sentences(text) == (["He left."], "3 rows passed over")
    table = tmp_path/"table.csv"
    table.write_text('sentence,other\n"He left, at last.",1\n,2\nShe stays.,3\n')
    assert unlabelled_sentences(table) == (
        ["He left, at last.", "She stays."], "1 rows passed over")
    table.write_text("id,review\n1,He left at last.\n2,She stays here.\n")
    assert unlabelled_sentences(table)[1] == "review → sentence; 0 rows passed over"

def test_the_command(cola, model, tmp_path):
    (tmp_path/"more.txt").write_text("He left.\n\n")
    demo = small()
    rows = [frame.assign(split=split) for split, frame in demo.splits.items()]
    pd.concat(rows).to_csv(tmp_path/"small.csv", index=False)
    out, error, code = cola("distill", "--teacher", model, model, "--data", "small.csv", "--model",
                            "tiny", "--epochs", 1, "--out", "student", "--unlabelled", "more.txt")
    assert code == 0, error
    assert "1 sentences from more.txt; 1 rows passed over" in out
    assert (tmp_path/"student"/"model"/"model.safetensors").exists()
    _, error, code = cola("distill", "--teacher", "nowhere", "--out", "other", "--model", "tiny")
    assert code == 2 and "nowhere" in error and error.count("\n") == 1

def test_teachers_with_other_labels_are_refused(model):
    corpus = replace(small(), names=("ham", "spam"))
    with pytest.raises(ColaError, match="the corpus ham from spam; choose another teacher"):
        distill(corpus, [model], CONFIG)

def test_a_student_opens_in_a_bare_pipeline(model, tmp_path):
    from transformers import pipeline
    report = distill(small(), [model], CONFIG, tmp_path/"student", progress=False)
    bare = pipeline("text-classification", str(tmp_path/"student"/"model"))
    row = report.predictions.iloc[0]
    assert bare(row.sentence)[0]["label"] == ("unacceptable", "acceptable")[row.predicted]
