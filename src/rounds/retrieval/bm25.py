"""BM25, the lexical baseline: Lucene's variant, by bm25s, whose defaults it has unless a recipe says otherwise."""

from collections.abc import Callable, Mapping, Sequence

import bm25s
import numpy as np

from rounds.config.sections.mining import BM25
from rounds.data.images import strip_image
from rounds.errors import UserError
from rounds.retrieval.run import DECIMALS, NOTHING, Run, rank_without

DEFAULTS = BM25()


def rank(
    queries: dict[str, str],
    passages: dict[str, str],
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
    scores = score(list(queries.values()), list(passages.values()), parameters)
    order = np.argsort(-scores, axis=1, kind="stable")
    ids = np.array(list(passages), dtype=object)

    def cut(width: int) -> Run:
        best = order[:, :width]
        return Run(list(queries), ids[best], np.take_along_axis(scores, best, axis=1))

    return rank_without(cut, queries, left_out, depth, len(passages))


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
    passages, queries = (list(map(strip_image, texts)) for texts in (passages, queries))
    options = {
        "stopwords": [] if parameters.stop_words == "none" else parameters.stop_words,
        "stemmer": _stemmer(parameters.stemmer),
    }
    index = bm25s.BM25(k1=parameters.k1, b=parameters.b)
    corpus = bm25s.tokenize(passages, **options, show_progress=False)
    if not any(corpus.ids):  # of single characters and stop words only
        return np.zeros((len(queries), len(passages)), np.float32)
    index.index(corpus, show_progress=False)
    query_tokens = bm25s.tokenize(queries, **options, return_ids=False, show_progress=False)
    no_match = np.zeros(len(passages))  # for a query of stop words only, which has no tokens
    scores = np.stack([index.get_scores(tokens) if tokens else no_match for tokens in query_tokens])
    return np.round(scores.astype(np.float32), DECIMALS)


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
