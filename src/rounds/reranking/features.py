"""Candidates: the pairs of query and passage that a second stage scores, and what is known of each pair.

Knows no model: similarities come in as vectors, and words as BM25's scores. Every value of a pair is computed from the
query, the corpus and the labelled training queries of the same split, never from the query's own label.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rounds.data import latex
from rounds.data.few_shot import QueryMetadata
from rounds.errors import UserError
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import unit_vectors

FILE = "candidates.npz"

NEAREST, VOTED, LEXICAL = 50, 15, 10  # passages of each ranking that become candidates

SHARPNESS = 0.05  # of the votes' weights: exp(cosine / SHARPNESS)

HUB = 30  # training queries whose mean similarity says how near a passage is to everything

PARTS = ("topic", "problem")  # of a query, which the base model also reads alone

MOST = 50_000_000  # pairs of query and passage held at once, some 200 MB a matrix


@dataclass(frozen=True)
class Candidates:
    """Pairs, sorted by query.

    Attributes:
        queries: query ids, each with at least one pair.
        query: (pairs,) int64, row of `queries`.
        passage: (pairs,) passage ids.
        relevant: (pairs,) bool; all False where nobody knows.
        features: name -> (pairs,) float32; NaN where a pair has no value. `GROUP: NAME` belongs to a group.
    """

    queries: list[str]
    query: np.ndarray
    passage: np.ndarray
    relevant: np.ndarray
    features: dict[str, np.ndarray]

    def names(self, groups: tuple[str, ...]) -> list[str]:
        """The features of some groups, in their own order."""
        return [name for name in self.features if name.partition(": ")[0] in groups]

    def of(self, groups: tuple[str, ...]) -> np.ndarray:
        """(pairs, features) float32 of `names`."""
        return np.stack([self.features[name] for name in self.names(groups)], axis=1)

    def with_scores(self, group: str, scores: np.ndarray) -> "Candidates":
        """The same pairs, with one more scorer's (pairs,) scores as features; NaN where it gave none."""
        filled = np.where(np.isnan(scores), -np.inf, scores)
        best = np.full(len(self.queries), -np.inf)
        np.maximum.at(best, self.query, filled)
        order = np.lexsort((-filled, self.query))
        starts = np.searchsorted(self.query, np.arange(len(self.queries)))
        ranks = np.empty(len(scores))
        ranks[order] = np.arange(len(scores)) - starts[self.query]
        with np.errstate(invalid="ignore"):
            values = {"score": scores, "below best": scores - best[self.query], "rank": np.log1p(ranks)}
        values["rank"] = np.where(np.isnan(scores), np.nan, values["rank"])
        return self.with_group(group, values)

    def with_group(self, group: str, values: dict[str, np.ndarray]) -> "Candidates":
        """The same pairs, with (pairs,) features more."""
        return replace(self, features=self.features | _named(group, values))

    def run(self, scores: np.ndarray) -> Run:
        """The pairs as a run, best first, cut to the length of the shortest list; ties stay in their order."""
        counts = np.bincount(self.query, minlength=len(self.queries))
        order = np.lexsort((-np.asarray(scores, dtype=np.float64), self.query))
        starts = np.concatenate([[0], counts.cumsum()[:-1]])
        best = order[starts[:, None] + np.arange(counts.min())]
        return Run(self.queries, self.passage[best], np.asarray(scores, dtype=np.float32)[best])


@dataclass(frozen=True)
class Labelled:
    """Training queries with what they are labelled with.

    Attributes:
        asked: one for each label of each query.
        passage: (labels,) int64, row of the corpus.
    """

    asked: list[QueryMetadata]
    passage: np.ndarray


@dataclass(frozen=True)
class Member:
    """One checkpoint's vectors of unit length or not; similarity is their inner product.

    Attributes:
        name: the feature group.
        queries: (queries, dim).
        labelled: (labels, dim), in the order of `Labelled`.
        passages: (corpus, dim).
    """

    name: str
    queries: np.ndarray
    labelled: np.ndarray
    passages: np.ndarray


