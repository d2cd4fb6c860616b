"""How close is a training step to the arithmetic? python benchmarks/limit.py [--quick]

A model does little else than multiply matrices; so the time that the products alone take on this
machine is about the least that a step can take. They are timed here by themselves, over the very
batches that `train` makes, for the real tokens only, nothing padded.

What is counted, for a batch of n sentences with T tokens in all, forward and backward:
- in each of the 6 layers, query, key, value and output (T×384×384 each) and the two products of the
  feed-forward part (T×384×1536, T×1536×384); every one three times: the product, the gradient of
  its input, the gradient of its weight;
- in each layer, attention within each sentence of length l, for each of the 12 heads: the scores
  (l×32×l) and the weighted values (l×l×32); every one three times likewise. Sentences of the same
  length are multiplied together;
- the pooler (n×384×384) and the classifier (n×384×2), three times.

Not counted: embeddings, softmax, GELU, layer norms, dropout, the loss, the optimizer, the
tokenizer, Python. The model is counted in full; a step that computes the last layer for [CLS] only
leaves products out, and could pass 100% in principle.
"""
import time
from collections import Counter

import side_by_side

side_by_side.stay_on_the_processor()

import torch
from training import BATCH, choose, our_loop
from transformers import AutoConfig

from cola_nbdev.settings import Config
from cola_nbdev.tokenization import LengthSampler, encode, find_model, load_tokenizer

SETTINGS = {"full": {"sentences": 50 * BATCH, "rounds": 3},
            "quick": {"sentences": 12 * BATCH, "rounds": 1},
            "tiny": {"sentences": 2 * BATCH, "rounds": 1}}
PRODUCTS = "matrix products alone"

class Products:
    "The matrix products of a training step, forward and backward"

    def __init__(self, config):  # of a model of transformers
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads, self.width = config.num_attention_heads, hidden // config.num_attention_heads
        # As torch keeps weights: outputs × inputs. Every layer has its own, as in the model: the
        # same ones again and again would stay in the processor's cache
        shapes = [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]
        self.layers = [[filled(*shape) for shape in shapes]
                       for _ in range(config.num_hidden_layers)]
        self.head = [filled(hidden, hidden), filled(2, hidden)]

    def linear(self, weight, rows):
        "The product with a weight, the gradient of its input, the gradient of the weight"
        outputs, inputs = weight.shape
        given = filled(rows, inputs)
        wanted = filled(rows, outputs)  # what comes out, or its gradient
        return [(given, weight.T), (wanted, weight), (wanted.T, given)]

    def attention(self, length, count):
        """Scores and weighted values of `count` sentences of the same length

        For each, the product and the gradients of both factors."""
        states = filled(count * self.heads, length, self.width)
        scores = filled(count * self.heads, length, length)
        return [(states, states.mT), (scores, states), (states, states.mT), (scores.mT, states),
                (scores, states), (scores.mT, states)]

    def of(self, lengths):
        "All pairs of factors, with room for the product, for sentences of these lengths"
        tokens = sum(lengths)
        within = [pair for length, count in Counter(lengths).items()
                  for pair in self.attention(length, count)]
        through = [pair for weight in self.head for pair in self.linear(weight, len(lengths))]
        for layer in self.layers:
            through += within
            for weight in layer: through += self.linear(weight, tokens)
        return with_room(through)

def filled(*shape):
    """A matrix whose memory was touched

    The system hands out fresh memory at its first use, which must not happen on the clock."""
    return torch.empty(shape).fill_(.5)

def with_room(pairs):
    "Pairs of factors, each with room for its product"
    return [(left, right, filled(*left.shape[:-1], right.shape[-1])) for left, right in pairs]

def operations(products):
    "Multiplications and additions"
    return sum(2 * left.numel() * right.shape[-1] for left, right, _ in products)

def seconds(products):
    "The time of the products alone"
    started = time.perf_counter()
    for left, right, product in products: torch.matmul(left, right, out=product)
    return time.perf_counter() - started

def competitors(settings):
    """Name → function that returns milliseconds per step over all batches

    `counted` of the settings, if given, gets the operations and the tokens per step."""
    sentences = choose(settings["sentences"])
    lengths = [len(ids) for ids in encode(sentences.sentence, load_tokenizer("minilm"))]
    sampler = LengthSampler(lengths, BATCH, Config().seed)  # as `train` makes them
    batches = [[lengths[row] for row in batch] for batch in sampler]
    products = Products(AutoConfig.from_pretrained(find_model("minilm")))

    def alone():
        total = operated = 0
        for batch in batches:
            of_batch = products.of(batch)
            total += seconds(of_batch)
            operated += operations(of_batch)
        if "counted" in settings:
            settings["counted"].update(operations=operated / len(batches),
                                       tokens=sum(lengths) / len(batches))
        return 1000 * total / len(batches)

    return {PRODUCTS: alone, "ours": lambda: 1000 * our_loop(sentences)}

def main():
    size = side_by_side.chosen_size()
    settings, counted = SETTINGS[size], {}
    print(f"The limit, {size}: {settings['rounds']} rounds", flush=True)
    rounds = side_by_side.interleave(competitors(settings | {"counted": counted}),
                                     settings["rounds"], warm_up=competitors({"sentences": BATCH}))
    share = side_by_side.ratios(rounds)[PRODUCTS]
    # per millisecond and in 10⁹
    speed = side_by_side.spread(counted["operations"] / times[PRODUCTS] / 1e6 for times in rounds)
    side_by_side.result(
        "limit", size, title="The limit", corpus=side_by_side.corpus().name, unit="ms per step",
        settings=settings, rounds=rounds, share_of_limit=share, gigaflops=speed,
        **{f"{name}_per_step": value for name, value in counted.items()},
        question=f"How much of a training step is arithmetic? minilm, batches of {BATCH}, fp32, "
                 f"{settings['sentences']:,} random sentences of {side_by_side.corpus_in_words()}.",
        notes=["The matrix products for the real tokens, by themselves, would take "
               f"{share['median']:.0%} ({share['min']:.0%}–{share['max']:.0%}) of the time of our "
               "step.",
               f"A step has {counted['tokens']:.0f} tokens and {counted['operations'] / 1e9:.1f} "
               f"GFLOP, at {side_by_side.in_words(speed)} GFLOP/s when timed alone.",
               "Counted are the linear layers and attention within each sentence, forward and "
               "backward (three products each), all layers in full for every real token. Not "
               "counted: embeddings, softmax, GELU, norms, dropout, optimizer. A step that "
               "computes the last layer for [CLS] only leaves products out and could pass 100% in "
               "principle."])

if __name__ == "__main__": main()
