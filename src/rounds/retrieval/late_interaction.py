"""MaxSim: late interaction of a query's tokens with a passage's (ColBERT: Khattab and Zaharia 2020, arXiv:2004.12832).

One vector a text is what a checkpoint was tuned for and what the corpus is searched with. The vectors of single tokens,
which pooling averages away, tell candidates apart that stand close together.
"""

import numpy as np

COMMON = 0.1  # weight of a token that every passage has


Tokens = list[tuple[np.ndarray, np.ndarray]]  # of each text: ids, and unit vectors (`encoding.token_states`)


def score(queries: Tokens, passages: Tokens, pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """How well each token of one text is met by the best of the other's.

    Args:
        pairs: rows of `queries`, in order, and of `passages`.

    Returns:
        (pairs,) float32 each: over the passage's tokens `mean`, `weighted` by rarity among the passages, and `least`;
        over the query's tokens `of query`; and each of them `below best` of the query's pairs.

    >>> x, y = np.eye(2, dtype="f4")
    >>> both, one = (np.array([5, 7]), np.stack([x, y])), (np.array([5]), x[None])
    >>> found = score([one], [both, one], (np.array([0, 0]), np.array([0, 1])))
    >>> [found[name].tolist() for name in ("mean", "least", "of query", "mean below best")]
    [[0.5, 1.0], [0.0, 1.0], [1.0, 1.0], [-0.5, 0.0]]
    """
    rows, columns = pairs
    weights = _rarity(passages)
    found = {name: np.zeros(len(rows), dtype=np.float32) for name in ("mean", "weighted", "least", "of query")}
    starts = np.searchsorted(rows, np.arange(len(queries) + 1))
    for row, (_, asked) in enumerate(queries):
        own = slice(starts[row], starts[row + 1])
        if own.start == own.stop:
            continue
        ids, vectors = zip(*(passages[column] for column in columns[own]), strict=True)
        counts = np.array(list(map(len, ids)))
        first = counts.cumsum() - counts
        similar = np.concatenate(vectors) @ asked.T
        met, weight = similar.max(axis=1), weights[np.concatenate(ids)]
        values = {
            "mean": np.add.reduceat(met, first) / counts,
            "weighted": np.add.reduceat(met * weight, first) / np.add.reduceat(weight, first),
            "least": np.minimum.reduceat(met, first),
            "of query": np.maximum.reduceat(similar, first).mean(axis=1),
        }
        for name, value in values.items():
            found[name][own] = value
    for name, values in list(found.items()):
        best = np.full(len(queries), -np.inf, dtype=np.float32)
        np.maximum.at(best, rows, values)
        found[f"{name} below best"] = values - best[rows]
    return found


def _rarity(passages: Tokens) -> np.ndarray:
    """(vocabulary,) float32: inverse document frequency of each token id."""
    seen = np.bincount(np.concatenate([np.unique(ids) for ids, _ in passages]))
    return (np.log(len(passages) / (1 + seen)).clip(0) + COMMON).astype(np.float32)
