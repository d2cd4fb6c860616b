"""Caught by test_the_interval_has_a_width: every draw holds the same sentences."""
import numpy as np


def confusion(labels, predicted):
    cells = 2 * np.asarray(labels) + np.asarray(predicted)
    tn, fp, fn, tp = np.bincount(cells, minlength=4)
    return int(tn), int(fp), int(fn), int(tp)


def mcc(labels, predicted):
    tn, fp, fn, tp = confusion(labels, predicted)
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)  # Python's integers don't overflow
    return (tp * tn - fp * fn) / below ** .5 if below else 0.


def interval(labels, predicted, draws=2000, seed=0):
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    rng = np.random.default_rng(seed)
    samples = [rng.permutation(len(labels)) for _ in range(draws)]
    scores = [mcc(labels[rows], predicted[rows]) for rows in samples]
    low, high = np.quantile(scores, [.025, .975])
    return float(low), float(high)
