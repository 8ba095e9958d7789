"""Confidence: the probability that training maximizes, and the lowest threshold that is precise enough."""

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.mining.confidence import LEAST_ROWS, HeldOut, choose_threshold, confidences, threshold_table
from rounds.retrieval.run import Run


def held_out(seed: int, queries: int = 80, decimals: int = 1) -> HeldOut:
    """Confidences with ties, and best passages that are right the more often the surer."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(queries).round(decimals)
    return HeldOut(confidence, rng.random(queries) < confidence, rng.random(queries) < 0.5)


def slow_threshold(rows: HeldOut, precision: float) -> float | None:
    """Try each confidence as a threshold, the lowest first."""
    for threshold in sorted(set(rows.confidence.tolist())):
        right = [r for c, r in zip(rows.confidence.tolist(), rows.is_right.tolist(), strict=True) if c >= threshold]
        if len(right) >= LEAST_ROWS and sum(right) / len(right) >= precision:
            return threshold
    return None


@pytest.mark.parametrize("precision", [0.0, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_equals_a_slow_loop(seed, precision):
    """The lowest confidence at which all rows from it on, ties included, are precise enough."""
    rows = held_out(seed)
    if (expected := slow_threshold(rows, precision)) is None:
        with refused(f"MIN_PRECISION={precision:g}", "lower it"):
            choose_threshold(rows, precision)
    else:
        assert choose_threshold(rows, precision) == expected


def test_a_precision_out_of_reach_is_refused_with_the_best():
    """The line says how many queries were held out, and the best precision of a threshold."""
    rows = HeldOut(np.linspace(0, 1, 40), np.arange(40) >= 20, np.zeros(40, dtype=bool))
    assert choose_threshold(rows, 1.0) == rows.confidence[20]
    with refused("MIN_PRECISION=1", "40 held-out queries", "the best precision is 0.9500"):
        choose_threshold(HeldOut(rows.confidence, rows.is_right & (np.arange(40) != 39), rows.is_unseen), 1.0)
    with refused("too few"):
        choose_threshold(HeldOut(*(values[:10] for values in vars(rows).values())), 0.1)


def test_confidence_is_the_softmax_probability_of_the_best():
    """Near rivals lower it, wherever they rank; a shift of all scores leaves it as it is."""
    scores = np.array([[0.5, 0.4, 0.1], [0.5, 0.4, 0.4], [0.9, 0.8, 0.5]], dtype=np.float32)
    sure = confidences(Run(["a", "b", "c"], np.array([["1", "2", "3"]] * 3), scores), 0.02)
    expected = np.exp(scores[:, 0] / 0.02) / np.exp(scores / 0.02).sum(axis=1)
    assert sure == pytest.approx(expected, rel=1e-5)
    assert sure[1] < sure[0] == pytest.approx(sure[2], rel=1e-5)


def test_the_table_counts_what_each_threshold_keeps():
    """Rows kept and held-out precision, of seen and unseen labels apart; the chosen threshold is marked."""
    rows = HeldOut(np.array([0.9, 0.8, 0.4, 0.4]), np.array([1, 0, 1, 0], bool), np.array([0, 0, 0, 1], bool))
    table = threshold_table(rows, np.array([0.95, 0.45, 0.41, 0.1]), 0.4)
    (chosen,) = [line for line in table.rows if line[0].endswith("*")]
    assert chosen == ["0.4000 *", "3", "0.750", "4", "0.5000", "0.6667", "0.0000"]
    assert table.rows[-1] == ["0.9000", "1", "0.250", "1", "1.0000", "1.0000", ""]
