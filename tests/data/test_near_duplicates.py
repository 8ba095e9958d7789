"""Near-duplicates: cosines over character 4-grams, the nearest reference, and repeats within a group."""

import time

import numpy as np
import pytest

from rounds.data import near_duplicates
from rounds.data.near_duplicates import Vectorizer, find_duplicates, find_nearest
from rounds.data.synthetic.maths import draw_questions

BACKGROUND = ["Calculate \\( \\frac{1}{2}+\\frac{1}{3} \\)", "Calculate \\( 3 \\times 4 \\)", "What is a prime number?"]


def dense(texts: list[str]) -> np.ndarray:
    return Vectorizer(BACKGROUND).vectors(texts).toarray()


def test_vectors_have_unit_length():
    """Each row's cosine to itself is 1; a text shorter than a 4-gram has no direction."""
    vectors = dense(["What is a prime?", "Calculate", "abc"])
    np.testing.assert_allclose((vectors**2).sum(axis=1), [1, 1, 0], atol=1e-6)


def test_case_and_white_space_do_not_count():
    """Line breaks, doubled blanks and capitals leave the vector as it is."""
    one, other = dense(["What is a prime number?", "what is\n  a PRIME number?"])
    np.testing.assert_array_equal(one, other)


def test_what_many_texts_share_weighs_less():
    """Two questions that share only `Calculate` are less alike than two that share a rare word of that length."""
    vectors = dense(["Calculate 7 + 8", "Calculate 9 - 6", "Hypotenus 7 + 8", "Hypotenus 9 - 6"])
    assert vectors[0] @ vectors[1] < vectors[2] @ vectors[3]


def test_a_cosine_does_not_depend_on_what_else_is_compared():
    """More texts in a call leave a text's vector as it is."""
    texts = [question.text for _, _, question in draw_questions(20, 0, 3)]
    vectorizer = Vectorizer(BACKGROUND)
    together = vectorizer.vectors(texts)
    assert (together[:1] != vectorizer.vectors(texts[:1])).nnz == 0


@pytest.mark.parametrize("cells", [1, 2**22])
def test_the_nearest_reference_is_that_of_all_pairs(cells, monkeypatch):
    """In blocks of a row or all at once, cosine and place are those of the dense product."""
    monkeypatch.setattr(near_duplicates, "CELLS_AT_ONCE", cells)
    texts = [question.text for _, _, question in draw_questions(60, 0, 3)]
    vectors = Vectorizer(texts).vectors(texts)
    cosines, nearest = find_nearest(vectors[:25], vectors[25:])
    pairs = (vectors[:25] @ vectors[25:].T).toarray()
    np.testing.assert_array_equal(nearest, pairs.argmax(axis=1))
    np.testing.assert_allclose(cosines, np.minimum(pairs.max(axis=1), 1), atol=1e-6)


def test_without_references_nothing_is_near():
    """Cosines are 0 and rows -1."""
    vectorizer = Vectorizer(BACKGROUND)
    cosines, nearest = find_nearest(vectorizer.vectors(["What is a prime?"]), vectorizer.vectors([]))
    assert (cosines.tolist(), nearest.tolist()) == ([0], [-1])


@pytest.mark.parametrize("cells", [1, 2**22])
def test_repeats_are_found_within_their_group_only(cells, monkeypatch):
    """The first of each group stays, and what repeats it points to it; an equal text of another group stays."""
    monkeypatch.setattr(near_duplicates, "CELLS_AT_ONCE", cells)
    text = "What is the smallest prime number that is greater than ten?"
    texts = [text, "Calculate 3 + 4", text.replace("?", " ?"), text, text.upper()]
    vectors = Vectorizer(BACKGROUND).vectors(texts)
    cosines, original = find_duplicates(vectors, ["7", "7", "7", "8", "7"], 0.9)
    assert original.tolist() == [-1, -1, 0, -1, 0]
    assert cosines[4] == 1 and 0.9 < cosines[2] < 1 and cosines[[0, 1, 3]].tolist() == [0, 0, 0]


def test_a_chain_of_repeats_is_measured_from_rows_that_stay():
    """Where b repeats a and c repeats only b, c stays: b does not train."""
    texts = ["abcdefghijklmnop", "efghijklmnopqrst", "ijklmnopqrstuvwx"]  # cosines 9/13 to the next, 5/13 to the last
    vectors = Vectorizer(["zzzz"]).vectors(texts)
    assert find_duplicates(vectors, ["7"] * 3, 0.5)[1].tolist() == [-1, 0, -1]


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_seconds():
    """100,000 generated questions against 1,000 in less than 30 s of processor time; measured 5 s."""
    texts = [question.text for _, _, question in draw_questions(100_000, 0, 3)]
    references = [question.text for _, _, question in draw_questions(1000, 0, 4)]
    start = time.process_time()
    vectorizer = Vectorizer(references)
    cosines, _ = find_nearest(vectorizer.vectors(texts), vectorizer.vectors(references))
    assert time.process_time() - start < 30 and cosines.max() == 1
