"""Metrics of a run against relevance judgements, as trec_eval computes them, over all, seen and unseen queries.

With one relevant passage per query, MAP@k equals MRR@k and Recall@k equals HitRate@k.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pytrec_eval

from rounds.data.passage_pool import take_ids
from rounds.errors import UserError
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.run import NOTHING, Run, rank_without
from rounds.retrieval.vectors import unit_vectors

MAIN_METRIC = "MAP@25"

# Names of trec_eval's measures; it has no reciprocal rank with a cutoff, which follows from the one without.
METRICS = {
    "MAP@25": "map_cut_25",
    **{f"Recall@{k}": f"recall_{k}" for k in (25, 50, 75, 100)},
    **{f"MRR@{k}": "recip_rank" for k in (1, 5, 10, 20, 100)},
    **{f"P@{k}": f"P_{k}" for k in (1, 5, 10, 20, 100)},
    **{f"HitRate@{k}": f"success_{k}" for k in (1, 5, 10, 20, 100)},
    "NDCG@10": "ndcg_cut_10",
}

HEADLINE_METRICS = ("MAP@25", "Recall@25")

METRIC_DEPTH = 100

NO_GRADES: Mapping[str, Mapping[str, int]] = MappingProxyType({})

COSINE_SAMPLE = 500  # passages whose pairwise cosines are averaged

LOSS_BLOCK = 2**14  # passages that are scored at once for the validation loss

MAX_LOSS_SCORES = 50_000_000  # query-passage scores that the validation loss computes at most


def per_query(
    run: Run,
    qrels: dict[str, list[str]],
    metrics: tuple[str, ...] = tuple(METRICS),
    grades: Mapping[str, Mapping[str, int]] = NO_GRADES,
) -> dict[str, np.ndarray]:
    """Return each metric of each query.

    Args:
        run: the ranking; passages behind `METRIC_DEPTH` do not count.
        qrels: query id -> relevant passage ids.
        metrics: names of `METRICS`.
        grades: query id -> grade of each judged passage, which NDCG takes as gain; passages of a query without an
            entry have grade 1.

    Returns:
        metric name -> (queries,) float64, in the order of `run.queries`.

    Raises:
        UserError: the run and the qrels hold different queries.
    """
    if set(run.queries) != set(qrels):
        raise UserError(f"run and qrels do not hold the same queries ({len(run.queries)} and {len(qrels)})")
    judged = {query: dict(grades.get(query) or dict.fromkeys(qrels[query], 1)) for query in run.queries}
    # trec_eval breaks ties by id, so ranks stand in for scores.
    ranked = {
        query: {passage: -float(rank) for rank, passage in enumerate(passages)}
        for query, passages in zip(run.queries, run.passages[:, :METRIC_DEPTH].tolist(), strict=True)
    }
    measures = {_with_cutoff_parameter(METRICS[name]) for name in metrics}
    found = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(ranked)
    return {name: np.array([_value(name, found.get(query)) for query in run.queries]) for name in metrics}


def _with_cutoff_parameter(measure: str) -> str:
    """Return a measure as the evaluator takes it: `P_10` is `P.10`."""
    name, _, cutoff = measure.rpartition("_")
    return f"{name}.{cutoff}" if cutoff.isdigit() else measure


def _value(metric: str, measured: dict[str, float] | None) -> float:
    """Return one query's metric: 0 for a query without relevant passages, which trec_eval leaves out."""
    if measured is None:
        return 0.0
    value = measured[METRICS[metric]]
    # The reciprocal rank of a passage behind the cutoff is 0.
    if metric.startswith("MRR@") and value * int(metric.partition("@")[2]) < 1 - 1e-9:
        return 0.0
    return value