def build_candidates(
    asked: dict[str, QueryMetadata],
    passages: list[str],
    labelled: Labelled,
    members: list[Member],
    lexical: np.ndarray,
    qrels: dict[str, list[str]],
) -> Candidates:
    """The candidates of each query, with features in the groups `MEMBER` (one a member), `votes MEMBER`, `labels`,
    `words` and `siblings`.

    A query's candidates are the nearest passages of the last member, those that its nearest labelled queries vote
    for, and BM25's best.

    Args:
        asked: query id -> query; queries of one question are siblings.
        passages: passage ids in corpus order.
        members: the last is the checkpoint whose ranking is refined.
        lexical: (queries, corpus) BM25's scores.
        qrels: query id -> relevant passage ids; a query without an entry has none.

    Raises:
        UserError: queries times passages are more than this holds in memory.
    """
    if len(asked) * len(passages) > MOST:
        raise UserError(f"{len(asked)} queries and {len(passages)} passages are too many pairs to fuse (most: {MOST})")
    main = members[-1]
    similar, voted = main.queries @ main.passages.T, votes(main.queries @ main.labelled.T, labelled, len(passages))
    chosen = _top(similar, NEAREST) | (_top(voted, VOTED) & (voted > -1)) | (_top(lexical, LEXICAL) & (lexical > 0))
    pairs = np.nonzero(chosen)
    features: dict[str, np.ndarray] = {}
    for member in members:
        features |= _of_member(member, labelled, list(asked.values()), pairs)
    features |= _of_labels(list(asked.values()), labelled, len(passages), main, pairs)
    features |= _named("words", _ranked(lexical, pairs))
    features |= _of_siblings(list(asked.values()), similar, pairs)
    number = {passage: row for row, passage in enumerate(passages)}
    relevant = np.zeros(chosen.shape, dtype=bool)
    for row, query in enumerate(asked):
        relevant[row, [number[passage] for passage in qrels.get(query, ())]] = True
    ids = np.array(passages, dtype=object)
    features = {name: np.asarray(values, dtype=np.float32) for name, values in features.items()}
    return Candidates(list(asked), pairs[0], ids[pairs[1]], relevant[pairs], features)


def votes(similar: np.ndarray, labelled: Labelled, corpus: int) -> np.ndarray:
    """How near the nearest training query is that is labelled with each passage.

    Args:
        similar: (queries, labels) to the training queries.

    Returns:
        (queries, corpus), -1 for a passage that no training query is labelled with.

    >>> votes(np.array([[0.5, 0.25, 0.75]], "f4"), Labelled([], np.array([2, 0, 2])), 3).tolist()
    [[0.25, -1.0, 0.75]]
    """
    found = np.full((len(similar), corpus), -1.0, dtype=np.float32)
    order = np.argsort(labelled.passage, kind="stable")
    distinct, starts = np.unique(labelled.passage[order], return_index=True)
    found[:, distinct] = np.maximum.reduceat(similar[:, order], starts, axis=1)
    return found


def part_of(asked: QueryMetadata, part: str) -> str:
    """A query's topic (its construct), its problem (lines that are neither construct nor subject), or all of it.

    >>> asked = QueryMetadata("Add\\nSums\\n1 + 1?\\n2\\n11", "5", "Add", "Sums")
    >>> [part_of(asked, part).splitlines() for part in PARTS]
    [['Add'], ['1 + 1?', '2', '11']]
    """
    if part == "topic":
        return asked.construct or asked.text
    if part == "problem":
        topic = {plain for name in (asked.construct, asked.subject) for plain in (name.strip(), latex.words(name))}
        return "\n".join(line for line in asked.text.splitlines() if line.strip() not in topic) or asked.text
    return asked.text


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    """(queries, corpus) bool: each row's best `count`, ties in corpus order."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def _ranks(scores: np.ndarray) -> np.ndarray:
    """(queries, corpus) float32: log(1 + rank), ranks from 0."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty(scores.shape, dtype=np.float32)
    np.put_along_axis(ranks, order, np.log1p(np.arange(scores.shape[1], dtype=np.float32))[None], axis=1)
    return ranks


