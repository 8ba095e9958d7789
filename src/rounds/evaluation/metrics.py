"""Evaluation: qrels x runs -> metrics (ranx), over all queries and over seen and unseen passages apart.

With one relevant passage a query, MAP@k is MRR@k and Recall@k is HitRate@k.
"""

import numpy as np
import ranx

from rounds.errors import UserError
from rounds.retrieval.run import Run
from rounds.retrieval.vectors import unit_vectors

MAIN_METRIC = "MAP@25"

METRICS = {
    "MAP@25": "map@25",
    **{f"Recall@{k}": f"recall@{k}" for k in (25, 50, 75, 100)},
    **{f"MRR@{k}": f"mrr@{k}" for k in (1, 5, 10, 20, 100)},
    **{f"P@{k}": f"precision@{k}" for k in (1, 5, 10, 20, 100)},
    **{f"HitRate@{k}": f"hit_rate@{k}" for k in (1, 5, 10, 20, 100)},
    "NDCG@10": "ndcg@10",
}

HEADLINE_METRICS = ("MAP@25", "Recall@25")

METRIC_DEPTH = 100

SAMPLED = 500  # passages whose cosines are looked at

SCORES = 50_000_000  # similarities of the validation loss, at most


def per_query(
    run: Run, qrels: dict[str, list[str]], metrics: tuple[str, ...] = tuple(METRICS)
) -> dict[str, np.ndarray]:
    """Each metric of each query.

    Returns:
        metric name -> (queries,) float64, in the order of `run.queries`.

    Raises:
        UserError: a query of the run has no relevant passage, or the other way round.
    """
    if set(run.queries) != set(qrels):
        raise UserError(f"run and qrels do not hold the same queries ({len(run.queries)} and {len(qrels)})")
    # Ids of one width: numba compiles ranx anew for each width of strings. Ranks as scores: ranx sorts ties unstably.
    ids: dict[str, str] = {}

    def wide(passage: str) -> str:
        return ids.setdefault(passage, f"{len(ids):09d}")

    names = {query: f"{row:09d}" for row, query in enumerate(run.queries)}
    judged = ranx.Qrels({names[query]: {wide(passage): 1 for passage in qrels[query]} for query in run.queries})
    ranked = ranx.Run(
        {
            names[query]: {wide(passage): -float(rank) for rank, passage in enumerate(run.passages[row, :METRIC_DEPTH])}
            for row, query in enumerate(run.queries)
        }
    )
    ranx.evaluate(judged, ranked, [METRICS[name] for name in metrics], return_mean=False)
    return {
        name: np.array([ranked.scores[METRICS[name]][names[query]] for query in run.queries], dtype=np.float64)
        for name in metrics
    }


def summarize(scores: dict[str, np.ndarray], queries: list[str], unseen: set[str]) -> dict[str, float | int | None]:
    """Means over all queries, and of `APART` over those on seen and on unseen passages.

    Args:
        scores: as `per_query` returns them, in the order of `queries`.
        unseen: queries whose passages training never labelled.
    """
    is_unseen = np.array([query in unseen for query in queries])
    table: dict[str, float | int | None] = {"queries": len(queries), "unseen_queries": int(is_unseen.sum())}
    for name, values in scores.items():
        table[name] = round(float(values.mean()), 6)
        if name in HEADLINE_METRICS:
            for part, mask in (("seen", ~is_unseen), ("unseen", is_unseen)):
                table[f"{name} {part}"] = round(float(values[mask].mean()), 6) if mask.any() else None
    return table


def random_run(queries: list[str], passages: list[str], seed: int = 42) -> Run:
    """Return a run that ranks passages at random, to `METRIC_DEPTH`."""
    generator = np.random.default_rng(seed)
    depth = min(METRIC_DEPTH, len(passages))
    ranked = np.stack([generator.choice(len(passages), depth, replace=False) for _ in queries])
    return Run(queries, np.array(passages)[ranked], np.tile(-np.arange(depth, dtype=np.float32), (len(queries), 1)))


def mean_cosine(vectors: np.ndarray, seed: int = 42) -> float:
    """Mean cosine of pairs of different random passages; near 1, the vectors have collapsed into one direction."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:SAMPLED]
    unit = unit_vectors(vectors[rows])
    total = np.square(np.linalg.norm(unit.sum(axis=0, dtype=np.float64))) - len(rows)
    return float(total / max(len(rows) * (len(rows) - 1), 1))


def retrieval_loss(
    queries: np.ndarray, passages: np.ndarray, relevant: list[list[int]], temperature: float, seed: int = 42
) -> float:
    """InfoNCE of queries against the whole corpus: what training lowers, on queries that it does not see.

    Args:
        queries: (queries, dim).
        passages: (passages, dim).
        relevant: each query's rows of `passages`; the best scored of them is its positive, the others are left out.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(queries))[: max(SCORES // len(passages), 1)])
    scores = np.asarray(queries[rows], dtype=np.float64) @ np.asarray(passages, dtype=np.float64).T / temperature
    losses = []
    for own, row in zip(scores, rows, strict=True):
        positive = own[relevant[row]].max()
        others = np.delete(own, relevant[row])
        losses.append(np.logaddexp.reduce(np.append(others, positive)) - positive)
    return float(np.mean(losses))
