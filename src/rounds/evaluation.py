"""Evaluation: qrels x runs -> metrics (ranx), over all queries and over seen and unseen passages apart.

With one relevant passage a query, MAP@k is MRR@k and Recall@k is HitRate@k.
"""

import numpy as np
import ranx

from rounds.errors import UserError
from rounds.ranking import Run

MAIN = "MAP@25"
METRICS = {
    "MAP@25": "map@25",
    **{f"Recall@{k}": f"recall@{k}" for k in (25, 50, 75, 100)},
    **{f"MRR@{k}": f"mrr@{k}" for k in (1, 5, 10, 20, 100)},
    **{f"P@{k}": f"precision@{k}" for k in (1, 5, 10, 20, 100)},
    **{f"HitRate@{k}": f"hit_rate@{k}" for k in (1, 5, 10, 20, 100)},
    "NDCG@10": "ndcg@10",
}
APART = ("MAP@25", "Recall@25")
DEPTH = 100


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
            names[query]: {wide(passage): -float(rank) for rank, passage in enumerate(run.passages[row, :DEPTH])}
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
        if name in APART:
            for part, mask in (("seen", ~is_unseen), ("unseen", is_unseen)):
                table[f"{name} {part}"] = round(float(values[mask].mean()), 6) if mask.any() else None
    return table


def fisher(a: np.ndarray, b: np.ndarray, permutations: int = 10_000, seed: int = 42) -> float:
    """Two-sided p of Fisher's randomization test on paired per-query scores (Smucker et al. 2007).

    >>> fisher(np.zeros(50), np.zeros(50))
    1.0
    """
    from scipy.stats import permutation_test

    if len(a) < 2 or np.array_equal(a, b):
        return 1.0
    result = permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=permutations, batch=1000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.pvalue)
