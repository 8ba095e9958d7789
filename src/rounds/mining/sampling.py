"""Mining: run -> hard negatives, by id and by text. Works without torch."""

from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import pandas as pd

from rounds.config.recipe import Mining, parse_range
from rounds.data.text import normalize_text
from rounds.retrieval.run import Run


@dataclass(frozen=True)
class Negatives:
    """Hard negatives of each query, best ranked first.

    Attributes:
        ids: query id -> passage ids.
        scores: query id -> similarities, in the same order.
        deepened: queries for which the range held too few, so that later ranks filled up.
        short: queries that have fewer than asked for even so.
        sources: query id -> where each of its negatives comes from, in the same order; empty: all from one run.
        positives: query id -> a reranker's scores of its relevant passages, where one scored (as it did `scores`).
    """

    ids: dict[str, list[str]]
    scores: dict[str, list[float]]
    deepened: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    sources: dict[str, list[str]] = field(default_factory=dict)
    positives: dict[str, list[float]] = field(default_factory=dict)


def mine(
    run: Run, qrels: dict[str, list[str]], passages: dict[str, str], mining: Mining, seed: int,
    taken: dict[str, list[str]] | None = None,
) -> Negatives:  # fmt: skip
    """Sample negatives from a range of ranks.

    Ranks count from 0 over the whole ranking, positives included (FlagEmbedding's `--range_for_sampling`). Left out
    are the query's positives, passages with a positive's text, repeats of a text, what scores within the margin of
    the best positive, and what is no candidate. A hash of seed, query id and passage id draws: with the whole corpus
    as candidates, neither order nor number of the queries changes a query's negatives.

    Args:
        run: ranks the corpus for each query of `qrels`; deeper than the range where it may have to deepen.
        qrels: query id -> relevant passage ids.
        passages: passage id -> text.
        taken: query id -> passages that it has from elsewhere; they are left out, by id and by text.
    """
    first, last = parse_range(mining.range_for_sampling)
    numbers = {passage: number for number, passage in enumerate(passages)}
    found = map(numbers.get, run.passages.reshape(-1).tolist(), repeat(-1))
    ranked = np.fromiter(found, np.int64, run.passages.size).reshape(run.passages.shape)
    allowed = _allowed(run, ranked, numbers, qrels, passages, mining, taken or {})
    chosen = allowed.copy()
    chosen[:, :first] = chosen[:, last:] = False
    keys = _mixed(hashes([f"{seed}-{query}" for query in run.queries]))[:, None] ^ hashes(list(passages))[ranked]
    chosen = _least(chosen, _mixed(keys), mining.negative_number)
    missing = mining.negative_number - chosen.sum(axis=1, keepdims=True)
    deeper = allowed[:, last:]
    chosen[:, last:] = deeper & (deeper.cumsum(axis=1) <= missing)
    counts = chosen.sum(axis=1)
    return Negatives(
        _by_query(run, run.passages[chosen], counts),
        _by_query(run, run.scores[chosen], counts),
        _where(run, chosen[:, last:].any(axis=1)),
        _where(run, counts < mining.negative_number),
    )


def _allowed(
    run: Run, ranked: np.ndarray, numbers: dict[str, int], qrels: dict[str, list[str]], passages: dict[str, str],
    mining: Mining, taken: dict[str, list[str]],
) -> np.ndarray:  # fmt: skip
    """What may serve as a negative, each text once.

    Args:
        ranked: (queries, depth) the run's passages by number, -1 for one that is not of `passages`.
        numbers: passage id -> number.

    Returns:
        (queries, depth) bool.
    """
    by_text: dict[str, int] = {}
    texts = np.array([by_text.setdefault(normalize_text(text), len(by_text)) for text in passages.values()])
    starts = np.arange(len(run.queries)) * len(passages)  # each query has its own numbers for passages and texts
    of_query = np.repeat(starts, [len(qrels[query]) for query in run.queries])
    positives = np.array([numbers[passage] for query in run.queries for passage in qrels[query]], dtype=np.int64)
    ranked_texts = starts[:, None] + texts[ranked]
    of_taken = np.repeat(starts, [len(taken.get(query, ())) for query in run.queries])
    others = np.array([numbers[passage] for query in run.queries for passage in taken.get(query, ())], dtype=np.int64)
    without = np.concatenate([of_query + texts[positives], of_taken + texts[others]])
    allowed = (ranked >= 0) & ~_among(ranked_texts, without)
    if mining.candidates == "labelled":
        labelled = {passage for each in qrels.values() for passage in each} & numbers.keys()
        allowed &= _among(ranked, np.array([numbers[passage] for passage in labelled]))
    if mining.relative_margin is not None:
        is_positive = _among(starts[:, None] + ranked, of_query + positives) & (ranked >= 0)
        allowed &= ~_within_margin(run.scores.astype(np.float64), is_positive, mining.relative_margin)
    return allowed & ~_repeats(ranked_texts, allowed)


def _among(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`np.isin`, at a tenth of its time where few are wanted."""
    if not len(wanted):
        return np.zeros(values.shape, dtype=bool)
    wanted = np.sort(wanted)
    return wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)] == values


def _repeats(texts: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(queries, depth) bool: allowed passages whose text an allowed one of a better rank has."""
    ordered = np.sort(texts, axis=1)
    some = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1, keepdims=True)  # most rows need no closer look
    flat = np.flatnonzero(allowed & some)
    repeats = np.zeros(texts.size, dtype=bool)
    repeats[flat] = pd.Series(texts.reshape(-1)[flat]).duplicated()
    return repeats.reshape(texts.shape)


def _within_margin(scores: np.ndarray, is_positive: np.ndarray, margin: float) -> np.ndarray:
    """What scores too near the best positive; one that is not ranked scores no more than the last that is."""
    best = np.where(is_positive, scores, -np.inf).max(axis=1, keepdims=True)
    best = np.where(is_positive.any(axis=1, keepdims=True), best, scores[:, -1:])
    return scores > best - np.abs(best) * margin


def _least(inside: np.ndarray, hashes: np.ndarray, number: int) -> np.ndarray:
    """(queries, depth) bool: of `inside`, the `number` of each row whose hashes are least."""
    if number >= inside.shape[1]:
        return inside
    hashes = np.where(inside, hashes, np.iinfo(np.uint64).max)
    return inside & (hashes <= np.partition(hashes, number - 1, axis=1)[:, [number - 1]])


def hashes(texts: list[str]) -> np.ndarray:
    """64 bits of each text, the same in every process."""
    return pd.util.hash_array(np.array(texts, dtype=object), categorize=False)


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea and Flood 2014): every bit in changes half the bits out."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _by_query(run: Run, values: np.ndarray, counts: np.ndarray) -> dict[str, list]:
    parts = np.split(values, np.cumsum(counts))[:-1]
    return {query: part.tolist() for query, part in zip(run.queries, parts, strict=True)}


def _where(run: Run, rows: np.ndarray) -> list[str]:
    return [run.queries[row] for row in np.flatnonzero(rows)]


def enough(negatives: Negatives, run: Run, corpus: int) -> bool:
    """Whether a deeper run could not help: nobody fell short, or the run holds the whole corpus."""
    return not negatives.short or run.scores.shape[1] >= corpus
