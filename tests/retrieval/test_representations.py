"""The kinds of vectors: their files, and what stages do with any of them."""

import functools

import numpy as np
import pytest

from rounds.errors import UserError
from rounds.retrieval import representations
from rounds.retrieval.representation import VECTORS_FILE
from rounds.retrieval.token_vectors import TokenVectors
from rounds.retrieval.tokens import OFFSETS_FILE

IN_MEMORY = functools.partial(np.empty, dtype=np.float32)

TEXTS = [np.array(rows, np.float32) for rows in ([[1, 0], [0, 1]], [[1, 0]], [[0, 1], [1, 0], [0.6, 0.8]])]

EXAMPLES = {"dense": np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32), "tokens": TokenVectors.join(TEXTS)}


def as_lists(vectors):
    representation = representations.of(vectors)
    return [representation.probe(vectors, row).tolist() for row in range(representation.count(vectors))]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_builder_puts_batches_in_order(name):
    """Batches come in any order; each text's vectors end in its own place."""
    vectors, representation = EXAMPLES[name], representations.KINDS[name]
    builder = representation.builder([2, 1, 3] if name == "tokens" else [1, 1, 1], IN_MEMORY)
    for rows in ([2, 0], [1]):
        builder.put(rows, representation.select(vectors, rows))
    assert representation.matches(builder.finish())
    assert as_lists(builder.finish()) == as_lists(vectors)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_taken_rows_may_repeat(name):
    """Texts that came more than once get their vectors as often."""
    vectors, representation = EXAMPLES[name], representations.KINDS[name]
    numbers = as_lists(vectors)
    taken = representation.take(vectors, [1, 0, 1, 2], IN_MEMORY)
    assert as_lists(taken) == [numbers[row] for row in (1, 0, 1, 2)]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_files_are_found_by_their_kind(name, tmp_path):
    """What a folder holds is read back, by the kind's name and without it."""
    vectors, representation = EXAMPLES[name], representations.KINDS[name]
    np.save(tmp_path / VECTORS_FILE, getattr(vectors, "values", vectors))
    representation.write_rest(vectors, tmp_path)
    assert representations.find(tmp_path) is representation
    assert as_lists(representation.load(tmp_path)) == as_lists(representations.load(tmp_path)) == as_lists(vectors)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_equal_texts_are_as_similar_as_can_be(name):
    """The cosine of an embedding with itself is 1, and below with another."""
    vectors, representation = EXAMPLES[name], representations.KINDS[name]
    np.testing.assert_allclose(representation.cosines(vectors, vectors), 1, atol=1e-6)
    others = representation.select(vectors, [1, 2, 0])
    assert (representation.cosines(vectors, others) < 0.999).any()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_texts_with_numbers_that_are_not_finite_are_found(name):
    """The texts are named by their rows."""
    vectors, representation = EXAMPLES[name], representations.KINDS[name]
    broken = representation.select(vectors, [0, 1, 2])
    getattr(broken, "values", broken)[-1] = np.inf
    assert representation.find_not_finite(broken).tolist() == [2]


@pytest.mark.parametrize("size", [0, 100, -4])
def test_damaged_dense_vectors_are_refused_by_their_folder(size, tmp_path):
    """An empty file and one that lost its end are one line with the way out."""
    np.save(tmp_path / VECTORS_FILE, np.ones((3, 4), dtype=np.float32))
    content = (tmp_path / VECTORS_FILE).read_bytes()
    (tmp_path / VECTORS_FILE).write_bytes(content[:size])
    with pytest.raises(UserError, match=f"{tmp_path}: .*delete it to encode anew"):
        representations.KINDS["dense"].load(tmp_path)


def test_a_folder_without_vectors_holds_none(tmp_path):
    """Vectors that were deleted are absent, not an error."""
    assert representations.load(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncated", "no offsets", "other offsets"])
def test_damaged_token_vectors_are_refused_by_their_folder(damage, tmp_path):
    """A file that was cut, or offsets of other vectors, are told with the way out."""
    vectors, representation = EXAMPLES["tokens"], representations.KINDS["tokens"]
    np.save(tmp_path / VECTORS_FILE, vectors.values)
    if damage != "no offsets":
        representation.write_rest(vectors if damage == "truncated" else vectors.part(0, 2), tmp_path)
    if damage == "truncated":
        content = (tmp_path / VECTORS_FILE).read_bytes()
        (tmp_path / VECTORS_FILE).write_bytes(content[:-8])
    with pytest.raises(UserError, match=f"{tmp_path.name}: .*delete it to encode anew"):
        representation.load(tmp_path)
    assert damage != "no offsets" or not (tmp_path / OFFSETS_FILE).is_file()
