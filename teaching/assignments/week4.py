"""Week 4. Temperature and threshold, fitted where it is fair. NumPy and pandas only."""
import numpy as np
import pandas as pd


def temperature(labels: np.ndarray, logit: np.ndarray) -> float:
    """The t for which the labels are most probable; P(acceptable) is 1 / (1 + exp(−logit / t)).

    To search on a grid from 0.1 to 10, in steps of 1%, is precise enough.
    """
    raise NotImplementedError


def threshold(labels: np.ndarray, logit: np.ndarray) -> float:
    """The one with the highest MCC: a sentence is acceptable if its logit is at least this."""
    raise NotImplementedError


def report(held_out: pd.DataFrame, reported: pd.DataFrame) -> dict[str, float]:
    """Temperature, threshold and MCC of `reported`, under these names.

    Both frames have the columns `label` and `logit`. Fit on one, measure on the other.
    """
    raise NotImplementedError
