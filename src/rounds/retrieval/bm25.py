"""BM25: the lexical baseline's run (bm25s, defaults, English stop words), and a search for better parameters."""

import bm25s
import numpy as np

from rounds.data.images import strip_image
from rounds.retrieval.run import DECIMALS, Run

K1, B = 1.5, 0.75


def rank(queries: dict[str, str], passages: dict[str, str], depth: int, k1: float = K1, b: float = B) -> Run:
    """Top `depth` passages for each query, ties in corpus order.

    Args:
        queries: query id -> text.
        passages: passage id -> text.
        k1: how soon a repeated word stops to count more.
        b: how much a passage's length counts, 0 to 1.
    """
    scores = score(list(queries.values()), list(passages.values()), k1, b)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    ids = np.array(list(passages), dtype=object)
    return Run(list(queries), ids[order], np.take_along_axis(scores, order, axis=1))


def score(queries: list[str], passages: list[str], k1: float = K1, b: float = B) -> np.ndarray:
    """Scores (queries, passages) float32 of every pair, rounded; parameters as `rank` takes them."""
    passages, queries = (list(map(strip_image, texts)) for texts in (passages, queries))
    index = bm25s.BM25(k1=k1, b=b)
    index.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(queries, return_ids=False, show_progress=False)
    scores = np.stack([index.get_scores(each) if each else np.zeros(len(passages)) for each in tokens])
    return np.round(scores.astype(np.float32), DECIMALS)
