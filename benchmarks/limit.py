"""How close is a training step to the arithmetic? Its matrix products alone, and `train`: python benchmarks/limit.py [--quick]

A network does little else than multiply matrices; so the time that the products alone take on this machine is about the least that a step can take.
They are timed here by themselves, over the very batches that `train` makes, for the real tokens only, nothing padded.

What is counted, for a batch of n sentences with T tokens in all, forward and backward:
- in each of the 6 layers, query, key, value and output (T×384×384 each) and the two products of the feed-forward part (T×384×1536, T×1536×384); every one three times:
  the product, the gradient of its input, the gradient of its weight;
- in each layer, attention within each sentence of length l, for each of the 12 heads: scores (l×32×l) and what they predict_probability (l×l×32); every one three times likewise.
  Sentences of the same length are multiplied together;
- the pooler (n×384×384) and the classifier (n×384×2), three times.

Not counted: embeddings, softmax, GELU, layer norms, dropout, the loss, the optimizer, the tokenizer, Python. The network is counted in full; a training that computes its last layer
for [CLS] only leaves products out, and could pass 100% in principle.
"""
import time
from collections import Counter

import side_by_side

side_by_side.stay_on_the_processor()

import torch
from training import BATCH, choose
from transformers import AutoConfig

from cola_nbdev.tokenization import LengthSampler,encode,find_model,load_tokenizer
from cola_nbdev.settings import PLAIN,Config
from cola_nbdev.training import train

SETTINGS = {"full": {"sentences": 50 * BATCH, "rounds": 3}, "quick": {"sentences": 12 * BATCH, "rounds": 1}, "tiny": {"sentences": 2 * BATCH, "rounds": 1}}
PRODUCTS = "matrix products alone"

class Products:
    "The matrix products of a training step, forward and backward"
    def __init__(self, network): # The configuration of a network
        hidden, inner = network.hidden_size, network.intermediate_size
        self.heads, self.width = network.num_attention_heads, hidden // network.num_attention_heads
        # As torch keeps weights: outputs × inputs. Every layer has its own, as in the network: the same ones again and again would stay in the processor's cache
        self.layers = [[filled(*shape) for shape in [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]] for _ in range(network.num_hidden_layers)]
        self.head = [filled(hidden, hidden), filled(2, hidden)]

    def linear(self, weight, rows):
        "The product with a weight, the gradient of its input, the gradient of the weight"
        outputs, inputs = weight.shape
        given, wanted = filled(rows, inputs), filled(rows, outputs) # what comes in; what comes out, or its gradient
        return [(given, weight.T), (wanted, weight), (wanted.T, given)]

    def attention(self, length, count):
        "Scores and what they predict_probability, and for each the gradients of both factors, of `count` sentences of the same length"
        states, scores = filled(count * self.heads, length, self.width), filled(count * self.heads, length, length)
        return [(states, states.mT), (scores, states), (states, states.mT), (scores.mT, states), (scores, states), (scores.mT, states)]

    def of(self, lengths):
        "All pairs of factors, with room for the product, for sentences of these lengths"
        within = [pair for length, count in Counter(lengths).items() for pair in self.attention(length, count)]
        through = [pair for weight in self.head for pair in self.linear(weight, len(lengths))]
        for layer in self.layers: through += [*within, *(pair for weight in layer for pair in self.linear(weight, sum(lengths)))]
        return [(left, right, filled(*left.shape[:-1], right.shape[-1])) for left, right in through]

def filled(*shape):
    "A matrix whose memory was touched: the system hands out fresh memory at its first use, which must not happen on the clock"
    return torch.empty(shape).fill_(.5)

def operations(products):
    "Multiplications and additions"
    return sum(2 * left.numel() * right.shape[-1] for left, right, _ in products)

def seconds(products):
    "The time of the products alone"
    started = time.perf_counter()
    for left, right, product in products: torch.matmul(left, right, out=product)
    return time.perf_counter() - started

def competitors(settings):
    "Name → function that returns milliseconds per step over all batches; `counted`, if given, gets the operations per step"
    sentences, config = choose(settings["sentences"]), Config(model="minilm", batch_size=BATCH, epochs=1, validation_fraction=0, **PLAIN)
    lengths = [len(ids) for ids in encode(sentences.sentence, load_tokenizer("minilm"))]
    batches = [[lengths[i] for i in batch] for batch in LengthSampler(lengths, BATCH, config.seed)] # as `train` makes them
    products = Products(AutoConfig.from_pretrained(find_model("minilm")))
    def alone():
        total = operated = 0
        for batch in batches:
            of_batch = products.of(batch)
            total, operated = total + seconds(of_batch), operated + operations(of_batch)
        settings.get("counted", {}).update(operations=operated / len(batches), tokens=sum(lengths) / len(batches))
        return 1000 * total / len(batches)
    return {PRODUCTS: alone, "ours": lambda: 1000 * train(sentences, config, progress=False).history[0]["training_seconds"] / len(batches)}

def main():
    size = side_by_side.chosen_size()
    settings, counted = SETTINGS[size], {}
    print(f"The limit, {size}: {settings['rounds']} rounds", flush=True)
    rounds = side_by_side.interleave(competitors(settings | {"counted": counted}), settings["rounds"], warm_up=competitors({"sentences": BATCH}))
    share = side_by_side.ratios(rounds)[PRODUCTS]
    speed = side_by_side.spread(counted["operations"] / times[PRODUCTS] / 1e6 for times in rounds) # per millisecond and in 10⁹
    side_by_side.result("limit", size, title="The limit", corpus=side_by_side.corpus().name, unit="ms per step", settings=settings,
        question=f"How much of a training step is arithmetic? minilm, batches of {BATCH}, fp32, {settings['sentences']:,} random sentences of {side_by_side.corpus_in_words()}.",
        rounds=rounds, share_of_limit=share, **{f"{name}_per_step": value for name, value in counted.items()}, gigaflops=speed,
        notes=[f"The matrix products for the real tokens, by themselves, would take {share['median']:.0%} ({share['min']:.0%}–{share['max']:.0%}) of the time of our step.",
               f"A step has {counted['tokens']:.0f} tokens and {counted['operations'] / 1e9:.1f} GFLOP, at {side_by_side.in_words(speed)} GFLOP/s when timed alone.",
               "Counted are the linear layers and attention within each sentence, forward and backward (three products each), all layers in full for every real token. "
               "Not counted: embeddings, softmax, GELU, norms, dropout, optimizer. A training that computes the last layer for [CLS] only leaves products out and could pass 100% in principle."])

if __name__ == "__main__": main()
