"""MaxSim: late interaction of a query's tokens with a passage's (ColBERT: Khattab and Zaharia 2020, arXiv:2004.12832).

A checkpoint is tuned for one vector per text, and the corpus is searched with those. The vectors of single tokens,
which pooling averages away, distinguish candidates that one vector ranks close together.
"""

import numpy as np

from rounds.estimate import track

MIN_TOKEN_WEIGHT = 0.1  # weight of a token that every passage contains


Tokens = list[tuple[np.ndarray, np.ndarray]]  # per text: token ids, and unit vectors (`encoding.encoder.token_states`)


def score(queries: Tokens, passages: Tokens, pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Score pairs of a query and a passage by the best match of each token in the other text.

    Args:
        queries: token ids (tokens,) and unit vectors (tokens, dim) of each query.
        passages: the same of each passage.
        pairs: (pairs,) rows of `queries`, sorted, and (pairs,) rows of `passages`.

    Returns:
        (pairs,) float32 each. Over the passage's tokens: `mean`, `weighted` (by inverse document frequency) and
        `least`. Over the query's tokens: `of query` (their mean). And for each of these, `... below best`: the
        difference from the best pair of the same query.

    >>> x, y = np.eye(2, dtype="f4")
    >>> both, one = (np.array([5, 7]), np.stack([x, y])), (np.array([5]), x[None])
    >>> scores = score([one], [both, one], (np.array([0, 0]), np.array([0, 1])))
    >>> [scores[name].tolist() for name in ("mean", "least", "of query", "mean below best")]
    [[0.5, 1.0], [0.0, 1.0], [1.0, 1.0], [-0.5, 0.0]]
    """
    query_rows, passage_rows = pairs
    token_weights = _inverse_document_frequency(passages)
    names = ("mean", "weighted", "least", "of query")
    scores = {name: np.zeros(len(query_rows), dtype=np.float32) for name in names}
    # Pairs are sorted by query: those of query i are starts[i] to starts[i + 1].
    starts = np.searchsorted(query_rows, np.arange(len(queries) + 1))
    for row, (_, query_vectors) in enumerate(track(queries, len(queries), "compare tokens", "queries")):
        query_pairs = slice(starts[row], starts[row + 1])
        if query_pairs.start == query_pairs.stop:
            continue
        candidates = [passages[passage] for passage in passage_rows[query_pairs]]
        for name, values in _score_candidates(query_vectors, candidates, token_weights).items():
            scores[name][query_pairs] = values
    return {**scores, **_below_best(scores, query_rows, len(queries))}


def _score_candidates(
    query_vectors: np.ndarray, candidates: Tokens, token_weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Score the candidates of one query, as (candidates,) arrays."""
    ids, vectors = zip(*candidates, strict=True)
    counts = np.array(list(map(len, ids)))
    # The tokens of all candidates stand below each other; each candidate's begin at its `first` row.
    first = counts.cumsum() - counts
    similarity = np.concatenate(vectors) @ query_vectors.T
    best, weight = similarity.max(axis=1), token_weights[np.concatenate(ids)]
    return {
        "mean": np.add.reduceat(best, first) / counts,
        "weighted": np.add.reduceat(best * weight, first) / np.add.reduceat(weight, first),
        "least": np.minimum.reduceat(best, first),
        "of query": np.maximum.reduceat(similarity, first).mean(axis=1),
    }


def _below_best(scores: dict[str, np.ndarray], query_rows: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Return each score's difference from the best of its query."""
    differences = {}
    for name, values in scores.items():
        best = np.full(count, -np.inf, dtype=np.float32)
        np.maximum.at(best, query_rows, values)
        differences[f"{name} below best"] = values - best[query_rows]
    return differences


def _inverse_document_frequency(passages: Tokens) -> np.ndarray:
    """Return the weight of each token id, (vocabulary,) float32."""
    document_counts = np.bincount(np.concatenate([np.unique(ids) for ids, _ in passages]))
    return (np.log(len(passages) / (1 + document_counts)).clip(0) + MIN_TOKEN_WEIGHT).astype(np.float32)
