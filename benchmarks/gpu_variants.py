"""Other ways to take a step on a GPU, that the package doesn't take. For gpu.py."""
import gc
import time
import traceback
from collections import Counter

import torch
from torch.nn.functional import cross_entropy, pad, scaled_dot_product_attention

from cola_nbdev.model import load_model
from cola_nbdev.packing import GraphedStep, Packed, pack_batch
from cola_nbdev.tokenization import LengthSampler, pad_batch

STEPS = 80 # to set up; as many are timed

class Padded(torch.nn.Module):
    "transformers' own model on padded batches"
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, labels, **batch):
        return cross_entropy(self.model(**batch).logits.float(), labels)

class Jagged(torch.nn.Module):
    "BERT on packed batches; attention by flash attention over nested (jagged) tensors"
    def __init__(self, model):
        super().__init__()
        self.model = model

    def attend(self, attention, hidden, offsets):
        def nested(values): # (tokens, width) → (sentences, heads, jagged, width of a head)
            table = torch.nested.nested_tensor_from_jagged(
                values, offsets, min_seqlen=1, max_seqlen=64)
            return table.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        query, key, value = (nested(project(hidden)) for project in
                             (attention.query, attention.key, attention.value))
        found = scaled_dot_product_attention(query, key, value, dropout_p=attention.dropout.p)
        return found.transpose(1, 2).values().reshape(hidden.shape)

    def forward(self, input_ids, position_ids, offsets, labels):
        bert = self.model.bert
        hidden = bert.embeddings(input_ids[None], position_ids=position_ids[None])[0]
        for layer in bert.encoder.layer:
            found = self.attend(layer.attention.self, hidden, offsets)
            hidden = layer.feed_forward_chunk(layer.attention.output(found, hidden))
        first = hidden.index_select(0, offsets[:-2])
        pooled = bert.pooler.activation(bert.pooler.dense(first))
        return cross_entropy(self.model.classifier(self.model.dropout(pooled)).float(), labels)

def pack_jagged(examples):
    "Sentences end to end, filled up to a multiple of 128 tokens, which are one more sentence"
    ids, labels = zip(*examples, strict=True)
    lengths = torch.tensor([len(row) for row in ids])
    tokens = int(lengths.sum())
    fill = -tokens % 128
    positions = torch.cat([torch.arange(len(row)) for row in ids])
    ends = torch.tensor([0, *lengths.cumsum(0).tolist(), tokens + fill])
    return {"input_ids": pad(torch.tensor(sum(ids, [])), (0, fill)),
            "position_ids": pad(positions, (0, fill)),
            "offsets": ends, "labels": torch.tensor(labels)}

def pad_to_eight(examples):
    "A padded batch, as wide as the next multiple of 8"
    batch = pad_batch(examples)
    fill = -batch["input_ids"].shape[1] % 8
    return batch | {name: pad(batch[name], (0, fill)) for name in ("input_ids", "attention_mask")}

def pack_full(examples): return pack_batch(examples, multiple=128, longest=48)

def pack_one_shape(examples): return pack_batch(examples, multiple=512, longest=48)

def run(step, batches):
    "Seconds for some steps"
    torch.cuda.synchronize()
    started = time.perf_counter()
    for batch in batches: step({name: values.cuda() for name, values in batch.items()})
    torch.cuda.synchronize()
    return time.perf_counter() - started

def timed(step, batches):
    "Seconds of the first steps, which set up; milliseconds of one of the others"
    def shape(batch): return tuple(values.shape for values in batch.values())
    met = Counter(shape(batch) for batch in batches[:STEPS])
    rest = [batch for batch in batches[STEPS:] if met[shape(batch)] >= 2]
    if len(rest) < 20: rest = batches[STEPS:]   # nearly every batch has a shape of its own
    return {"first_seconds": run(step, batches[:STEPS]), "ms": 1000 * run(step, rest) / len(rest)}

def whole_step(module, optimizer):
    "Forward, backward, clipping and AdamW"
    def step(batch):
        with torch.autocast("cuda", torch.bfloat16):
            loss = module(**batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()
    return step

def graphed_callables(module, optimizer):
    "Only forward and backward captured, by torch.cuda.make_graphed_callables"
    graphs = {}
    def step(batch):
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            shape = tuple(values.shape for values in batch.values())
            if shape not in graphs:
                one = Packed(module.model).train()
                graphs[shape] = torch.cuda.make_graphed_callables(one, tuple(batch.values()))
            loss = graphs[shape](*batch.values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return step

def captured(module, optimizer): return GraphedStep(whole_step(module, optimizer), optimizer)

def compiled(module, optimizer):
    "torch.compile with its own CUDA graphs, optimizer and clipping launched"
    return whole_step(torch.compile(module, mode="reduce-overhead", dynamic=False), optimizer)

def compiled_captured(module, optimizer):
    "torch.compile, then the whole step captured"
    return captured(torch.compile(module, dynamic=False), optimizer)

OURS = "whole step captured, packed, drawn at random (ours)"
JAGGED = "whole step captured, packed, flash attention on jagged tensors"
COMPILED = "torch.compile, whole step captured, packed, one shape"
VARIANTS = {  # name → module, collate, step, batches sorted by length in windows of so many
    OURS: (Packed, pack_full, captured, 1),
    JAGGED: (Jagged, pack_jagged, captured, 1),
    "whole step captured, padded, drawn at random": (Padded, pad_to_eight, captured, 1),
    "whole step captured, padded, by length": (Padded, pad_to_eight, captured, 50),
    "forward and backward captured, packed": (Packed, pack_full, graphed_callables, 1),
    "launched, packed, by length": (Packed, pack_batch, whole_step, 50),
    "torch.compile reduce-overhead, packed, one shape": (Packed, pack_one_shape, compiled, 1),
    COMPILED: (Packed, pack_one_shape, compiled_captured, 1)}

def measure(folder, examples, labels, compiling=False):
    "Name → milliseconds per step and seconds to set up, of those that compile or of the others"
    found = {}
    for name, (module, collate, make_step, window) in VARIANTS.items():
        if ("compile" in name) != compiling: continue
        sampler = LengthSampler([len(ids) for ids in examples], 32, window=window)
        rows = [batch for batch, _ in zip(sampler, range(2 * STEPS), strict=False)]
        batches = [collate([(examples[row], int(labels[row])) for row in batch]) for batch in rows]
        torch._dynamo.reset()
        model = load_model(folder).train()
        torch.nn.Module.cuda(model)  # transformers' own `cuda` has no types
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
        try:
            found[name] = timed(make_step(module(model), optimizer), batches)
        except Exception as error: # a variant that fails is a finding too
            traceback.print_exc(limit=4)
            found[name] = f"failed ({type(error).__name__})"
        print(f"  variant: {name} {found[name]}", flush=True)
        del model, optimizer, batches
        gc.collect()
        torch.cuda.empty_cache()
    return found
