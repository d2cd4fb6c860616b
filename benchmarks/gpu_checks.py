"""Does a captured step in bf16 compute what a padded model in fp32 computes? For gpu.py."""
import signal
import tempfile
from functools import partial
from unittest.mock import patch

import torch
from torch.nn.functional import cross_entropy

from cola_nbdev import training
from cola_nbdev.model import load_model
from cola_nbdev.packing import GraphedStep, Packed, pack_batch
from cola_nbdev.settings import Config
from cola_nbdev.tokenization import LengthSampler, pad_batch

STEPS = 50

def draw(examples, labels, steps=STEPS):
    "The examples of the first batches, drawn as `train` draws them for CUDA graphs"
    sampler = LengthSampler([len(ids) for ids in examples], 32, window=1)
    batches = [batch for batch, _ in zip(sampler, range(steps), strict=False)]
    return [[(examples[row], int(labels[row])) for row in batch] for batch in batches]

def to_gpu(batch): return {name: values.cuda() for name, values in batch.items()}

def trainer_of(folder, dropout, rate):
    "A model on the GPU, ready to train, and its AdamW"
    model = load_model(folder).train()
    torch.nn.Module.cuda(model)  # called so because transformers' own `cuda` has no types
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout): module.p = dropout
    return model, torch.optim.AdamW(model.parameters(), lr=rate, fused=True)

def finish(model, optimizer, loss):
    "Backward, clipping and AdamW"
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()

def padded_losses(folder, batches, rate, bf16=False):
    "The losses of transformers' own model, padded, without dropout"
    model, optimizer = trainer_of(folder, 0.0, rate)
    losses = []
    for examples in batches:
        batch = to_gpu(pad_batch(examples))
        labels = batch.pop("labels")
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            logits = model(**batch).logits
        losses.append(finish(model, optimizer, cross_entropy(logits.float(), labels)))
    return torch.stack(losses)

def our_losses(folder, batches, rate, captured=True, dropout=0.0):
    "The losses of ours, packed, in bf16, and the state of the random numbers after them"
    model, optimizer = trainer_of(folder, dropout, rate)
    packed = Packed(model)
    longest = max(len(ids) for examples in batches for ids, _ in examples)

    def step(batch):
        with torch.autocast("cuda", torch.bfloat16):
            loss = packed(**batch)
        return finish(model, optimizer, loss)

    run = GraphedStep(step, optimizer) if captured else step
    torch.manual_seed(1)
    losses = [run(to_gpu(pack_batch(examples, multiple=128, longest=longest)))
              for examples in batches]
    return torch.stack(losses), torch.cuda.get_rng_state()

def difference(found, reference):
    "The largest and the mean relative difference of two rows of losses"
    apart = ((found - reference).abs() / reference.abs()).double()
    return {"largest": apart.max().item(), "mean": apart.mean().item()}

def resumed_equals_whole(folder, sentences):
    "The largest difference of a weight: one run stopped after 25 steps and resumed, one not"
    config = Config(model=folder, epochs=1, mixed_precision="bf16", validation_fraction=0)
    train = partial(training.train, sentences[:32 * 40], config, progress=False)
    record, stop_at = training.TrainState.record, 25

    def stopping(state, loss):
        record(state, loss)
        if state.steps_done == stop_at: signal.raise_signal(signal.SIGTERM)

    whole = train().model.state_dict()
    with tempfile.TemporaryDirectory() as runs:
        with patch.object(training.TrainState, "record", stopping):
            assert train(folder=runs).saved == stop_at
        resumed = train(folder=runs, resume=True).model.state_dict()
    return max((whole[name] - resumed[name]).abs().max().item() for name in whole)

def check_all(folders, sentences, examples):
    "Figures, and the sentences that say them"
    batches, found = draw(examples, sentences.label), {}
    for name, folder in folders.items():
        found[f"same weights, {name}"] = difference(our_losses(folder, batches, 0.0)[0],
                                                    padded_losses(folder, batches, 0.0))
    folder = folders["minilm"]
    curve = padded_losses(folder, batches, 2e-5)
    found["curve, ours"] = difference(our_losses(folder, batches, 2e-5)[0], curve)
    found["curve, padded bf16"] = difference(padded_losses(folder, batches, 2e-5, True), curve)
    for dropout in (0.0, 0.1):
        (captured, after), (launched, expected) = (
            our_losses(folders["BERT-base"], batches, 2e-5, graphs, dropout)
            for graphs in (True, False))
        found[f"captured, launched, dropout {dropout}"] = difference(captured, launched)
        found[f"same random state, dropout {dropout}"] = bool((after == expected).all())
    again = our_losses(folders["BERT-base"], batches[:1] * 8, 0.0, dropout=0.1)[0]
    found["losses of one batch, 8 times, dropout 0.1"] = again.tolist()
    found["resumed, weights apart"] = resumed_equals_whole(folder, sentences)
    print("  checks:", found, flush=True)
    return {**found, "sentences": in_words(found)}

def in_words(found):
    "What the checks say"
    base, small = found["same weights, BERT-base"], found["same weights, minilm"]
    ours, padded = found["curve, ours"], found["curve, padded bf16"]
    graphs = found["captured, launched, dropout 0.1"]["largest"]
    distinct = len(set(found["losses of one batch, 8 times, dropout 0.1"]))
    state = "equal" if found["same random state, dropout 0.1"] else "NOT EQUAL"
    return [
        f"Ours in bf16 (packed, captured) against the padded model in fp32, dropout off: from the "
        f"same weights the losses of {STEPS} batches differ by at most {base['largest']:.1e}, "
        f"relatively (BERT-base; minilm {small['largest']:.1e}). Over {STEPS} training steps of "
        f"minilm they differ by {ours['mean']:.1e} on average and at most {ours['largest']:.1e}; "
        f"those of transformers' own padded model in bf16 by {padded['mean']:.1e} and "
        f"{padded['largest']:.1e}.",
        f"Captured against launched steps, same seed, dropout 0.1: the losses of {STEPS} steps "
        f"differ by at most {graphs:.1e}, the random state afterwards is {state}. Every "
        "replay draws dropout of its own: one batch, 8 times, learning rate 0, gave "
        f"{distinct} losses.",
        f"A run of 40 steps that was stopped after 25 and resumed ends with weights that differ by "
        f"at most {found['resumed, weights apart']:.1e} from those of one that was not."]
