"""Approximate search by MaxSim for large corpora: an index of single tokens proposes passages, MaxSim ranks them.

This is ColBERT's end-to-end retrieval (Khattab and Zaharia 2020, arXiv:2004.12832, section 3.5): each token of a query
finds its nearest tokens of the corpus, and the passages that these belong to are scored exactly. The indexes are those
of dense vectors (`ann_index`). PyLate's PLAID index compresses better, but cannot be installed beside this project:
pylate 1.6 wants sentence-transformers below 5.4, and fast-plaid 1.7 is built for torch up to 2.11.
"""

from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np

from rounds.estimate import track
from rounds.retrieval import ann_index, token_search
from rounds.retrieval.exact_search import select_best, to_float32
from rounds.retrieval.representation import BLOCK_SIZE, VECTORS_FILE
from rounds.retrieval.token_vectors import TokenVectors

MIN_NEIGHBOURS = 128  # nearest tokens of each query token, at least; else as many as the depth


@lru_cache(maxsize=1)
def build_from_folder(kind: str, folder: Path) -> faiss.Index:
    """Build an index of the token vectors in a folder; the last one is cached, since mining may search again deeper.

    Args:
        kind: `hnsw` or `ivfpq`, as `ann_index.build` takes it.

    Raises:
        UserError: there are too few tokens to train the index, or vectors hold NaN or infinity.
    """
    return ann_index.build(kind, np.load(folder / VECTORS_FILE, mmap_mode="r"))


def search(
    queries: TokenVectors,
    passages: TokenVectors,
    depth: int,
    index: faiss.Index,
    block_size: int = BLOCK_SIZE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best passages among those that an index of single tokens proposes, with exact scores.

    Queries for which the index proposes fewer than `depth` passages are searched exactly.

    Args:
        depth: passages per query, at most the corpus.
        index: as `build_from_folder` returns it.
        block_size: numbers held at once.

    Returns:
        (queries, depth) scores and (queries, depth) rows of `passages`, as `token_search.search` returns them.
    """
    token_search.check_dims(queries, passages)
    neighbours = min(max(depth, MIN_NEIGHBOURS), index.ntotal)
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = max(neighbours, index.hnsw.efSearch)
    scores, rows = np.empty((len(queries), depth)), np.full((len(queries), depth), -1, np.int64)
    incomplete = []
    for number in track(range(len(queries)), len(queries), f"search {len(passages):,} passages", "queries"):
        query = queries[number]
        _, tokens = index.search(to_float32(query), neighbours)
        tokens = np.unique(tokens[tokens >= 0])
        candidates = np.unique(np.searchsorted(passages.offsets, tokens, side="right") - 1)
        if len(candidates) < depth:
            incomplete.append(number)
            continue
        candidate_scores = token_search.score_candidates(query, passages, candidates, block_size)
        best = select_best(candidate_scores[None], candidates[None], depth)
        scores[number], rows[number] = best[0][0], best[1][0]
    if incomplete:
        exact = token_search.search(queries.select(incomplete), passages, depth, block_size)
        scores[incomplete], rows[incomplete] = exact
    return scores, rows
