"""Learning curve: the slope as by hand, intervals over whole questions, parts of the other folds only."""

import numpy as np
import pytest
from helpers.random_folds import fold

from rounds.data.few_shot import QueryMetadata
from rounds.evaluation.metrics import MAIN_METRIC
from rounds.evaluation.table import Table
from rounds.reranking import cross_validation, fusion, learning_curve, views
from rounds.reranking.fusion import Fusion


def questions(count: int) -> list[list[str]]:
    """Two folds of queries, each a question of its own."""
    return [[f"{place}-{number}" for number in range(count)] for place in range(2)]


def constant(means: list[float], count: int = 8) -> list[list[np.ndarray]]:
    """Points with the same score for every query of two folds, in a single draw."""
    return [[np.full((1, count), mean)] * 2 for mean in means]


def test_the_slope_is_continued_from_the_last_point():
    """Points that rise by 0.1 for each doubling: half a doubling beyond the last is 0.05 above it."""
    curve = learning_curve.extrapolate([100, 200, 400], constant([0.2, 0.3, 0.4]), 566, questions(8))
    assert curve.gain == pytest.approx(0.1 * np.log2(566 / 400)) and curve.score == pytest.approx(0.4 + curve.gain)
    assert curve.scores == pytest.approx([0.2, 0.3, 0.4]) and curve.target == 566
    assert curve.interval == pytest.approx((curve.score, curve.score))


def test_the_slope_is_that_of_least_squares():
    """Doublings are at -1, 0 and 1, so the slope of 0.2, 0.5, 0.3 is (0.3 - 0.2) / 2 for a doubling."""
    curve = learning_curve.extrapolate([100, 200, 400], constant([0.2, 0.5, 0.3]), 800, questions(8))
    assert curve.gain == pytest.approx(0.05) and curve.score == pytest.approx(0.35)


def test_the_intervals_hold_the_points_and_narrow_with_more_questions():
    """Random scores of 50 and of 1,250 questions a fold; the standard error falls to a fifth."""
    widths = []
    for count in (50, 1250):
        generator = np.random.default_rng(1)
        scores = [[generator.random((1, count)) for _ in range(2)] for _ in range(3)]
        curve = learning_curve.extrapolate([100, 200, 400], scores, 800, questions(count))
        (low, high), (least, most) = curve.interval, curve.gain_interval
        assert low < curve.score < high and least < curve.gain < most
        widths.append(most - least)
    assert 4 < widths[0] / widths[1] < 6.25
    # A gain is half of last minus first: deviation sqrt(2 / 12) / 2 of a query, in two folds of 1,250.
    assert widths[1] == pytest.approx(2 * 1.96 * np.sqrt(2 / 12) / 2 / np.sqrt(2500), rel=0.1)


def test_the_spread_of_the_draws_widens_the_interval():
    """Draws of 0.2 and 0.4 vary by 0.02: 0.005 for two in two folds, 0.01 for the last and the extrapolated."""
    drawn, single = np.repeat([[0.2], [0.4]], 8, axis=1), np.full((1, 8), 0.5)
    curve = learning_curve.extrapolate([100, 200], [[drawn] * 2, [single] * 2], 400, questions(8))
    assert curve.scores == pytest.approx([0.3, 0.5]) and curve.gain == pytest.approx(0.2)
    least, most = curve.gain_interval
    assert most - least == pytest.approx(2 * 1.96 * np.sqrt(0.005 + 0.01 + 0.01), rel=0.1)


def test_queries_of_a_question_are_drawn_together():
    """Every query four times says no more than once, so the interval stays as wide."""
    generator = np.random.default_rng(1)
    scores = [[generator.random((1, 400)) for _ in range(2)] for _ in range(2)]
    once = learning_curve.extrapolate([100, 200], scores, 400, questions(400))
    repeated = [[np.repeat(values, 4, axis=1) for values in point] for point in scores]
    fourfold = [[name for name in own for _ in range(4)] for own in questions(400)]
    assert learning_curve.extrapolate([100, 200], repeated, 400, fourfold).interval == pytest.approx(once.interval)


def test_parts_are_of_the_other_folds_nested_and_of_whole_questions(monkeypatch):
    """No fit sees a query of the fold that it ranks; the half holds the quarter; siblings stay together."""
    folds, fitted, ranked = [fold(seed) for seed in range(3)], [], []
    for each in folds:
        each.data.metadata.update(
            {query: QueryMetadata("", question=str(row // 5)) for row, query in enumerate(each.table.queries)}
        )
    monkeypatch.setattr(fusion, "fit", lambda tables, views: fitted.append(tables) or Fusion([]))
    monkeypatch.setattr(Fusion, "score", lambda self, each: ranked.append(each) or np.zeros(len(each.query_rows)))
    curve = learning_curve.measure(folds, [("m",)], [np.zeros(40)] * 3)
    assert curve.queries == [20, 40, 80] and curve.target == 120
    drawn = [[query for table in tables for query in table.queries] for tables in fitted]
    assert len(drawn) == 2 * 3 * learning_curve.DRAWS
    for table, own in zip(ranked, drawn, strict=True):
        assert not set(table.queries) & set(own)
        assert all(sum(query.startswith(name[: name.index("-") + 1]) for query in own) % 5 == 0 for name in own)
    quarters, halves = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert all(set(quarter) < set(half) for quarter, half in zip(quarters, halves, strict=True))
    assert quarters[0] != quarters[1]


def test_the_last_point_is_the_row_of_the_table_which_stays_as_it_was(tmp_path, monkeypatch):
    """The curve leaves the stages' rows alone, and is kept below them and in the JSON file."""
    monkeypatch.setattr(fusion, "EPOCHS", 1)
    monkeypatch.setattr(fusion, "SEEDS", 1)
    folds = [fold(seed) for seed in range(2)]
    label, fusion_views = views.default_views(["m"])[0]
    rows = cross_validation.evaluate_stages(folds, [(label, fusion_views)])
    table = cross_validation.stage_table(rows, folds, "")
    curve = learning_curve.measure(folds, fusion_views, rows[-1].scores[MAIN_METRIC])
    assert f"{curve.scores[-1]:.4f}" == table.rows[-1][1] and curve.interval[0] <= curve.score <= curve.interval[1]
    assert cross_validation.stage_table(rows, folds, "") == table
    plain = cross_validation.write_table(table, tmp_path / "plain")
    kept = cross_validation.write_table(table, tmp_path / "kept", {"learning_curve": curve})
    assert kept[0].read_text() == f"{plain[0].read_text()}\n{curve}\n"
    assert kept[1].read_text() == plain[1].read_text() and Table.load(kept[2]) == table
    assert '"learning_curve": {' in kept[2].read_text()


def test_there_is_no_curve_where_a_part_teaches_nothing():
    """Of two folds, one has no relevant candidate."""
    folds = [fold(seed) for seed in range(2)]
    folds[0].table.relevant[:] = False
    assert learning_curve.measure(folds, [("m",)], [np.zeros(40)] * 2) is None
