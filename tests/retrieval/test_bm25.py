import math

import numpy as np
import pytest
from helpers import slow_clock

from rounds.config.sections.mining import BM25
from rounds.retrieval import bm25

PASSAGES = {
    "30": "Adds instead of multiplying",
    "4": "Reads the axis of a graph wrongly",
    "100": "Forgets the sign of a negative number",
    "7": "Reads the axis of a graph wrongly",
    "21": "Believes a square has five corners",
}


def test_an_obvious_lexical_match_comes_first():
    """The passage that shares the query's words leads."""
    run = bm25.rank({"a": "why five corners of the square?", "b": "negative sign"}, PASSAGES, 5)
    assert run.queries == ["a", "b"]
    assert run.passages[:, 0].tolist() == ["21", "100"]


def test_equal_passages_stand_in_corpus_order():
    """Passages of one text tie and keep the corpus's order."""
    run = bm25.rank({"q": "axis of the graph"}, PASSAGES, 5)
    assert run.passages[0, :2].tolist() == ["4", "7"]
    assert run.scores[0, 0] == run.scores[0, 1] > 0


def test_many_ties_stand_in_corpus_order():
    """A tie of hundreds keeps the corpus's order, over the edge of the depth too."""
    corpus = {str((number * 7919) % 1009): "axis" if number % 3 else "sign" for number in range(300)}
    run = bm25.rank({"q": "axis"}, corpus, 250)
    axis, sign = ([key for key, text in corpus.items() if text == word] for word in ("axis", "sign"))
    assert run.passages[0].tolist() == [*axis, *sign][:250]


@pytest.mark.parametrize("text", ["", "the of and a", "?!", "zebra", "the zebra"])
def test_a_query_without_known_words_ranks_in_corpus_order(text):
    """A query of stop words, of unknown words or of nothing scores 0 everywhere."""
    run = bm25.rank({"empty": text, "full": "five corners"}, PASSAGES, 5)
    assert run.passages[0].tolist() == list(PASSAGES)
    assert run.scores[0].tolist() == [0.0] * 5
    assert run.passages[1, 0] == "21"


@pytest.mark.parametrize(("depth", "expected"), [(1, 1), (3, 3), (5, 5), (50, 5)])
def test_a_run_is_as_deep_as_asked_or_as_the_corpus(depth, expected):
    """A run holds the asked-for depth, at most the corpus, with scores that fall."""
    run = bm25.rank({"q": "graph axis sign"}, PASSAGES, depth)
    assert run.passages.shape == run.scores.shape == (1, expected)
    assert len(set(run.passages[0])) == expected
    assert (np.diff(run.scores, axis=1) <= 0).all()


def test_a_query_s_company_changes_nothing():
    """Each query ranks as it does alone."""
    queries = {"a": "five corners", "b": "negative sign", "c": "the"}
    together = bm25.rank(queries, PASSAGES, 5)
    for row, (query, text) in enumerate(queries.items()):
        alone = bm25.rank({query: text}, PASSAGES, 5)
        assert alone.passages[0].tolist() == together.passages[row].tolist()
        assert alone.scores[0].tolist() == together.scores[row].tolist()


def test_a_corpus_without_words_keeps_its_order():
    """Single characters and stop words are no words of BM25: nothing matches, as with a query of such."""
    run = bm25.rank({"q": "x", "r": "word"}, {"a": "x", "b": "the", "c": ""}, 3)
    assert run.passages.tolist() == [["a", "b", "c"]] * 2 and not run.scores.any()


@pytest.mark.parametrize(
    ("stemmer", "stop_words", "expected"),
    [("none", "english", 0), ("porter", "english", 1), ("english", "none", 1), ("german", "german", 0)],
)
def test_a_stemmer_finds_other_forms_of_a_word(stemmer, stop_words, expected):
    """A query in another form than the passage's matches it through the language's stems alone."""
    parameters = BM25(stemmer=stemmer, stop_words=stop_words)
    found = bm25.score(["multiplied"], ["Adds instead of multiplying", "Reads an axis"], parameters)
    assert (found[0] > 0).tolist() == [bool(expected), False]


@pytest.mark.parametrize(("stop_words", "matches"), [("english", False), ("german", True), ("none", True)])
def test_stop_words_match_nothing(stop_words, matches):
    """A query of a stop word scores where the list does not hold it."""
    scores = bm25.score(["the"], ["the axis", "an axis"], BM25(stop_words=stop_words))
    assert bool(scores[0, 0] > 0) is matches


def test_parameters_are_those_of_the_formula():
    """Scores are Lucene's BM25 at the given k1 and b: idf * tf / (tf + k1 * (1 - b + b * length / mean length))."""
    passages = ["axis axis graph", "axis sign", "graph sign sign sign"]
    k1, b = 0.9, 0.4
    scores = bm25.score(["axis"], passages, BM25(k1=k1, b=b, stop_words="none"))[0]
    lengths, frequencies = [3, 2, 4], [2, 1, 0]
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = [idf * tf / (tf + k1 * (1 - b + b * n / 3)) for tf, n in zip(frequencies, lengths, strict=True)]
    assert scores == pytest.approx(expected, abs=1e-5)


def test_a_long_ranking_tells_how_long_it_takes(monkeypatch, capsys):
    """The work is counted in queries."""
    slow_clock.use(monkeypatch)
    bm25.rank({str(number): "five corners" for number in range(12)}, PASSAGES, 5)
    assert slow_clock.lines(capsys) == ["rank 5 passages by BM25: about 2.0 h (12 queries, 6.0 queries/h)"]
