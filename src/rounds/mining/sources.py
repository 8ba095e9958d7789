"""Sources of hard negatives: each ranks the corpus for every query, and mining samples its share of that run.

To add a source:

1. Write a function `(SourceRequest) -> Run` here and register it in `SOURCES` under its name. A source that reads a
   file takes its path from `request.path`; the recipe names it `NAME:PATH`.
2. Allow the name in the recipe (`SOURCES`, or `FILE_SOURCES` if it reads a file, in `rounds.config.sections.mining`),
   and describe it at `negatives` there; `python -m rounds.config.reference docs/recipes-reference.md` writes the page
   anew.
3. Test it in `tests/mining/test_sources.py`.
"""

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from rounds.config.recipe import Mining, split_source
from rounds.data.images import find_image
from rounds.data.passage_pool import ids_of, take_ids
from rounds.errors import UserError
from rounds.mining import sampling
from rounds.mining.sampling import Negatives
from rounds.retrieval import bm25, search
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import find_not_finite, list_names


@dataclass(frozen=True)
class MiningTask:
    """The queries to mine for, and the corpus to mine from.

    Attributes:
        queries: query id -> text.
        passages: passage id -> text.
        qrels: query id -> relevant passage ids.
        groups: query id -> the groups that it belongs to (construct, subject), the most specific first.
        excluded: query id -> unlabelled passages that may be relevant and must not become negatives.
    """

    queries: dict[str, str]
    passages: Mapping[str, str]
    qrels: dict[str, list[str]]
    groups: dict[str, list[str]]
    excluded: dict[str, list[str]] = field(default_factory=dict)


class DenseRanker(Protocol):
    """Rank the corpus with the checkpoint, to a depth; `modality="only"` ranks pictures without their words."""

    def __call__(self, depth: int, modality: str = "with") -> Run: ...


@dataclass(frozen=True)
class SourceRequest:
    """Everything that a source may use to rank the corpus.

    Attributes:
        task: queries, corpus and labels.
        recipe: the recipe's section `mining`.
        seed: of random sources.
        depth: passages to rank for each query; a source may return fewer.
        rank_dense: ranks with the checkpoint.
        path: the file of a source that is named `NAME:PATH`.
    """

    task: MiningTask
    recipe: Mining
    seed: int
    depth: int
    rank_dense: DenseRanker
    path: Path | None = None


@dataclass(frozen=True)
class Source:
    """One place that negatives come from.

    Attributes:
        rank: returns the source's run of the request's queries.
        is_ranked: the order of the run is by relevance: the recipe's range of ranks applies.
        has_margin: scores are comparable to the positive's: the recipe's `relative_margin` applies.
        reads_file: the recipe names it `NAME:PATH`.
    """

    rank: Callable[[SourceRequest], Run]
    is_ranked: bool = False
    has_margin: bool = False
    reads_file: bool = False


def rank_dense(request: SourceRequest) -> Run:
    """Rank by the checkpoint's similarity."""
    return request.rank_dense(request.depth)


def rank_pictures(request: SourceRequest) -> Run:
    """Rank by the checkpoint's similarity of pictures, without their words.

    Raises:
        UserError: no query has a picture.
    """
    if all(find_image(text) is None for text in request.task.queries.values()):
        raise UserError("mining.negatives pictures: no query has a picture; leave it out")
    return request.rank_dense(request.depth, "only")


def rank_bm25(request: SourceRequest) -> Run:
    """Rank by BM25."""
    return bm25.rank(request.task.queries, request.task.passages, request.depth, request.recipe.bm25)


def rank_at_random(request: SourceRequest) -> Run:
    """Shuffle the corpus for each query, seeded by the query's id: other queries change nothing."""
    ids = ids_of(request.task.passages)
    width = min(request.depth, len(ids))
    # Copies: a slice would keep the permutation of the whole corpus.
    rows = [generator.permutation(len(ids))[:width].copy() for generator in _generators(request)]
    return Run(list(request.task.queries), take_ids(ids, np.stack(rows)), np.zeros((len(rows), width), np.float32))


