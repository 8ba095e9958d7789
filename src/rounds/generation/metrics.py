"""Metrics of predicted prompts; they know vectors and texts, and no model."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from rounds.generation.rows import prompt_key

Embed = Callable[[Sequence[str]], np.ndarray]  # texts -> (texts, dim) float32 of unit length

POWER = 3  # of the cosine


def sharpen(cosines: np.ndarray) -> np.ndarray:
    """Return cosines to the power of 3, negative ones as 0, in float64 and the same shape."""
    return np.clip(cosines.astype(np.float64), 0.0, 1.0) ** POWER


def sharpened_cosines(truths: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return each row's cosine, negative ones as 0, to the power of 3.

    Args:
        truths: (rows, dim) vectors of unit length.
        predictions: (rows, dim) vectors of unit length, in the same order.

    Returns:
        (rows,) float64 between 0 and 1; their mean is the sharpened cosine similarity.

    >>> axes = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    >>> sharpened_cosines(axes[[0, 0, 0]], axes).round(3).tolist()
    [1.0, 0.216, 0.0]
    """
    return sharpen(np.einsum("rd,rd->r", truths.astype(np.float64), predictions.astype(np.float64)))


def exact_matches(truths: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    """Return (rows,) whether a prediction is the prompt, but for case and white space."""
    pairs = zip(truths, predictions, strict=True)
    return np.array([prompt_key(truth) == prompt_key(prediction) for truth, prediction in pairs], bool)


def family_means(families: Sequence[str], scores: np.ndarray) -> dict[str, float]:
    """Return the mean score of each family, in the families' order by name; rows without a family are left out."""
    by_family: dict[str, list[float]] = defaultdict(list)
    for family, score in zip(families, scores.tolist(), strict=True):
        if family:
            by_family[family].append(score)
    return {family: float(np.mean(by_family[family])) for family in sorted(by_family)}
