"""Caught by test_large_scores_are_no_problem: the exponential of a large score is infinite."""
import numpy as np


def pad(examples, pad_id=0):
    ids = np.full((len(examples), max(map(len, examples))), pad_id)
    mask = np.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, :len(example)] = example
        mask[row, :len(example)] = 1
    return ids, mask


def attention(query, key, value, mask):
    scores = query @ key.T / np.sqrt(query.shape[1])
    scores = np.where(mask == 1, scores, -np.inf)
    weights = np.exp(scores)
    return weights / weights.sum(axis=1, keepdims=True) @ value