def rank_same_group(request: SourceRequest) -> Run:
    """Shuffle the positives of the queries in a query's most specific group, then those of the next group.

    Raises:
        UserError: no query belongs to a group.
    """
    task = request.task
    members: dict[str, dict[str, None]] = {}
    for query, groups in task.groups.items():
        for group in groups:
            members.setdefault(group, {}).update(dict.fromkeys(task.qrels[query]))
    if not members:
        raise UserError("mining.negatives same_group: the rows have neither construct nor subject; leave it out")
    rows = []
    for query, generator in zip(task.queries, _generators(request), strict=True):
        shuffled = [generator.permutation(list(members[group])).tolist() for group in task.groups[query]]
        rows.append(list(dict.fromkeys(passage for group in shuffled for passage in group)))
    width = max(map(len, rows))
    passages = np.array([row + [""] * (width - len(row)) for row in rows])  # no passage has an empty id
    scores = np.where(passages == "", -np.inf, 0).astype(np.float32)
    return Run(list(task.queries), passages, scores)


def rank_by_vectors(request: SourceRequest) -> Run:
    """Rank by the vectors of another encoder, read from an .npz file.

    The file holds `query_ids`, `queries` (queries, dim), `passage_ids` and `passages` (passages, dim).

    Raises:
        UserError: the file cannot be read, or lacks the vector of a query or passage.
    """
    path, task = request.path, request.task
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("query_ids", "queries", "passage_ids", "passages")}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a .npz file of query_ids, queries, passage_ids and passages ({reason})") from None
    queries = _select_vectors(path, "query", list(task.queries), arrays["query_ids"], arrays["queries"])
    passages = _select_vectors(path, "passage", ids_of(task.passages), arrays["passage_ids"], arrays["passages"])
    if queries.shape[1] != passages.shape[1]:
        raise UserError(
            f"{path}: queries have {queries.shape[1]} dimensions and passages {passages.shape[1]}; encode both by one "
            "model"
        )
    depth = min(request.depth, len(task.passages))
    return search.rank(list(task.queries), queries, ids_of(task.passages), passages, depth)


