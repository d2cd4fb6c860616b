"""Any checkpoint: a verdict depends on its sentence alone, and transformers' pipeline agrees."""
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

from cola_nbdev.basics import ColaError
from cola_nbdev.data import Corpus, load_corpus
from cola_nbdev.model import load_model
from cola_nbdev.prediction import Judge, fine_tune, save_judge
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import find_model, tiny_tokenizer
from cola_nbdev.training import train

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = tiny_tokenizer()
PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": 66}
LONG = {**PLAIN, "max_position_embeddings": 130}
GPT = {"n_positions": 66, "n_embd": 32, "n_layer": 2, "n_head": 2}
CAUSAL = {**PLAIN, "num_key_value_heads": 2}
SENTENCES = ["The pilot sleeps.", "He left.", "Where will the farmers sleep?", "Him",
             "The teachers that the pilot knows sleep, and the farmer sleeps.", "A b c d e f."]

ARCHITECTURES = {  # name → its configuration; what is not said is the same for all
    "albert": (tf.AlbertConfig, {**PLAIN, "embedding_size": 16}),
    "bert": (tf.BertConfig, PLAIN),
    "deberta": (tf.DebertaConfig, {**PLAIN, "relative_attention": True,
                                   "pos_att_type": ["p2c", "c2p"]}),
    "deberta-v2": (tf.DebertaV2Config, {**PLAIN, "relative_attention": True,
                                        "pos_att_type": ["p2c", "c2p"]}),
    "distilbert": (tf.DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64,
                                         "max_position_embeddings": 66}),
    "electra": (tf.ElectraConfig, {**PLAIN, "embedding_size": 16}),
    "funnel": (tf.FunnelConfig, {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32,
                                 "n_head": 2, "d_head": 16, "d_inner": 64}),
    "gpt2": (tf.GPT2Config, GPT),
    "gpt_neo": (tf.GPTNeoConfig, {"hidden_size": 32, "num_layers": 2, "num_heads": 2,
                                  "max_position_embeddings": 66,
                                  "attention_types": [[["global"], 2]]}),
    "llama": (tf.LlamaConfig, CAUSAL),
    "longformer": (tf.LongformerConfig, {**LONG, "attention_window": 16}),
    "modernbert": (tf.ModernBertConfig, {**PLAIN, "bos_token_id": 2, "eos_token_id": 3,
                                         "cls_token_id": 2, "sep_token_id": 3}),
    "mpnet": (tf.MPNetConfig, PLAIN),
    "openai-gpt": (tf.OpenAIGPTConfig, GPT),
    "opt": (tf.OPTConfig, {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                           "ffn_dim": 64, "max_position_embeddings": 66,
                           "word_embed_proj_dim": 32}),
    "qwen2": (tf.Qwen2Config, CAUSAL),
    "roberta": (tf.RobertaConfig, PLAIN),
    "roformer": (tf.RoFormerConfig, {**PLAIN, "embedding_size": 32}),
    "squeezebert": (tf.SqueezeBertConfig, {**PLAIN, "embedding_size": 32, "q_groups": 1}),
    "xlnet": (tf.XLNetConfig, {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64})}

def make(name, folder, **changed):
    "Save a small model of an architecture, with random weights that tell sentences apart"
    kind, options = ARCHITECTURES[name]
    options = {"vocab_size": len(TOKENIZER) + 8, "pad_token_id": 0, "num_labels": 2, **options}
    torch.manual_seed(0)
    config = kind(**{key: value for key, value in {**options, **changed}.items()
                     if value is not None})
    model = tf.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1: weights.mul_(4)  # or all sentences are much alike
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder

def by_pipeline(folder):
    "The probability of label 1 of each sentence, asked one by one"
    pipe = tf.pipeline("text-classification", model=str(folder), top_k=None)
    return [{each["label"]: each["score"] for each in pipe([sentence])[0]}["LABEL_1"]
            for sentence in SENTENCES]

def ask(judge, batch_size=64): return judge.predict_probability(SENTENCES, batch_size)[0]

@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_by_one_is_all_at_once_is_the_pipeline(tmp_path, name):
    judge = Judge(make(name, tmp_path))
    together = ask(judge)
    assert np.ptp(together) > 1e-4, "all sentences are judged alike: nothing is tested"
    assert np.abs(ask(judge, 1) - together).max() < 1e-5
    assert np.abs(by_pipeline(tmp_path) - together).max() < 1e-5

def test_the_side_of_the_padding_does_not_matter(tmp_path):
    expected = ask(Judge(make("bert", tmp_path/"right")))
    for name in ("bert", "roberta", "xlnet"):
        folder = make(name, tmp_path/name)
        right = ask(Judge(folder))
        TOKENIZER.padding_side = "left"
        try: TOKENIZER.save_pretrained(folder)
        finally: TOKENIZER.padding_side = "right"
        assert np.abs(ask(Judge(folder)) - right).max() < 1e-6
        if name == "bert": assert np.abs(right - expected).max() < 1e-6

