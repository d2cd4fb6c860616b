"""How long does BERT-base take for 4 epochs of CoLA on a GPU? Trainer and our `train`, bf16: python benchmarks/gpu.py [--quick]

Without a CUDA device nothing is measured and nothing is written (--tiny runs anywhere: a toy network, only to see that the benchmark works).
Timed is all of it, from the sentences to the trained network: loading, tokenizing, compiling if need be, training. The weights are random, which
takes the same time. Where CoLA is not at hand, the demo corpus is repeated to as many sentences; the result says so.
"""
import tempfile
import time

import side_by_side
import torch

GLUE, DYNAMIC, REPLAYED = "Trainer as run_glue sets it", "Trainer, dynamic padding", "ours, steps replayed (CUDA graphs)"
SETTINGS = {"full": {"sentences": 8551, "epochs": 4, "rounds": 3}, "quick": {"sentences": 1024, "epochs": 1, "rounds": 1}, "tiny": {"sentences": 32, "epochs": 1, "rounds": 1}}
BERT_BASE, TOY = {}, {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}

def save_random(folder, shape):
    "Save a BERT with random weights and a tokenizer of its vocabulary"
    from transformers import BertConfig, BertForSequenceClassification

    from cola_nbdev.tokenization import load_tokenizer
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(num_labels=2, **shape)).save_pretrained(folder)
    load_tokenizer("minilm").save_pretrained(folder) # the same 30,522 pieces as BERT-base

def run_trainer(folder, sentences, epochs, pad_to=None):
    "Train with Trainer in bf16, all else as it comes; the mean loss"
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments, default_data_collator

    from cola_nbdev.model import load_model
    from cola_nbdev.tokenization import load_tokenizer
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer(list(sentences.sentence), truncation=True, **({"padding": "max_length", "max_length": pad_to} if pad_to else {"max_length": 64}))
    examples = [dict(zip([*encoded, "label"], row)) for row in zip(*encoded.values(), map(int, sentences.label), strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(scratch, per_device_train_batch_size=32, num_train_epochs=epochs, learning_rate=2e-5, bf16=True, save_strategy="no", report_to="none",
                                     disable_tqdm=True, use_cpu=not torch.cuda.is_available())
        trainer = Trainer(load_model(folder), settings, train_dataset=examples, data_collator=default_data_collator if pad_to else DataCollatorWithPadding(tokenizer))
        trainer.remove_callback(PrinterCallback)
        return trainer.train().training_loss

def run_ours(folder, sentences, epochs, graphs=False):
    "Train with `train` in bf16, each step is_distributed or replayed; the mean loss"
    from cola_nbdev.settings import Config
    from cola_nbdev.training import train
    config = Config(model=folder, epochs=epochs, learning_rate=2e-5, mixed_precision="bf16", validation_fraction=0, cuda_graphs=graphs)
    history = train(sentences, config, progress=False).history
    return sum(row["training_loss"] for row in history) / epochs

def competitors(settings):
    "Name → function that trains and returns seconds; `losses`, if given, gets the mean loss of the training"
    rows = side_by_side.corpus().train
    sentences = rows.iloc[[i % len(rows) for i in range(settings["sentences"])]].reset_index(drop=True)
    functions = {GLUE: lambda *given: run_trainer(*given, pad_to=128), DYNAMIC: run_trainer, "ours": run_ours, REPLAYED: lambda *given: run_ours(*given, graphs=True)}
    def timed(name):
        started = time.perf_counter()
        loss = functions[name](settings["folder"], sentences, settings["epochs"])
        if torch.cuda.is_available(): torch.cuda.synchronize()
        settings.get("losses", {})[name] = loss
        return time.perf_counter() - started
    return {name: lambda name=name: timed(name) for name in functions}

def main():
    size = side_by_side.chosen_size()
    settings, losses = SETTINGS[size], {}
    if size != "tiny" and not torch.cuda.is_available(): return print("GPU: there is none here, so nothing is measured")
    print(f"GPU, {size}: {settings['rounds']} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        save_random(folder, TOY if size == "tiny" else BERT_BASE)
        warm_up = competitors({"folder": folder, "sentences": 64, "epochs": 1})
        rounds = side_by_side.interleave(competitors(settings | {"folder": folder, "losses": losses}), settings["rounds"], warm_up)
    side_by_side.result("gpu", size, title="GPU", corpus=side_by_side.corpus().name, unit="seconds in all", settings=settings, rounds=rounds, mean_losses=losses,
        question=f"How long does BERT-base take for {settings['epochs']} epoch{'s' * (settings['epochs'] > 1)} of {settings['sentences']:,} sentences of {side_by_side.corpus_in_words()}, in bf16, batches of 32?",
        notes=["Mean loss over the training, each with its own order and dropout: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) + "."])

if __name__ == "__main__": main()
