"""Confidence: how sure a checkpoint is of its best passage, and from which confidence on it is right often enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rounds.errors import UserError
from rounds.evaluation.table import Column, Table
from rounds.retrieval.run import Run

LEAST_ROWS = 20  # held-out rows that a precision is measured on

STEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds in the table, beside the chosen one


@dataclass(frozen=True)
class HeldOut:
    """What a checkpoint ranks first for labelled queries that it was not trained on.

    Attributes:
        confidence: (queries,) float64.
        is_right: (queries,) bool, whether the passage is relevant.
        is_unseen: (queries,) bool, whether no relevant passage was a label in training.
    """

    confidence: np.ndarray
    is_right: np.ndarray
    is_unseen: np.ndarray

    @classmethod
    def join(cls, parts: Sequence["HeldOut"]) -> "HeldOut":
        """Return the queries of several checkpoints together."""
        names = ("confidence", "is_right", "is_unseen")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def confidences(run: Run, temperature: float) -> np.ndarray:
    """Return the softmax probability of each query's best passage among those ranked, (queries,) float64.

    It is the probability that training with InfoNCE maximizes for the positive, and takes all rivals into account. The
    distance from the best passage to the second says less: where several passages mean nearly the same, and where one
    does, it may be equal.

    Args:
        run: the ranking; passages behind its depth count as impossible.
        temperature: similarities are divided by it, as in training.

    >>> run = Run(["q"], np.array([["1", "2", "3"]]), np.array([[0.5, 0.25, 0.25]], dtype=np.float32))
    >>> float(confidences(run, 0.25).round(4)[0])  # e / (e + 1 + 1)
    0.5761
    """
    scores = run.scores.astype(np.float64)
    return 1 / np.exp((scores - scores[:, :1]) / temperature).sum(axis=1)


def choose_threshold(held_out: HeldOut, min_precision: float) -> float:
    """Return the lowest confidence from which on the held-out queries' best passages are right often enough.

    Raises:
        UserError: no confidence reaches `min_precision` on `LEAST_ROWS` queries or more.
    """
    order = np.argsort(-held_out.confidence, kind="stable")
    confidence, is_right = held_out.confidence[order], held_out.is_right[order]
    counts = np.arange(1, len(order) + 1)
    precision = is_right.cumsum() / counts
    # A threshold takes all queries of equal confidence or none of them.
    is_end = np.append(confidence[1:] < confidence[:-1], True) if len(order) else np.zeros(0, dtype=bool)
    allowed = is_end & (counts >= LEAST_ROWS)
    reached = np.flatnonzero(allowed & (precision >= min_precision))
    if not len(reached):
        best = precision[allowed].max() if allowed.any() else None
        most = "too few" if best is None else f"the best precision is {best:.4f}, on {LEAST_ROWS} or more"
        raise UserError(
            f"MIN_PRECISION={min_precision:g}: no confidence reaches it on {len(order)} held-out queries ({most}); "
            "lower it, or take a better ROUND"
        )
    return float(confidence[reached[-1]])


def threshold_table(held_out: HeldOut, unlabelled: np.ndarray, chosen: float) -> Table:
    """Return the rows kept and their precision on held-out queries at several thresholds, the chosen one among them.

    Args:
        held_out: labelled queries that the models were not trained on.
        unlabelled: (queries,) float64, confidence of the queries to label.
        chosen: the threshold that is taken.
    """
    columns = ("confidence", "kept", "kept share", "held out", "precision", "seen", "unseen")
    rows = []
    for threshold in sorted({*STEPS, chosen}):
        above = held_out.confidence >= threshold
        kept = int((unlabelled >= threshold).sum())
        sides = (above, above & ~held_out.is_unseen, above & held_out.is_unseen)
        precisions = [f"{held_out.is_right[side].mean():.4f}" if side.any() else "" for side in sides]
        mark = " *" if threshold == chosen else ""
        share = f"{kept / len(unlabelled):.3f}" if len(unlabelled) else ""
        rows.append([f"{threshold:.4f}{mark}", str(kept), share, str(int(above.sum())), *precisions])
    title = f"pseudo-labels: {len(unlabelled)} unlabelled queries, {len(held_out.confidence)} held-out ones"
    caption = "*: the threshold; precision of the best passage on the held-out queries from this confidence on"
    return Table([Column(name) for name in columns], rows, title, caption)
