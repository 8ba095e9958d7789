"""Negatives: where hard negatives come from. Each source is a run; mining takes its share of each."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from rounds.config.recipe import VECTORS_PREFIX, Mining
from rounds.data.images import find_image
from rounds.errors import UserError
from rounds.mining import sampling
from rounds.mining.sampling import Negatives
from rounds.retrieval import bm25, search
from rounds.retrieval.run import Run

DENSE, BM25, RANDOM, GROUP, PICTURES = "dense", "bm25", "random", "same_group", "pictures"


@dataclass(frozen=True)
class MiningTask:
    """What is mined for.

    Attributes:
        queries: query id -> text.
        passages: passage id -> text.
        qrels: query id -> relevant passage ids.
        groups: query id -> the groups that it belongs to (construct, subject), the nearest first.
        excluded: query id -> passages that may be relevant, though nobody says so: never negatives.
    """

    queries: dict[str, str]
    passages: dict[str, str]
    qrels: dict[str, list[str]]
    groups: dict[str, list[str]]
    excluded: dict[str, list[str]] = field(default_factory=dict)

    def without(self, found: Negatives) -> dict[str, list[str]]:
        """What no source may give: passages that are excluded or taken."""
        return {query: [*self.excluded.get(query, ()), *ids] for query, ids in found.ids.items()}


def mine(task: MiningTask, dense: Callable[..., Run], how: Mining, seed: int, depth: int) -> Negatives:
    """Each source's share of negatives, no passage (or text) twice, the sources' order as the recipe names them.

    What a source cannot give, a deeper one does: the first of the recipe's that ranks by similarity, else `random`.

    Args:
        dense: the checkpoint's run of a depth; with "only", that of the pictures without their words.
        depth: of the runs at first; doubled until every query has its negatives or the corpus ends.

    Raises:
        UserError: a source cannot be used with this data.
    """
    counts = shares(how.negatives, how.negative_number)
    fallback = next((source for source in counts if _is_ranked(source)), RANDOM)
    while True:
        runs = {source: _run(source, task, dense, how, seed, depth) for source in {**counts, fallback: 0}}
        found = _from_runs(task, runs, counts, fallback, how, seed)
        if sampling.enough(found, runs[fallback], len(task.passages)):
            return found
        depth *= 2


def _from_runs(
    task: MiningTask, runs: dict[str, Run], counts: dict[str, int], fallback: str, how: Mining, seed: int
) -> Negatives:
    """Each source's share from runs of one depth, and from `fallback`'s what is missing then."""
    found = Negatives({query: [] for query in task.queries}, {query: [] for query in task.queries})

    def more(source: str, count: int) -> Negatives:
        own = _of_source(how, source, count)
        return sampling.mine(runs[source], task.qrels, task.passages, own, seed, task.without(found))

    def missing() -> dict[str, int]:
        counts = {query: how.negative_number - len(ids) for query, ids in found.ids.items()}
        return {query: count for query, count in counts.items() if count}

    for source, count in counts.items():
        _add(found, source, more(source, count))
    if missing() and set(counts) != {fallback}:
        _add(found, fallback, more(fallback, how.negative_number), missing())
    return replace(found, short=list(missing()))


def _add(found: Negatives, source: str, more: Negatives, wanted: dict[str, int] | None = None) -> None:
    """Put a source's negatives behind those that are there; at most `wanted` of each query."""
    for query, ids in more.ids.items():
        number = len(ids) if wanted is None else wanted.get(query, 0)
        found.ids[query] += ids[:number]
        found.scores[query] += more.scores[query][:number]
        found.sources.setdefault(query, []).extend([source] * len(ids[:number]))
    if wanted is None and _is_ranked(source):
        before = set(found.deepened)
        found.deepened.extend(query for query in more.deepened if query not in before)


def _is_ranked(source: str) -> bool:
    """Whether the order of a source's run means something: ranges and margins count there."""
    return source in (DENSE, BM25, PICTURES) or source.startswith(VECTORS_PREFIX)


def _of_source(how: Mining, source: str, count: int) -> Mining:
    """The recipe's mining for one source: ranges and margins are for sources that rank by similarity."""
    if _is_ranked(source):
        margin = None if source in (BM25, PICTURES) else how.relative_margin
        return replace(how, negative_number=count, relative_margin=margin)
    # Drawn already: behind the first, what is missing is taken in the run's order.
    return replace(how, negative_number=count, relative_margin=None, range_for_sampling="0-1")


def _run(source: str, task: MiningTask, dense: Callable[..., Run], how: Mining, seed: int, depth: int) -> Run:
    if source == DENSE:
        return dense(depth)
    if source == PICTURES:
        if all(find_image(text) is None for text in task.queries.values()):
            raise UserError(f"mining.negatives {PICTURES}: no query has a picture; leave it out")
        return dense(depth, "only")
    if source == BM25:
        return bm25.rank(task.queries, task.passages, depth, how.bm25.k1, how.bm25.b)
    if source == RANDOM:
        return _at_random(task, seed, depth)
    if source == GROUP:
        return _of_groups(task, seed)
    return _by_vectors(Path(source.removeprefix(VECTORS_PREFIX)), task, depth)


