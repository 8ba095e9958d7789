"""Exact and approximate MaxSim search, compared with a slow loop."""

import numpy as np
import pytest
from helpers import slow_clock

from rounds.errors import UserError
from rounds.retrieval import ann_index, search, token_index, token_search
from rounds.retrieval.run import DECIMALS
from rounds.retrieval.token_vectors import TokenVectors


def random_tokens(texts, seed, dim=8, most=6):
    """Return unit vectors of texts with 1 to `most` tokens each."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, most + 1, texts)
    vectors = [generator.standard_normal((size, dim)).astype(np.float32) for size in sizes]
    return TokenVectors.join([part / np.linalg.norm(part, axis=1, keepdims=True) for part in vectors])


def slow_scores(queries, passages):
    """Return (queries, passages) MaxSim, one token after the other."""
    scores = np.zeros((len(queries), len(passages)))
    for row in range(len(queries)):
        for column in range(len(passages)):
            for token in queries[row].astype(float):
                scores[row, column] += max(float(token @ other) for other in passages[column].astype(float))
    return scores


def rank(queries, passages, depth, **options):
    names = [[f"{letter}{row}" for row in range(len(side))] for letter, side in (("q", queries), ("p", passages))]
    return search.rank(names[0], queries, names[1], passages, depth, **options)


def slow_ranking(scores, depth):
    order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores.round(DECIMALS)), axis=1)
    return [[f"p{row}" for row in rows[:depth]] for rows in order]


@pytest.mark.parametrize("block_size", [64, 2**24])
def test_search_agrees_with_a_slow_loop(block_size):
    """Scores, and their order, are those of all pairs of tokens, whatever is held at once."""
    queries, passages = random_tokens(5, 0), random_tokens(60, 1)
    expected = slow_scores(queries, passages)
    run = rank(queries, passages, 20, block_size=block_size)
    assert run.passages.tolist() == slow_ranking(expected, 20)
    np.testing.assert_allclose(run.scores, -np.sort(-expected, axis=1)[:, :20], atol=1e-5)


def test_equal_passages_keep_the_order_of_the_corpus():
    """Thirty copies of one text tie, though each lies elsewhere in its block."""
    queries, some = random_tokens(2, 2), random_tokens(3, 3)
    passages = some.select([0, 1, *[2] * 30, 1, 0])
    run = rank(queries, passages, 34)
    assert run.passages.tolist() == slow_ranking(slow_scores(queries, passages), 34)
    assert rank(queries, passages, 5).passages.tolist() == run.top(5).passages.tolist()


def test_depth_beyond_the_corpus_ranks_all_of_it():
    """The whole corpus is the deepest ranking."""
    assert rank(random_tokens(2, 4), random_tokens(7, 5), 100).scores.shape == (2, 7)


def test_fp16_values_are_ranked_as_their_fp32_copies():
    """A file may hold half-precision values."""
    queries, passages = random_tokens(3, 6), random_tokens(30, 7)
    half = TokenVectors(passages.values.astype(np.float16), passages.offsets)
    whole = TokenVectors(half.values.astype(np.float32), half.offsets)
    assert rank(queries, half, 10).scores.tolist() == rank(queries, whole, 10).scores.tolist()


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_index_of_tokens_finds_most_of_what_exact_search_finds(kind):
    """The candidates' scores are exact, and at least 90% of the exact top 10 are among them."""
    passages, noise = random_tokens(800, 8), np.random.default_rng(9)
    queries = passages.select(range(0, 800, 40))
    queries = TokenVectors(queries.values + 0.2 * noise.standard_normal(queries.values.shape, "f4"), queries.offsets)
    exact = rank(queries, passages, 10)
    run = rank(queries, passages, 10, index=ann_index.build(kind, passages.values))
    assert ann_index.recall(run, exact, 10) > 0.9
    scores = slow_scores(queries.part(0, 1), passages)[0]
    np.testing.assert_allclose(run.scores[0], [scores[int(name[1:])] for name in run.passages[0]], atol=1e-5)


def test_a_query_with_too_few_candidates_is_searched_exactly():
    """An index that proposes fewer passages than are asked for does not shorten the ranking."""
    queries, passages = random_tokens(2, 10, most=1), random_tokens(200, 11)
    index = ann_index.build("hnsw", passages.values)
    assert token_index.MIN_NEIGHBOURS < 190
    assert rank(queries, passages, 190, index=index).passages.tolist() == rank(queries, passages, 190).passages.tolist()


def test_nan_is_refused_by_the_texts_name():
    """One token that is not a number makes the text's id appear in the message."""
    passages = random_tokens(4, 12)
    passages.values[passages.offsets[2]] = np.nan
    with pytest.raises(UserError, match=r"not numbers \(passage p2\)"):
        rank(random_tokens(1, 13), passages, 2)


def test_vectors_of_two_models_are_refused():
    """Vectors of other dimensions, or of another representation, are not compared."""
    with pytest.raises(UserError, match="queries have 4 dimensions, those of passages 8"):
        rank(random_tokens(1, 14, dim=4), random_tokens(3, 15), 2)
    with pytest.raises(UserError, match="queries have one vector each, passages a vector for each token"):
        search.rank(["q"], np.ones((1, 8), np.float32), list("abc"), random_tokens(3, 15), 2)


def test_pair_scores_and_all_scores_are_maxsim():
    """Both agree with the slow loop."""
    queries, passages = random_tokens(4, 16), random_tokens(4, 17)
    expected = slow_scores(queries, passages)
    np.testing.assert_allclose(token_search.pair_scores(queries, passages), expected.diagonal(), atol=1e-6)
    np.testing.assert_allclose(token_search.all_scores(queries, passages, 32), expected, atol=1e-5)


def test_a_long_search_tells_how_long_it_takes(monkeypatch, capsys):
    """40 passages of one token each in blocks of 10; an approximate search counts queries."""
    queries, passages = random_tokens(4, 0, most=1), random_tokens(40, 1, most=1)
    monkeypatch.setattr(token_search, "MAX_BLOCK_TOKENS", 10)
    slow_clock.use(monkeypatch)
    rank(queries, passages, 5)
    rank(queries, passages, 5, index=ann_index.build("hnsw", passages.values))
    exact, approximate = slow_clock.lines(capsys)
    assert exact == "search 40 passages: about 40 min (4 queries, 6.0 queries/h)" == approximate