def summarize(
    scores: dict[str, np.ndarray], queries: list[str], unseen: set[str], qrels: Mapping[str, list[str]] = NOTHING
) -> dict[str, float | int | None]:
    """Return the mean of each metric, and of `HEADLINE_METRICS` over queries on seen and on unseen passages apart.

    Args:
        scores: as `per_query` returns them, in the order of `queries`.
        queries: query ids.
        unseen: ids of the queries whose passages no training query is labelled with.
        qrels: query id -> relevant passage ids. A query without any (all its grades are 0) is in neither part.

    Returns:
        metric name -> mean, rounded to 6 decimals; None for a part without queries. `queries` and `unseen_queries`
        are counts.
    """
    is_unseen = np.array([query in unseen for query in queries])
    is_seen = np.array([query not in unseen and qrels.get(query) != [] for query in queries])
    means: dict[str, float | int | None] = {"queries": len(queries), "unseen_queries": int(is_unseen.sum())}
    for name, values in scores.items():
        means[name] = round(float(values.mean()), 6)
        if name in HEADLINE_METRICS:
            for part, mask in (("seen", is_seen), ("unseen", is_unseen)):
                means[f"{name} {part}"] = round(float(values[mask].mean()), 6) if mask.any() else None
    return means


def random_run(
    queries: list[str], passages: Sequence[str], seed: int = 42, left_out: Mapping[str, list[str]] = NOTHING
) -> Run:
    """Return a run that ranks passages at random, to `METRIC_DEPTH`.

    Args:
        queries: query ids.
        passages: passage ids.
        seed: of the ranking.
        left_out: query id -> passages that its ranking does not hold.
    """

    def rank(depth: int) -> Run:
        generator = np.random.default_rng(seed)
        ranked = np.stack([generator.choice(len(passages), depth, replace=False) for _ in queries])
        scores = np.tile(-np.arange(depth, dtype=np.float32), (len(queries), 1))
        return Run(queries, take_ids(passages, ranked), scores)

    return rank_without(rank, queries, left_out, METRIC_DEPTH, len(passages))


def mean_cosine(vectors: Vectors, seed: int = 42) -> float:
    """Return the mean cosine between different vectors; near 1, they have collapsed into one direction.

    Args:
        vectors: (rows, dim), or those of another representation, which are pooled to one for each text; a random
            sample of `COSINE_SAMPLE` rows is compared.
        seed: of the sample.
    """
    representation = representations.of(vectors)
    rows = np.random.default_rng(seed).permutation(representation.count(vectors))[:COSINE_SAMPLE]
    unit = unit_vectors(representation.pooled(representation.select(vectors, rows)))
    # The squared norm of the sum is the sum over all pairs, of which those of a row with itself are 1 each.
    total = np.square(np.linalg.norm(unit.sum(axis=0, dtype=np.float64))) - len(rows)
    return float(total / max(len(rows) * (len(rows) - 1), 1))


def retrieval_loss(
    queries: Vectors,
    passages: Vectors,
    relevant: list[list[int]],
    temperature: float,
    seed: int = 42,
    left_out: list[list[int]] | None = None,
) -> float:
    """Return the InfoNCE loss of held-out queries against the whole corpus, as training minimizes it.

    Args:
        queries: (queries, dim), or vectors of another representation; a random sample of them if there would be more
            than `MAX_LOSS_SCORES` scores.
        passages: (passages, dim), or vectors of the queries' representation.
        relevant: for each query, rows of `passages`; the best scored one is its positive, the others are left out.
            Queries without any do not count.
        temperature: divides the scores.
        seed: of the sample.
        left_out: for each query, rows of `passages` that are neither relevant nor negatives.
    """
    representation = representations.of(passages)
    count = max(MAX_LOSS_SCORES // representation.count(passages), 1)
    answered = np.flatnonzero([bool(rows) for rows in relevant])
    rows = np.sort(answered[np.random.default_rng(seed).permutation(len(answered))[:count]])
    query_vectors = representation.select(queries, rows)
    relevant, left_out = ([each[row] for row in rows] if each else [[]] * len(rows) for each in (relevant, left_out))
    best = np.full(len(rows), -np.inf)
    rest = np.full(len(rows), -np.inf)  # logarithm of the sum of the negatives' exponentials
    for start in range(0, representation.count(passages), LOSS_BLOCK):
        stop = min(start + LOSS_BLOCK, representation.count(passages))
        block = representation.part(passages, start, stop)
        scores = representation.training_scores(query_vectors, block) / temperature
        for row, query_scores in enumerate(scores):
            positives, others = (
                [place - start for place in each[row] if start <= place < stop] for each in (relevant, left_out)
            )
            best[row] = query_scores[positives].max(initial=best[row])
            negatives = np.delete(query_scores, positives + others)
            rest[row] = np.logaddexp.reduce(negatives, initial=rest[row])
    return float(np.mean(np.logaddexp(rest, best) - best))
