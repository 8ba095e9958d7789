"""Tune BM25's parameters on a split's training queries."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

from rounds.config.sections.mining import BM25
from rounds.evaluation.metrics import METRIC_DEPTH, per_query
from rounds.retrieval import bm25
from rounds.retrieval.run import NOTHING

GRID = {"k1": (0.6, 0.9, 1.2, 1.5, 2.0, 3.0), "b": (0.0, 0.25, 0.5, 0.75, 1.0)}

TUNED_BY = "MRR@100"


def tune(
    queries: dict[str, str],
    passages: dict[str, str],
    qrels: dict[str, list[str]],
    parameters: BM25 = bm25.DEFAULTS,
    left_out: Mapping[str, list[str]] = NOTHING,
) -> list[tuple[float, float, float]]:
    """Score BM25 at each point of `GRID` and return (k1, b, MRR@100) of each, the best first.

    Args:
        queries: query id -> text; not the queries of an evaluation.
        passages: passage id -> text.
        qrels: query id -> relevant passage ids.
        parameters: the recipe's `mining.bm25`, whose stemmer and stop words are kept.
        left_out: query id -> passages that its ranking does not hold.
    """
    points = []
    for k1, b in itertools.product(GRID["k1"], GRID["b"]):
        run = bm25.rank(queries, passages, METRIC_DEPTH, replace(parameters, k1=k1, b=b), left_out)
        points.append((k1, b, float(per_query(run, qrels, (TUNED_BY,))[TUNED_BY].mean())))
    return sorted(points, key=lambda point: -point[2])
