"""Vector check: whether the vectors of two libraries are the same, up to rounding, and rank alike."""

from collections.abc import Callable

import numpy as np

from rounds.errors import UserError

SAME, TOP = 0.9999, 25

NONE = "-"


def make_vector_check(queries: int) -> Callable[..., str]:
    """Return a check that compares two sides' vectors.

    In fp32, cosines and the top 25 (up to ties) must agree; in bf16, it reports the share of our fp32 top 25 that
    each side keeps.
    """

    def agree(title: str, peer: str, theirs: dict, ours: dict) -> str:
        one, other = theirs["fp32"].result, ours["fp32"].result
        cosine = float((one * other).sum(axis=1).min())
        if cosine < SAME or top_overlap(one, other, queries) < 1:
            raise UserError(f"{title}: the vectors of {peer} and rounds differ (least cosine {cosine:.5f})")
        kept = [
            f"{top_overlap(side['bf16'].result, other, queries):.3f}" if "bf16" in side else NONE
            for side in (theirs, ours)
        ]
        return f"cosine {cosine:.5f}; bf16 keeps {kept[0]} / {kept[1]}"

    return agree


def top_overlap(one: np.ndarray, other: np.ndarray, queries: int, tie: float = 2e-5) -> float:
    """Return the share of `other`'s top 25 that `one` ranks there too, up to ties.

    Without passages, the queries are ranked among themselves.
    """
    start = queries if len(one) > queries else 0
    scores = [vectors[:queries] @ vectors[start:].T for vectors in (one, other)]
    depth = min(TOP, scores[0].shape[1])
    edges = [np.partition(each, -depth, axis=1)[:, -depth, None] for each in scores]
    wanted = scores[1] > edges[1] + tie
    return float((wanted & (scores[0] >= edges[0] - tie)).sum() / max(wanted.sum(), 1))
