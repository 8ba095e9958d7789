"""BM25, the lexical baseline: Lucene's variant, by bm25s, whose defaults it has unless a recipe says otherwise."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import bm25s
import numpy as np

from rounds.config.sections.mining import BM25
from rounds.data.images import strip_image
from rounds.data.passage_pool import ids_of, take_ids, texts_of
from rounds.errors import UserError
from rounds.estimate import track
from rounds.retrieval.run import DECIMALS, NOTHING, Run, rank_without

DEFAULTS = BM25()


def rank(
    queries: dict[str, str],
    passages: Mapping[str, str],
    depth: int,
    parameters: BM25 = DEFAULTS,
    left_out: Mapping[str, list[str]] = NOTHING,
) -> Run:
    """Return the top `depth` passages of each query; passages with equal scores keep the corpus's order.

    Args:
        queries: query id -> text.
        passages: passage id -> text.
        depth: passages per query; the whole corpus if it is smaller.
        parameters: the recipe's `mining.bm25`.
        left_out: query id -> passages that its ranking does not hold.
    """
    scores = _scores(list(queries.values()), texts_of(passages), parameters)
    ids, names = ids_of(passages), list(queries)

    def cut(width: int) -> Run:
        best = [_best(row_scores, width) for row_scores in scores]
        rows, best_scores = (np.stack(parts) for parts in zip(*best, strict=True))
        return Run(names, take_ids(ids, rows), best_scores)

    return rank_without(cut, names, left_out, depth, len(passages))


def _best(scores: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and scores of the `width` best passages; the earlier one is first among equal scores."""
    last = np.partition(scores, len(scores) - width)[len(scores) - width]
    candidates = np.flatnonzero(scores >= last)
    rows = candidates[np.argsort(-scores[candidates], kind="stable")[:width]]
    return rows, scores[rows]


def score(queries: list[str], passages: list[str], parameters: BM25 = DEFAULTS) -> np.ndarray:
    """Return the score of every pair of query and passage; image references in texts are ignored.

    Args:
        queries: texts.
        passages: texts.
        parameters: as in `rank`.

    Returns:
        (queries, passages) float32, rounded to `DECIMALS`.

    Raises:
        UserError: a stemmer is asked for and PyStemmer is not installed.
    """
    return np.stack(list(_scores(queries, passages, parameters)))


def _scores(queries: list[str], passages: Sequence[str], parameters: BM25) -> Iterator[np.ndarray]:
    """Index the passages, and return an iterator over each query's scores (passages,) float32."""
    options = {
        "stopwords": [] if parameters.stop_words == "none" else parameters.stop_words,
        "stemmer": _stemmer(parameters.stemmer),
    }
    index = bm25s.BM25(k1=parameters.k1, b=parameters.b)
    corpus = bm25s.tokenize(map(strip_image, passages), **options, show_progress=False)
    no_match = np.zeros(len(passages), np.float32)  # for a query of stop words only, which has no tokens
    if not any(corpus.ids):  # of single characters and stop words only
        return (no_match for _ in queries)
    index.index(corpus, show_progress=False)
    query_tokens = bm25s.tokenize(list(map(strip_image, queries)), **options, return_ids=False, show_progress=False)
    return (
        np.round(index.get_scores(tokens).astype(np.float32), DECIMALS) if tokens else no_match
        for tokens in track(query_tokens, len(queries), f"rank {len(passages):,} passages by BM25", "queries")
    )


def _stemmer(language: str) -> Callable[[Sequence[str]], list[str]] | None:
    """Return what stems a list of words, or None."""
    if language == "none":
        return None
    try:
        import Stemmer  # not needed by a recipe without a stemmer
    except ImportError:
        raise UserError(
            f"mining.bm25.stemmer {language}: needs PyStemmer; install it with pip install PyStemmer"
        ) from None
    return Stemmer.Stemmer(language).stemWords
