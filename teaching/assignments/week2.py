"""Week 2. Padding, a mask, and attention that obeys it. NumPy only."""
import numpy as np


def pad(examples: list[list[int]], pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Token ids as one table, and its mask: 1 for a token, 0 for padding, both of the same shape.

    >>> pad([[101, 7, 102], [101, 102]])[1].tolist()
    [[1, 1, 1], [1, 1, 0]]
    """
    raise NotImplementedError


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray,
              mask: np.ndarray) -> np.ndarray:
    """What each token takes home: one head, one sentence.

    query, key, value and the result have the shape (tokens, width), the mask (tokens,). Scores
    are query · key / √width; softmax turns each row of them into weights that add up to 1; padding
    gets the weight 0.
    """
    raise NotImplementedError
