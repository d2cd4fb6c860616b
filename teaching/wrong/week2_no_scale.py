"""Caught by test_it_agrees_with_pytorch: the scores are not divided by the root of the width."""
import numpy as np


def pad(examples, pad_id=0):
    ids = np.full((len(examples), max(map(len, examples))), pad_id)
    mask = np.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, :len(example)] = example
        mask[row, :len(example)] = 1
    return ids, mask


def attention(query, key, value, mask):
    scores = query @ key.T
    scores = np.where(mask == 1, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ value