def _at_random(task: MiningTask, seed: int, depth: int) -> Run:
    """Passages drawn for each query by its id: other queries change nothing."""
    ids = np.array(list(task.passages))
    width = min(depth, len(ids))
    keys = sampling.hashes([f"{seed}-{query}" for query in task.queries])
    rows = [np.random.default_rng(int(key)).permutation(len(ids))[:width] for key in keys]
    return Run(list(task.queries), ids[np.stack(rows)], np.zeros((len(rows), width), dtype=np.float32))


def _of_groups(task: MiningTask, seed: int) -> Run:
    """The passages of other queries in the query's nearest group, shuffled, then those of the next."""
    members: dict[str, dict[str, None]] = {}
    for query, groups in task.groups.items():
        for group in groups:
            members.setdefault(group, {}).update(dict.fromkeys(task.qrels[query]))
    if not members:
        raise UserError(f"mining.negatives {GROUP}: the rows have neither construct nor subject; leave it out")
    rows = []
    for query, key in zip(task.queries, sampling.hashes([f"{seed}-{query}" for query in task.queries]), strict=True):
        generator = np.random.default_rng(int(key))
        drawn = [generator.permutation(list(members[group])).tolist() for group in task.groups[query]]
        rows.append(list(dict.fromkeys(passage for group in drawn for passage in group)))
    width = max(map(len, rows))
    passages = np.array([row + [""] * (width - len(row)) for row in rows])  # no passage has an empty id
    scores = np.where(passages == "", -np.inf, 0).astype(np.float32)
    return Run(list(task.queries), passages, scores)


def without_false(
    found: Negatives, task: MiningTask, score: Callable[[list[tuple[str, str]]], np.ndarray], number: int
) -> Negatives:
    """Leave out what a reranker scores above the query's best positive, and keep the first `number` of the rest.

    Args:
        score: (query, passage) texts -> (pairs,) scores.

    Returns:
        The rest, with the reranker's scores, and in `positives` those of each query's positives.
    """
    pairs = [(query, passage) for query in task.queries for passage in [*task.qrels[query], *found.ids[query]]]
    scores = iter(score([(task.queries[query], task.passages[passage]) for query, passage in pairs]).tolist())
    kept = replace(found, ids={}, scores={}, sources={}, positives={}, short=[])
    for query in task.queries:
        kept.positives[query] = [next(scores) for _ in task.qrels[query]]
        best = max(kept.positives[query])
        rows = list(zip(found.ids[query], (next(scores) for _ in found.ids[query]), found.sources[query], strict=True))
        rows = [row for row in rows if row[1] <= best][:number]
        for column, part in enumerate((kept.ids, kept.scores, kept.sources)):
            part[query] = [row[column] for row in rows]
        if len(rows) < number:
            kept.short.append(query)
    return kept


def _by_vectors(path: Path, task: MiningTask, depth: int) -> Run:
    """A second encoder's run, from a .npz file of `query_ids`, `queries`, `passage_ids`, `passages`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = {name: stored[name] for name in ("query_ids", "queries", "passage_ids", "passages")}
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a .npz file of query_ids, queries, passage_ids and passages ({reason})") from None
    found = []
    for kind, wanted in (("query", task.queries), ("passage", task.passages)):
        vectors = parts["queries" if kind == "query" else "passages"]
        rows = {str(each): row for row, each in enumerate(parts[f"{kind}_ids"])}
        missing = [each for each in wanted if each not in rows]
        if missing or len(rows) != len(vectors) or vectors.ndim != 2:
            example = f"{missing[0]} has none" if missing else f"{len(rows)} ids, vectors of shape {vectors.shape}"
            raise UserError(f"{path}: does not hold a vector of each {kind} ({example})")
        found.append(vectors[[rows[each] for each in wanted]].astype(np.float32))
    return search.rank(list(task.queries), found[0], list(task.passages), found[1], min(depth, len(task.passages)))


def shares(ratios: dict[str, float], number: int) -> dict[str, int]:
    """How many of `number` each source gives: by ratio, the largest remainders rounded up.

    >>> shares({"dense": 2, "bm25": 1, "random": 1}, 15)
    {'dense': 7, 'bm25': 4, 'random': 4}
    """
    total = sum(ratios.values())
    exact = {source: number * ratio / total for source, ratio in ratios.items()}
    found = {source: int(value) for source, value in exact.items()}
    by_rest = sorted(exact, key=lambda source: (found[source] - exact[source], list(exact).index(source)))
    for source in by_rest[: number - sum(found.values())]:
        found[source] += 1
    return {source: count for source, count in found.items() if count}
