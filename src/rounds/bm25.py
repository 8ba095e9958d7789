"""BM25: the lexical baseline's run (bm25s, defaults, English stop words)."""

import bm25s
import numpy as np

from rounds.ranking import DECIMALS, Run


def rank(queries: dict[str, str], passages: dict[str, str], depth: int) -> Run:
    """Top `depth` passages for each query, ties in corpus order.

    Args:
        queries: query id -> text.
        passages: passage id -> text.
    """
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(passages.values()), show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(list(queries.values()), return_ids=False, show_progress=False)
    scores = np.stack([index.get_scores(each) if each else np.zeros(len(passages)) for each in tokens])
    scores = np.round(scores.astype(np.float32), DECIMALS)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    ids = np.array(list(passages), dtype=object)
    return Run(list(queries), ids[order], np.take_along_axis(scores, order, axis=1))