def _select_vectors(path: Path, kind: str, ids: Sequence[str], file_ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the vectors (ids, dim) float32 of `ids`, in their order."""
    rows = {str(identifier): row for row, identifier in enumerate(file_ids)}
    missing = [identifier for identifier in ids if identifier not in rows]
    if missing or len(rows) != len(vectors) or vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number):
        shape = f"{len(rows)} ids, vectors of shape {vectors.shape} and type {vectors.dtype}"
        reason = f"{missing[0]} has none" if missing else shape
        raise UserError(f"{path}: does not hold a vector of each {kind} ({reason})")
    with np.errstate(over="ignore"):
        selected = vectors[[rows[identifier] for identifier in ids]].astype(np.float32)
    if len(lost := find_not_finite(selected)):
        names = list_names([ids[row] for row in lost])
        raise UserError(f"{path}: the {kind} vectors of {names} hold values that are not numbers; make them anew")
    return selected


def _generators(request: SourceRequest) -> list[np.random.Generator]:
    """Return a random generator for each query, seeded by the seed and the query's id."""
    keys = sampling.hash_texts([f"{request.seed}-{query}" for query in request.task.queries])
    return [np.random.default_rng(int(key)) for key in keys]


SOURCES = {
    "dense": Source(rank_dense, is_ranked=True, has_margin=True),
    "bm25": Source(rank_bm25, is_ranked=True),
    "random": Source(rank_at_random),
    "same_group": Source(rank_same_group),
    "pictures": Source(rank_pictures, is_ranked=True),
    "vectors": Source(rank_by_vectors, is_ranked=True, has_margin=True, reads_file=True),
}


def find_source(name: str) -> tuple[Source, Path | None]:
    """Return the source that a recipe names, and the file that it reads.

    >>> source, path = find_source("vectors:images.npz")
    >>> source.reads_file, str(path)
    (True, 'images.npz')
    """
    kind, path = split_source(name)
    return SOURCES[kind], Path(path) if path else None


def mine_negatives(task: MiningTask, rank_dense: DenseRanker, recipe: Mining, seed: int, depth: int) -> Negatives:
    """Mine each source's share of negatives, in the recipe's order of sources, no passage or text twice.

    If a source has too few passages, the recipe's first ranked source fills up, or else random passages. With
    `unlabelled_share`, both sample the two kinds of passages apart, and passages of the other kind come last, where the
    corpus holds too few of one.

    Args:
        rank_dense: ranks with the checkpoint.
        depth: depth of the first runs; doubled until every query has its negatives or the runs hold the corpus.

    Raises:
        UserError: a source cannot be used with this data.
    """
    counts = shares(recipe.negatives, recipe.negative_number)
    fallback = next((name for name in counts if find_source(name)[0].is_ranked), "random")
    while True:
        runs = {}
        for name in {**counts, fallback: 0}:
            source, path = find_source(name)
            runs[name] = source.rank(SourceRequest(task, recipe, seed, depth, rank_dense, path))
        negatives = _combine_shares(_Sampler(task, runs, recipe, seed), counts, fallback)
        if depth >= len(task.passages) or sampling.is_complete(negatives, runs[fallback], len(task.passages)):
            return negatives
        depth *= 2


@dataclass(frozen=True)
class _Sampler:
    """Samples one source's run after the other, each time without the passages that a query already has."""

    task: MiningTask
    runs: dict[str, Run]
    recipe: Mining
    seed: int

    def sample(self, name: str, count: int, negatives: Negatives, kind: str | None = None) -> Negatives:
        """Return `count` negatives of a source and kind for each query, none of them in `negatives`."""
        excluded = self.task.excluded
        taken = {query: [*excluded.get(query, ()), *ids] for query, ids in negatives.ids.items()}
        recipe = _recipe_for_source(self.recipe, find_source(name)[0], count)
        task, run = self.task, self.runs[name]
        return sampling.sample_negatives(run, task.qrels, task.passages, recipe, self.seed, taken, kind)


def _recipe_for_source(recipe: Mining, source: Source, count: int) -> Mining:
    """Return the recipe with one source's number of negatives, and the range and margin that apply to it."""
    margin = recipe.relative_margin if source.has_margin else None
    # An unranked run is shuffled already: take its first passages.
    ranks = recipe.range_for_sampling if source.is_ranked else "0-1"
    return replace(recipe, negative_number=count, relative_margin=margin, range_for_sampling=ranks)


def _combine_shares(sampler: _Sampler, counts: dict[str, int], fallback: str) -> Negatives:
    """Return each source's share of negatives, missing ones filled up from the fallback source."""
    queries, number = list(sampler.task.queries), sampler.recipe.negative_number
    negatives = Negatives(
        ids={query: [] for query in queries},
        scores={query: [] for query in queries},
        sources={query: [] for query in queries},
    )
    quotas = _quotas(counts, sampler.recipe.unlabelled_share)
    for name, kind, count in quotas:
        sample = sampler.sample(name, count, negatives, kind)
        _append(negatives, sample, name, dict.fromkeys(queries, count))
        if find_source(name)[0].is_ranked:
            known = set(negatives.deepened)
            negatives.deepened.extend(query for query in sample.deepened if query not in known)
    kinds, refilled = list(dict.fromkeys(kind for _, kind, _ in quotas)), []
    if set(counts) != {fallback}:
        for kind in kinds:
            wanted = sum(count for _, other, count in quotas if other == kind)
            if missing := _missing(_of_kind(negatives, sampler.task, kind), wanted):
                _append(negatives, sampler.sample(fallback, wanted, negatives, kind), fallback, missing)
    if kinds != [None] and (missing := _missing(negatives.ids, number)):
        _append(negatives, sampler.sample(fallback, number, negatives), fallback, missing)
        refilled = list(missing)
    return replace(negatives, short=list(_missing(negatives.ids, number)), refilled=refilled)


def _quotas(counts: dict[str, int], unlabelled_share: float | None) -> list[tuple[str, str | None, int]]:
    """Return how many negatives of each kind each source gives; one kind, None, without a share.

    The share holds for all sources together: what rounding takes from one, the next one gives.

    >>> _quotas({"dense": 3, "bm25": 3}, 0.5)
    [('dense', 'unlabelled', 2), ('dense', 'labelled', 1), ('bm25', 'unlabelled', 1), ('bm25', 'labelled', 2)]
    """
    if unlabelled_share is None:
        return [(name, None, count) for name, count in counts.items()]
    quotas, total, unlabelled = [], 0, 0
    for name, count in counts.items():
        total += count
        part = int(total * unlabelled_share + 0.5) - unlabelled
        unlabelled += part
        quotas += [(name, "unlabelled", part), (name, "labelled", count - part)]
    return [quota for quota in quotas if quota[2]]


def _of_kind(negatives: Negatives, task: MiningTask, kind: str | None) -> dict[str, list[str]]:
    """Return each query's negatives of a kind; of both kinds for None."""
    if kind is None:
        return negatives.ids
    labelled = sampling.labelled_passages(task.qrels)
    return {q: [p for p in ids if (p in labelled) == (kind == "labelled")] for q, ids in negatives.ids.items()}


def _missing(ids: dict[str, list[str]], number: int) -> dict[str, int]:
    """Return how many of `number` passages each query lacks; queries that have all are left out."""
    return {query: number - len(passages) for query, passages in ids.items() if len(passages) < number}


def _append(negatives: Negatives, sample: Negatives, source: str, limits: dict[str, int]) -> None:
    """Append a source's sample to `negatives`, up to a limit for each query; queries without a limit get none."""
    for query, ids in sample.ids.items():
        count = min(len(ids), limits.get(query, 0))
        negatives.ids[query] += ids[:count]
        negatives.scores[query] += sample.scores[query][:count]
        negatives.sources[query] += [source] * count


def drop_false_negatives(
    negatives: Negatives, task: MiningTask, score: Callable[[list[tuple[str, str]]], np.ndarray], number: int
) -> Negatives:
    """Drop negatives that a reranker scores above the query's best positive, and keep the first `number` of the rest.

    Args:
        score: scores (query, passage) texts -> (pairs,).

    Returns:
        The remaining negatives with the reranker's scores, and its scores of each query's positives.
    """
    pairs = [(query, passage) for query in task.queries for passage in [*task.qrels[query], *negatives.ids[query]]]
    scores = iter(score([(task.queries[query], task.passages[passage]) for query, passage in pairs]).tolist())
    kept = Negatives({}, {}, deepened=negatives.deepened)
    for query in task.queries:
        kept.positive_scores[query] = [next(scores) for _ in task.qrels[query]]
        best = max(kept.positive_scores[query])
        scored = [(next(scores), *row) for row in zip(negatives.ids[query], negatives.sources[query], strict=True)]
        scored = [row for row in scored if row[0] <= best][:number]
        kept.scores[query] = [row[0] for row in scored]
        kept.ids[query] = [row[1] for row in scored]
        kept.sources[query] = [row[2] for row in scored]
        if len(scored) < number:
            kept.short.append(query)
    return kept


def shares(ratios: dict[str, float], number: int) -> dict[str, int]:
    """Split `number` among sources by ratio, the largest remainders rounded up; sources with a share of 0 drop out.

    >>> shares({"dense": 2, "bm25": 1, "random": 1}, 15)
    {'dense': 7, 'bm25': 4, 'random': 4}
    """
    total = sum(ratios.values())
    exact = {source: number * ratio / total for source, ratio in ratios.items()}
    counts = {source: int(value) for source, value in exact.items()}
    by_remainder = sorted(exact, key=lambda source: (counts[source] - exact[source], list(exact).index(source)))
    for source in by_remainder[: number - sum(counts.values())]:
        counts[source] += 1
    return {source: count for source, count in counts.items() if count}