def test_a_padding_token_that_only_the_tokenizer_knows(tmp_path):
    for name in ("gpt2", "llama"):
        expected = ask(Judge(make(name, tmp_path/f"{name}-pad")))
        found = ask(Judge(make(name, tmp_path/name, pad_token_id=None)))
        assert np.abs(found - expected).max() < 1e-5

@pytest.mark.parametrize("name", ["xlnet", "gpt2", "electra", "modernbert"])
def test_what_is_trained_and_saved_says_the_same_in_the_pipeline(tmp_path, name):
    folder = make(name, tmp_path/"base", pad_token_id=None if name == "gpt2" else 0,
                  problem_type="multi_label_classification")
    run = train(load_corpus("demo").train[:64], Config(model=str(folder), epochs=1),
                progress=False)
    judge = Judge(save_judge(run, tmp_path/"model"))
    pipe = tf.pipeline("text-classification", model=str(tmp_path/"model"), top_k=None)
    for sentence, probability in zip(SENTENCES, ask(judge)):
        scores = {each["label"]: each["score"] for each in pipe([sentence])[0]}
        assert scores["acceptable"] == pytest.approx(probability, abs=1e-5)

def test_the_command_for_a_modernbert_works(tmp_path, cola):
    "The one on the page in_2026, with a folder instead of the Hub, few sentences, and one epoch"
    page = (ROOT/"nbs/in_2026.ipynb").read_text(encoding="utf-8")
    cells = [cell["source"] for cell in json.loads(page)["cells"]]
    found = re.search(r"^cola (train .*?)\n```", "\n".join(map("".join, cells)), re.M | re.S)
    (tmp_path/"few").mkdir()
    for split, name in {"train": "train", "in_domain_dev": "dev"}.items():
        rows = load_corpus("demo").splits[split][:64]
        rows[["sentence", "label"]].to_csv(tmp_path/f"few/{name}.csv", index=False)
    changed = {"cola": "few", "5": "1", "bf16": "no", "runs/modernbert": "out",
               "answerdotai/ModernBERT-base": str(make("modernbert", tmp_path/"modernbert"))}
    arguments = shlex.split(found[1].replace("\\\n", " "))
    assert changed.keys() <= set(arguments), "the command of the page has other arguments"
    printed, said, code = cola(*(changed.get(each, each) for each in arguments))
    assert not code, said
    assert "epoch 1: " in printed + said and len(Judge(tmp_path/"out")("He left.")) == 1

def test_half_precision_is_trained_in_full_and_saved_as_it_came(tmp_path):
    half = tf.AutoModelForSequenceClassification.from_pretrained(
        make("bert", tmp_path/"full"), dtype=torch.bfloat16)
    half.save_pretrained(tmp_path/"half")
    TOKENIZER.save_pretrained(tmp_path/"half")
    assert load_model(tmp_path/"half").dtype == torch.float32
    few = Corpus("few", {split: rows[:80] for split, rows in load_corpus("demo").splits.items()})
    report = fine_tune(few, Config(model=str(tmp_path/"half"), epochs=1),
                       tmp_path/"run", progress=False)
    judge = Judge(tmp_path/"run")
    assert judge.model.dtype == torch.bfloat16
    shown = report.predictions.head(20)
    asked = judge.predict_probability(shown.sentence)[0]
    assert np.abs(asked - shown.probability).max() < .02  # bf16 has three digits

@pytest.mark.parametrize("changed, message", [
    ({"num_labels": 3}, "has 3 labels, where two labels are needed; take its base model"),
    ({"num_labels": 1}, "has a regression head, where two labels are needed; take its base model")])
def test_another_head_is_refused(tmp_path, changed, message):
    make("bert", tmp_path, **changed)
    with pytest.raises(ColaError, match=message): Judge(tmp_path)
    with pytest.raises(ColaError, match=message): load_model(tmp_path)

def test_labels_that_do_not_exclude_each_other(tmp_path):
    make("bert", tmp_path, problem_type="multi_label_classification")
    with pytest.raises(ColaError, match="is for multi_label_classification"): Judge(tmp_path)
    assert load_model(tmp_path).config.problem_type is None

def test_paths_and_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("bert", tmp_path/"runs"/"demo"/"model")
    assert find_model("runs/demo") == "runs/demo/model"  # the folder of a run
    assert load_model("runs/demo").config.model_type == "bert"
    for path, hint in (("runs/dmo", "did you mean runs/demo?"), ("./other", "check the path"),
                       ("runs/demo/mdel", "did you mean runs/demo/model?")):
        with pytest.raises(ColaError, match=f"there is no folder {path}; .*") as found:
            load_model(path)
        assert hint in str(found.value)
    with pytest.raises(ColaError, match="is a file; give the folder of the model"):
        load_model("runs/demo/model/config.json")
    with pytest.raises(ColaError, match="cannot load the model 'someone/some-model'"):
        load_model("someone/some-model")
