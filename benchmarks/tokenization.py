"""How fast is the training set tokenized? python benchmarks/tokenization.py [--quick]

The tutorial goes through the sentences twice, one by one: first for the length of the longest, then
for padded tensors. Our `encode` hands all of them to the tokenizer at once and pads nothing.
"""
import time
from functools import partial

import side_by_side

side_by_side.stay_on_the_processor()

import torch

from cola_nbdev.tokenization import encode, load_tokenizer

TUTORIAL = "tutorial's two loops"
SETTINGS = {"full": {"rounds": 5}, "quick": {"rounds": 1}, "tiny": {"rounds": 1, "sentences": 100}}

def tutorial_loops(tokenizer, sentences):
    "The ids and masks of all sentences, as the tutorial makes them"
    longest = 0
    for sentence in sentences:
        longest = max(longest, len(tokenizer.encode(sentence, add_special_tokens=True)))
    input_ids, attention_masks = [], []
    for sentence in sentences:
        encoded = tokenizer(sentence, max_length=64, padding="max_length", truncation=True,
                            return_tensors="pt")
        input_ids.append(encoded["input_ids"])
        attention_masks.append(encoded["attention_mask"])
    return torch.cat(input_ids), torch.cat(attention_masks)

def competitors(settings):
    """Name → function that tokenizes the training set and returns milliseconds

    `answers` of the settings, if given, gets the ids."""
    sentences = side_by_side.corpus().train.sentence.tolist()[:settings.get("sentences")]
    answers = settings.get("answers", {})
    # one tokenizer each: a tokenizer remembers how it padded last
    functions = {TUTORIAL: partial(tutorial_loops, load_tokenizer("minilm"), sentences),
                 "ours": partial(encode, sentences, load_tokenizer("minilm"))}

    def timed(name):
        started = time.perf_counter()
        answers[name] = functions[name]()
        return 1000 * (time.perf_counter() - started)

    return {name: partial(timed, name) for name in functions}

def main():
    size = side_by_side.chosen_size()
    settings, answers = SETTINGS[size], {}
    print(f"Tokenization, {size}: {settings['rounds']} rounds", flush=True)
    rounds = side_by_side.interleave(competitors(settings | {"answers": answers}),
                                     settings["rounds"], warm_up=competitors({"sentences": 100}))
    input_ids, masks = answers[TUTORIAL]
    different = sum(row[mask.bool()].tolist() != ids
                    for row, mask, ids in zip(input_ids, masks, answers["ours"], strict=True))
    side_by_side.result(
        "tokenization", size, title="Tokenization", corpus=side_by_side.corpus().name,
        unit="ms for all", settings=settings, rounds=rounds, sentences_with_other_ids=different,
        question=f"How long does it take to tokenize the {len(input_ids):,} training sentences of "
                 f"{side_by_side.corpus_in_words()}?",
        notes=[f"{different} of {len(input_ids):,} sentences have other ids."])

if __name__ == "__main__": main()