def _named(group: str, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{group}: {name}": value for name, value in values.items()}


def _ranked(scores: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Score, distance from the query's best, and rank."""
    best = scores.max(axis=1)
    return {"score": scores[pairs], "below best": scores[pairs] - best[pairs[0]], "rank": _ranks(scores)[pairs]}


def _of_member(
    member: Member, labelled: Labelled, asked: list[QueryMetadata], pairs: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Similarity of query and passage, and what the nearest labelled queries vote for."""
    rows, columns = pairs
    similar, near = member.queries @ member.passages.T, member.queries @ member.labelled.T
    is_labelled = np.isin(np.arange(similar.shape[1]), labelled.passage)
    best = [np.where(side, similar, -1).max(axis=1)[rows] for side in (is_labelled, ~is_labelled)]
    own = _ranked(similar, pairs)
    own |= {"below labelled": own["score"] - best[0], "below unlabelled": own["score"] - best[1]}
    own |= {"labelled above unlabelled": best[0] - best[1], "best": similar.max(axis=1)[rows]}
    own["near everything"] = np.sort(member.labelled @ member.passages.T, axis=0)[-HUB:].mean(axis=0)[columns]
    weights = np.exp((near - 1) / SHARPNESS)
    total = np.zeros(similar.shape, dtype=np.float32)
    np.add.at(total.T, labelled.passage, weights.T)
    same = _same(asked, labelled.asked, "construct")
    within = votes(np.where(same, near, -1), labelled, similar.shape[1])
    voted = _ranked(votes(near, labelled, similar.shape[1]), pairs)
    voted |= {"weight": total[pairs], "share": total[pairs] / np.maximum(weights.sum(axis=1), 1e-9)[rows]}
    voted |= _ranked_as("spread", _spread(weights, member.passages, labelled), pairs)
    voted |= {"in construct": within[pairs], "nearest": near.max(axis=1)[rows]}
    voted["nearest in construct"] = np.where(same, near, -1).max(axis=1)[rows]
    return _named(member.name, own) | _named(f"votes {member.name}", voted)


def _ranked_as(name: str, scores: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name} {key}": values for key, values in _ranked(scores, pairs).items()}


def _spread(weights: np.ndarray, passages: np.ndarray, labelled: Labelled) -> np.ndarray:
    """(queries, corpus): how like each passage is to what the nearest labelled queries are labelled with.

    So a vote reaches passages that no training query is labelled with.

    Args:
        weights: (queries, labels) of the votes.
    """
    mean = weights @ passages[labelled.passage]
    return unit_vectors(mean, 1e-9) @ passages.T


def _of_labels(
    asked: list[QueryMetadata], labelled: Labelled, corpus: int, main: Member, pairs: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Whether and how often training labels a passage, for queries of this construct and subject too."""
    rows, columns = pairs
    counts = np.bincount(labelled.passage, minlength=corpus)
    found = {"labelled": counts[columns] > 0, "count": counts[columns]}
    for kind in ("construct", "subject"):
        same = _same(asked, labelled.asked, kind)
        within = np.zeros((len(asked), corpus), dtype=np.float32)
        np.add.at(within.T, labelled.passage, same.T.astype(np.float32))
        found |= {f"count in {kind}": within[pairs], f"queries of {kind}": same.sum(axis=1)[rows]}
    alike = main.passages @ main.passages.T
    np.fill_diagonal(alike, -1)
    for name, side in (("labelled", counts > 0), ("unlabelled", counts == 0)):
        found[f"nearest {name} passage"] = np.where(side[None], alike, -1).max(axis=1)[columns]
    return _named("labels", found)


def _of_siblings(
    asked: list[QueryMetadata], similar: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Mean similarity of the passage to the same question's other wrong answers."""
    same = _same(asked, asked, "question")
    np.fill_diagonal(same, False)
    counts = same.sum(axis=1)
    mean = np.where(counts[:, None] > 0, (same @ similar) / np.maximum(counts, 1)[:, None], similar)
    return _named(
        "siblings", {"score": mean[pairs], "above": (mean - similar)[pairs], "number": counts[pairs[0]]}
    )  # fmt: skip


def _same(one: list[QueryMetadata], other: list[QueryMetadata], kind: str) -> np.ndarray:
    """(one, other) bool: whether both name the same construct, subject or question."""
    left, right = (np.array([getattr(each, kind) for each in side], dtype=object) for side in (one, other))
    return (left[:, None] == right[None]) & (left != "")[:, None]


def write_candidates(found: Candidates, path: Path) -> None:
    """Write a table as `candidates.npz`."""
    np.savez_compressed(
        path, queries=np.array(found.queries), query=found.query, passage=found.passage.astype(str),
        relevant=found.relevant, **{f"feature {name}": values for name, values in found.features.items()},
    )  # fmt: skip


def read_candidates(path: Path) -> Candidates:
    """Read a table that `write` wrote.

    Raises:
        UserError: no such file, or another's.
    """
    try:
        with np.load(path) as arrays:
            features = {key.removeprefix("feature "): arrays[key] for key in arrays if key.startswith("feature ")}
            queries, passage = arrays["queries"].tolist(), arrays["passage"].astype(object)
            return Candidates(queries, arrays["query"], passage, arrays["relevant"], features)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, KeyError, OSError):
        raise UserError(f"{path}: not a table of candidates; delete its folder and run the stage again") from None
