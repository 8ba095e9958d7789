"""Sample hard negatives from a run, without false negatives and duplicates. Works without torch."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import pandas as pd

from rounds.config.recipe import Mining, parse_range
from rounds.data.passage_pool import read_texts, rows_of
from rounds.data.text import normalize_text
from rounds.retrieval.run import Run


@dataclass(frozen=True)
class Negatives:
    """Hard negatives of each query, best ranked first.

    Attributes:
        ids: query id -> passage ids.
        scores: query id -> similarities, in the order of `ids`.
        deepened: queries whose range of ranks held too few candidates, so that later ranks filled up.
        short: queries that have too few negatives even so.
        refilled: queries that have fewer negatives of one kind, labelled or not, than the recipe's share says, and more
            of the other instead.
        sources: query id -> the source of each negative, in the order of `ids`; empty if one run gave all.
        positive_scores: query id -> scores of its positives by a reranker; empty without one.
    """

    ids: dict[str, list[str]]
    scores: dict[str, list[float]]
    deepened: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    refilled: list[str] = field(default_factory=list)
    sources: dict[str, list[str]] = field(default_factory=dict)
    positive_scores: dict[str, list[float]] = field(default_factory=dict)


class _NumberedRun:
    """A run whose passages and texts are integers, so that numpy compares all queries at once.

    A key is unique over all queries: query number * corpus size + number of a passage or text.

    Attributes:
        numbers: (queries, depth) int64, each ranked passage's place in the corpus; -1 if it is not in the corpus.
        passage_keys, text_keys: (queries, depth) int64; passages with the same normalized text share a text key.

    Args:
        run: the ranking.
        passages: passage id -> text; the texts of ranked and of further passages are read, and no others.
        further: passages that ranked ones are compared with.
    """

    def __init__(self, run: Run, passages: Mapping[str, str], further: Iterable[str]) -> None:
        self.run = run
        ranked = run.passages.reshape(-1).tolist()
        self.place = rows_of(passages, chain(ranked, further))
        self.numbers = np.fromiter(map(self.place.get, ranked, repeat(-1)), np.int64, len(ranked))
        self.numbers = self.numbers.reshape(run.passages.shape)
        self.text_of = _number_texts(passages, self.place)
        self.offsets = np.arange(len(run.queries)) * len(passages)
        self.passage_keys = self.offsets[:, None] + self.numbers
        self.text_keys = self.offsets[:, None] + self.text_of[self.numbers]

    def in_corpus(self) -> np.ndarray:
        """Return a mask (queries, depth) of the ranked passages that the corpus holds."""
        return self.numbers >= 0

    def is_any_of(self, passages: Iterable[str]) -> np.ndarray:
        """Return a mask (queries, depth) of the ranked passages that are among `passages`, for all queries alike."""
        return _is_in(self.numbers, self._places(passages))

    def is_passage_of(self, passages: dict[str, list[str]]) -> np.ndarray:
        """Return a mask (queries, depth) of the ranked passages that are among their query's `passages`."""
        offsets, places = self._flatten(passages)
        return _is_in(self.passage_keys, offsets + places) & self.in_corpus()

    def has_text_of(self, passages: dict[str, list[str]]) -> np.ndarray:
        """Return a mask (queries, depth) of the ranked passages with the text of one of their query's `passages`."""
        offsets, places = self._flatten(passages)
        return _is_in(self.text_keys, offsets + self.text_of[places])

    def _flatten(self, passages: dict[str, list[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the passages of all queries in one array: their queries' offsets, and their places in the corpus."""
        per_query = [passages.get(query, ()) for query in self.run.queries]
        offsets = np.repeat(self.offsets, [len(ids) for ids in per_query])
        return offsets, self._places(passage for ids in per_query for passage in ids)

    def _places(self, passages: Iterable[str]) -> np.ndarray:
        return np.array([self.place[passage] for passage in passages], dtype=np.int64)


def _number_texts(passages: Mapping[str, str], place: dict[str, int]) -> np.ndarray:
    """Return (corpus,) int64: a number for the normalized text of each passage of `place`; 0 for all others."""
    text_of = np.zeros(len(passages), np.int64)
    by_text: dict[bytes, int] = {}
    for number, text in read_texts(passages, place):
        digest = hashlib.blake2b(normalize_text(text).encode(), digest_size=16).digest()  # shorter than texts
        text_of[number] = by_text.setdefault(digest, len(by_text))
    return text_of


def sample_negatives(
    run: Run,
    qrels: dict[str, list[str]],
    passages: Mapping[str, str],
    recipe: Mining,
    seed: int,
    taken: dict[str, list[str]] | None = None,
    kind: str | None = None,
) -> Negatives:
    """Sample the negatives of each query from a range of ranks.

    Ranks count from 0 over the whole ranking, positives included (FlagEmbedding's `--range_for_sampling`). If the
    range holds too few candidates, the next ranks fill up. The sample is drawn by a hash of seed, query id and passage
    id: with the whole corpus as candidates, neither order nor number of the queries changes a query's negatives.

    Args:
        run: ranking of the corpus for each query of `qrels`; ranks behind the range serve as fallback.
        qrels: query id -> relevant passage ids.
        passages: passage id -> text.
        recipe: range, number, margin and candidates.
        taken: query id -> further passages that must not be sampled, nor passages with their text.
        kind: sample only passages that some query has as a positive (`labelled`), or none has (`unlabelled`); None
            samples both.
    """
    first, last = parse_range(recipe.range_for_sampling)
    taken = taken or {}
    further = chain.from_iterable(ids for each in (qrels, taken) for ids in each.values())
    numbered = _NumberedRun(run, passages, further)
    candidates = _candidate_mask(numbered, qrels, recipe, taken, kind)
    chosen = candidates.copy()
    chosen[:, :first] = chosen[:, last:] = False
    chosen = _keep_lowest(chosen, _draw_keys(numbered, len(passages), seed), recipe.negative_number)
    missing = recipe.negative_number - chosen.sum(axis=1, keepdims=True)
    fallback = candidates[:, last:]
    chosen[:, last:] = fallback & (fallback.cumsum(axis=1) <= missing)
    counts = chosen.sum(axis=1)
    return Negatives(
        _by_query(run, run.passages[chosen], counts),
        _by_query(run, run.scores[chosen], counts),
        deepened=_queries_at(run, chosen[:, last:].any(axis=1)),
        short=_queries_at(run, counts < recipe.negative_number),
    )


def _candidate_mask(
    numbered: _NumberedRun,
    qrels: dict[str, list[str]],
    recipe: Mining,
    taken: dict[str, list[str]],
    kind: str | None,
) -> np.ndarray:
    """Return a mask (queries, depth) of the passages that may serve as negatives, each text once."""
    mask = numbered.in_corpus() & ~numbered.has_text_of(qrels) & ~numbered.has_text_of(taken)
    if recipe.candidates == "labelled" or kind:
        is_labelled = numbered.is_any_of(labelled_passages(qrels) & numbered.place.keys())
        mask &= ~is_labelled if kind == "unlabelled" else is_labelled
    if recipe.relative_margin is not None:
        scores = numbered.run.scores.astype(np.float64)
        mask &= ~_within_margin(scores, numbered.is_passage_of(qrels), recipe.relative_margin)
    return mask & ~_duplicates(numbered.text_keys, mask)


def labelled_passages(qrels: dict[str, list[str]]) -> set[str]:
    """Return the passages that are a positive of some query."""
    return {passage for positives in qrels.values() for passage in positives}


def _is_in(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the mask of `np.isin`, in a tenth of its time if there are few members."""
    if not len(members):
        return np.zeros(values.shape, dtype=bool)
    members = np.sort(members)
    return members[np.minimum(np.searchsorted(members, values), len(members) - 1)] == values


def _duplicates(text_keys: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return a mask (queries, depth) of the candidates whose text a better ranked candidate has as well."""
    in_order = np.sort(text_keys, axis=1)
    has_duplicates = (in_order[:, 1:] == in_order[:, :-1]).any(axis=1, keepdims=True)  # few rows: the rest is skipped
    flat = np.flatnonzero(candidates & has_duplicates)
    duplicates = np.zeros(text_keys.size, dtype=bool)
    duplicates[flat] = pd.Series(text_keys.reshape(-1)[flat]).duplicated()
    return duplicates.reshape(text_keys.shape)


def _within_margin(scores: np.ndarray, is_positive: np.ndarray, margin: float) -> np.ndarray:
    """Mask passages within the margin of the best positive; an unranked positive gets the lowest ranked score."""
    best = np.where(is_positive, scores, -np.inf).max(axis=1, keepdims=True)
    best = np.where(is_positive.any(axis=1, keepdims=True), best, scores[:, -1:])
    return scores > best - np.abs(best) * margin


def _draw_keys(numbered: _NumberedRun, corpus_size: int, seed: int) -> np.ndarray:
    """Return (queries, depth) uint64 keys, by whose order each query draws its passages."""
    query_keys = _mix(hash_texts([f"{seed}-{query}" for query in numbered.run.queries]))[:, None]
    passage_keys = np.zeros(corpus_size, np.uint64)
    passage_keys[list(numbered.place.values())] = hash_texts(list(numbered.place))
    return _mix(query_keys ^ passage_keys[numbered.numbers])


def _keep_lowest(mask: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """Return the mask with only the `count` places of each row that have the lowest keys."""
    if count >= mask.shape[1]:
        return mask
    keys = np.where(mask, keys, np.iinfo(np.uint64).max)
    return mask & (keys <= np.partition(keys, count - 1, axis=1)[:, [count - 1]])


def hash_texts(texts: list[str]) -> np.ndarray:
    """Return a 64-bit hash (texts,) uint64 of each text, the same in every process."""
    return pd.util.hash_array(np.array(texts, dtype=object), categorize=False)


def _mix(values: np.ndarray) -> np.ndarray:
    """Apply SplitMix64's output function (Steele, Lea and Flood 2014): each input bit flips half of the output bits."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _by_query(run: Run, values: np.ndarray, counts: np.ndarray) -> dict[str, list]:
    parts = np.split(values, np.cumsum(counts))[:-1]
    return {query: part.tolist() for query, part in zip(run.queries, parts, strict=True)}


def _queries_at(run: Run, mask: np.ndarray) -> list[str]:
    return [run.queries[row] for row in np.flatnonzero(mask)]


def is_complete(negatives: Negatives, run: Run, corpus_size: int) -> bool:
    """Return whether a deeper run could not help: no query lacks negatives, or the run holds the whole corpus."""
    return not (negatives.short or negatives.refilled) or run.scores.shape[1] >= corpus_size
