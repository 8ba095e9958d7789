"""Normalize, compare and truncate embeddings."""

from collections.abc import Sequence

import numpy as np

from rounds.errors import UserError

MIN_NORM = 1e-12  # shorter vectors are divided by this instead, so that a zero vector stays zero


def list_names(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are.

    >>> list_names(["p1", "p2"]), list_names(["p1", "p2", "p3"], most=2)
    ('p1, p2', 'p1, p2 and 1 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def widen(vectors: np.ndarray) -> np.ndarray:
    """Return float16 vectors as float32, in which alone numbers are added up; return others as they are.

    >>> widen(np.zeros((1, 2), np.float16)).dtype, widen(np.zeros((1, 2))).dtype
    (dtype('float32'), dtype('float64'))
    """
    return vectors.astype(np.float32) if vectors.dtype == np.float16 else vectors


def find_not_finite(vectors: np.ndarray) -> np.ndarray:
    """Return the rows of `vectors` (rows, dim) that hold NaN or infinity.

    >>> find_not_finite(np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, -np.inf]]))
    array([1, 2])
    """
    with np.errstate(all="ignore"):
        # One product per row is faster than looking at each number; a sum of large numbers may overflow, too.
        suspects = np.flatnonzero(~np.isfinite(vectors @ np.ones(vectors.shape[1], vectors.dtype)))
    return suspects[~np.isfinite(vectors[suspects]).all(axis=1)]


def unit_vectors(vectors: np.ndarray, min_norm: float = MIN_NORM) -> np.ndarray:
    """Scale each row of `vectors` (rows, dim) to unit length.

    >>> unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), min_norm)


def cosines(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of each row of `vectors` (rows, dim) with the same row of `others` (rows, dim).

    >>> cosines(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 2.0], [3.0, 3.0]])).round(6)
    array([0., 1.])
    """
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
    return (vectors * others).sum(axis=1) / np.maximum(norms, MIN_NORM)


def truncate_vectors(vectors: np.ndarray, dim: int | None, normalize: bool) -> np.ndarray:
    """Keep the first `dim` dimensions of each vector (Matryoshka representations, arXiv:2205.13147).

    Args:
        vectors: (rows, all dimensions).
        dim: dimensions to keep; None returns `vectors` unchanged.
        normalize: scale the truncated vectors to unit length.

    Raises:
        UserError: `dim` exceeds the number of dimensions.

    >>> truncate_vectors(np.array([[3.0, 4.0, 12.0]]), 2, True)
    array([[0.6, 0.8]])
    """
    if dim is None:
        return vectors
    if dim > vectors.shape[1]:
        raise UserError(f"truncate_dim {dim}: the vectors have {vectors.shape[1]} dimensions")
    truncated = widen(vectors[:, :dim])
    return unit_vectors(truncated) if normalize else truncated
