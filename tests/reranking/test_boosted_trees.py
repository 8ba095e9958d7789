"""Boosted trees: they find what tells, are one view among the ensemble's, and read what its networks read."""

import numpy as np
import pytest
from helpers.random_folds import table
from helpers.tiny_task import refused

from rounds.config.sections.ensemble import Ensemble
from rounds.reranking import boosted_trees, fusion, views
from rounds.reranking.folds import RERANKER
from rounds.reranking.fusion import TreeView

MEMBERS = ["m round 0 topic", "m round 0", "m round 1", "m round 2"]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few small trees."""
    monkeypatch.setattr(boosted_trees, "TREES", 20)
    monkeypatch.setattr(boosted_trees, "LEAST_PAIRS", 5)
    monkeypatch.setattr(fusion, "SEEDS", 1)


def drawn(seed: int, queries: int = 120):
    return table(np.random.default_rng(seed), "q", queries)


def test_trees_find_what_tells_and_say_the_same_twice():
    """The feature that tells decides on other queries; the probabilities of each of these sum to 1."""
    one, other = drawn(1), drawn(2)
    view = TreeView(("m", "votes m"))
    scores = fusion.fit([one], [view]).score(other)
    best = other.to_run(other.features["m: signal"]).passages[:, 0]
    assert np.mean(other.to_run(scores).passages[:, 0] == best) > 0.7
    assert np.allclose(np.bincount(other.query_rows, scores), 1) and scores.min() > 0
    assert np.array_equal(scores, fusion.fit([one], [view]).score(other))


def test_softmax_equals_the_slow_one():
    """Queries of unlike lengths, one of a single pair; large log-odds do not overflow."""
    rows = np.array([0, 0, 0, 1, 2, 2])
    scores = np.array([1.0, -2.0, 0.5, 900.0, -700.0, -701.0])
    expected = []
    for query in range(3):
        own = scores[rows == query]
        weights = np.exp(own - own.max())
        expected += (weights / weights.sum()).tolist()
    np.testing.assert_allclose(boosted_trees.softmax_by_query(scores, rows), expected)


def test_a_missing_value_is_learned_from():
    """That a value is not there tells; infinities are missing values, too."""
    one = drawn(1)
    one.features["m: signal"] = np.where(one.relevant, np.nan, np.float32(1.5)).astype(np.float32)
    one.features["votes m: noise"][::5] = np.nan
    view = TreeView(("m", "votes m"))
    scores = fusion.fit([one], [view]).score(one)
    assert scores[one.relevant].min() > scores[~one.relevant].max()
    one.features["votes m: noise"][::5] = -np.inf
    np.testing.assert_array_equal(fusion.fit([one], [view]).score(one), scores)


def test_a_feature_that_no_pair_has_teaches_nothing():
    """Nor is it one where candidates that are scored have it."""
    one, other = drawn(1), drawn(2)
    plain = fusion.fit([one], [TreeView(("m",))]).score(other)
    one.features["labels: noise"] = np.full(len(one.query_rows), np.nan, dtype=np.float32)
    assert (
        np.mean(
            other.to_run(fusion.fit([one], [TreeView(("m", "labels"))]).score(other)).passages[:, 0]
            == other.to_run(plain).passages[:, 0]
        )
        > 0.9
    )


def test_trees_weigh_as_much_as_a_view_of_networks():
    """The ensemble's probabilities are the mean over its views."""
    one, other = drawn(1), drawn(2)
    chosen = [("m",), ("votes m",), TreeView(("m", "votes m"))]
    alone = [fusion.fit([one], [view]).score(other) for view in chosen]
    np.testing.assert_allclose(fusion.fit([one], chosen).score(other), np.mean(alone, axis=0))


def test_trees_do_not_score_other_features():
    """They would read one feature for another."""
    fitted, other = fusion.fit([drawn(1)], [TreeView(("m",))]), drawn(2)
    other.features["m: more"] = other.features["m: signal"]
    with refused("other features", "make them again"):
        fitted.score(other)


def test_trees_read_what_the_networks_of_the_ensemble_read():
    """All of it, once; not where the recipe leaves them out, and never in the fusion."""
    (_, alone), (_, plain) = views.default_views(MEMBERS, Ensemble(boosted_trees=False))
    (_, fused), (_, ensemble) = views.default_views(MEMBERS)
    assert fused == alone and ensemble[:-1] == plain and not any(isinstance(view, TreeView) for view in plain)
    assert isinstance(ensemble[-1], TreeView) and len(set(ensemble[-1])) == len(ensemble[-1])
    assert set(ensemble[-1]) == {group for view in plain for group in view}
    (_, silent) = views.default_views(MEMBERS, Ensemble(outside_votes=False))[-1]
    assert "outside" in str(ensemble[-1]) and "outside" not in str(silent)


def test_ablations_tell_what_trees_gain():
    """A row has them where the ensemble has none, and lacks them where it has; other ensembles keep them."""
    own = drawn(1).with_features(f"votes {MEMBERS[-1]}", {"score": np.zeros(120 * 30)})
    own = own.with_scores(RERANKER, np.zeros(120 * 30))
    without_trees = Ensemble(boosted_trees=False)
    plain = views.default_views(MEMBERS, without_trees)[-1][1]
    assert dict(views.ablation_views(MEMBERS, own, without_trees))["ensemble, boosted trees"][:-1] == plain
    found = dict(views.ablation_views(MEMBERS, own))
    assert found["ensemble without boosted trees"] == plain and "ensemble, boosted trees" not in found
    for label in ("ensemble, all rounds", "ensemble, reranked"):
        assert [isinstance(view, TreeView) for view in found[label]].count(True) == 1
    assert all(RERANKER in view for view in found["ensemble, reranked"])
    assert MEMBERS[2] in found["ensemble, all rounds"][-1]
