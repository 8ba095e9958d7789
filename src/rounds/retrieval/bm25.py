"""BM25, the lexical baseline (bm25s with its defaults: Lucene's variant and English stop words)."""

from collections.abc import Mapping

import bm25s
import numpy as np

from rounds.data.images import strip_image
from rounds.retrieval.run import DECIMALS, NOTHING, Run, rank_without

K1, B = 1.5, 0.75


def rank(
    queries: dict[str, str],
    passages: dict[str, str],
    depth: int,
    k1: float = K1,
    b: float = B,
    left_out: Mapping[str, list[str]] = NOTHING,
) -> Run:
    """Return the top `depth` passages of each query; passages with equal scores keep the corpus's order.

    Args:
        queries: query id -> text.
        passages: passage id -> text.
        depth: passages per query; the whole corpus if it is smaller.
        k1: saturation of term frequency; a larger value lets repeated words count more.
        b: strength of length normalization, from 0 to 1.
        left_out: query id -> passages that its ranking does not hold.
    """
    scores = score(list(queries.values()), list(passages.values()), k1, b)
    order = np.argsort(-scores, axis=1, kind="stable")
    ids = np.array(list(passages), dtype=object)

    def cut(width: int) -> Run:
        best = order[:, :width]
        return Run(list(queries), ids[best], np.take_along_axis(scores, best, axis=1))

    return rank_without(cut, queries, left_out, depth, len(passages))


def score(queries: list[str], passages: list[str], k1: float = K1, b: float = B) -> np.ndarray:
    """Return the score of every pair of query and passage; image references in texts are ignored.

    Args:
        queries: texts.
        passages: texts.
        k1: as in `rank`.
        b: as in `rank`.

    Returns:
        (queries, passages) float32, rounded to `DECIMALS`.
    """
    passages, queries = (list(map(strip_image, texts)) for texts in (passages, queries))
    index = bm25s.BM25(k1=k1, b=b)
    corpus = bm25s.tokenize(passages, show_progress=False)
    if not any(corpus.ids):  # of single characters and stop words only
        return np.zeros((len(queries), len(passages)), np.float32)
    index.index(corpus, show_progress=False)
    query_tokens = bm25s.tokenize(queries, return_ids=False, show_progress=False)
    no_match = np.zeros(len(passages))  # for a query of stop words only, which has no tokens
    scores = np.stack([index.get_scores(tokens) if tokens else no_match for tokens in query_tokens])
    return np.round(scores.astype(np.float32), DECIMALS)
