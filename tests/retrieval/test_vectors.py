"""Vectors: normalizing, cosines and truncation."""

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.retrieval.vectors import cosines, truncate_vectors, unit_vectors


def random_vectors(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 12)).astype(np.float32)


def test_unit_vectors_have_unit_length_and_keep_their_type():
    """Each row has length 1, in the precision of the input."""
    normalized = unit_vectors(random_vectors(0))
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), 1, atol=1e-6)


def test_a_zero_vector_stays_zero():
    """A vector without direction is not turned into NaN; its cosine with any vector is 0."""
    zeros = np.zeros((1, 3))
    assert not unit_vectors(zeros).any()
    assert cosines(zeros, np.ones((1, 3))).tolist() == [0]


def test_cosines_are_products_of_unit_vectors():
    """The cosine does not depend on the vectors' lengths."""
    one, other = random_vectors(1), random_vectors(2)
    expected = (unit_vectors(one) * unit_vectors(other)).sum(axis=1)
    np.testing.assert_allclose(cosines(3 * one, other), expected, atol=1e-6)


def test_truncation_to_more_dimensions_than_there_are_is_refused():
    """The message names the requested and the available number of dimensions."""
    with refused("truncate_dim 13", "12 dimensions"):
        truncate_vectors(random_vectors(0), 13, normalize=True)


@pytest.mark.parametrize("normalize", [True, False])
def test_truncation_to_none_returns_the_vectors_themselves(normalize):
    """Without a dimension nothing is copied or normalized."""
    vectors = random_vectors(0)
    assert truncate_vectors(vectors, None, normalize) is vectors
