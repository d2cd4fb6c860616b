"""Week 3. A score, and how far off it may be. NumPy only."""
import numpy as np


def confusion(labels: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int, int]:
    """The counts (TN, FP, FN, TP) of labels and predictions that are 0 or 1.

    >>> confusion(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1]))
    (1, 1, 1, 2)
    """
    raise NotImplementedError


def mcc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The Matthews correlation coefficient, from the four counts; 0 where its fraction is 0/0."""
    raise NotImplementedError


def interval(labels: np.ndarray, predicted: np.ndarray, draws: int = 2000,
             seed: int = 0) -> tuple[float, float]:
    """The middle 95% of the MCC of sentences drawn again, with replacement: (low, high)."""
    raise NotImplementedError
