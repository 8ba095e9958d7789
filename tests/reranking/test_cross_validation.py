"""Cross-validation and fusion: learned on the other folds only, means and spread as by hand, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import slow_clock
from helpers.random_folds import DEPTH, fold, table
from helpers.tiny_task import refused
from rich.console import Console

from rounds.config.sections.ensemble import Ensemble
from rounds.estimate import Estimate
from rounds.evaluation import significance
from rounds.evaluation.table import Table
from rounds.reranking import cross_validation, folds, fusion, views
from rounds.reranking.candidates import Candidates
from rounds.reranking.fusion import Fusion, QueryDropout

NETWORKS = Ensemble(boosted_trees=False)


def test_the_fusion_finds_what_tells_and_says_the_same_twice():
    """The feature that tells decides; a second fit gives the same scores."""
    one, other = (table(np.random.default_rng(seed), "q") for seed in (1, 2))
    model = fusion.fit([one], [("m", "labels")])
    run = other.to_run(model.score(other))
    best = other.to_run(other.features["m: signal"])
    assert np.mean(run.passages[:, 0] == best.passages[:, 0]) > 0.8
    assert np.array_equal(model.score(other), fusion.fit([one], [("m", "labels")]).score(other))


def test_probabilities_are_a_query_s_own():
    """They sum to 1 for each query, whatever other queries stand beside it and in lists of any length."""
    one, other = (table(np.random.default_rng(seed), "q") for seed in (1, 2))
    model = fusion.fit([one], [("m", "words")])
    scores = model.score(other)
    assert np.allclose(np.bincount(other.query_rows, scores), 1)
    kept = (other.query_rows > 30) | (np.arange(len(other.query_rows)) % 7 != 0)
    fewer = Candidates(
        queries=other.queries,
        query_rows=other.query_rows[kept],
        passage_ids=other.passage_ids[kept],
        relevant=other.relevant[kept],
        features={name: values[kept] for name, values in other.features.items()},
    )
    same = model.score(fewer)[fewer.query_rows > 30]
    assert np.allclose(same, scores[other.query_rows > 30], atol=1e-6)


def test_a_feature_without_a_value_counts_as_the_mean_and_is_marked():
    """NaN and infinities give finite scores; that a value is missing can itself be learned."""
    one = table(np.random.default_rng(1), "q", 200)
    hidden = np.where(one.relevant, np.nan, np.float32(1.5))
    one.features["m: signal"] = hidden.astype(np.float32)
    one.features["words: noise"][::5] = -np.inf
    scores = fusion.fit([one], [("m", "words")]).score(one)
    assert np.isfinite(scores).all() and scores[one.relevant].min() > scores[~one.relevant].max()


def test_dropout_hides_a_value_from_all_pairs_of_a_query():
    """A query's pairs lose the same values, another query others; nothing is lost when scoring."""
    layer = QueryDropout(0.5)
    left = layer(torch.ones(20, 7, 9))
    assert (left == left[:, :1]).all() and 0 < (left == 0).float().mean() < 1 and not (left == left[:1]).all()
    assert (layer.eval()(torch.ones(2, 3, 4)) == 1).all()


def test_the_loss_equals_the_slow_sum():
    """A query's loss is minus the log of its relevant pairs' share of exp(score); padding counts for nothing."""
    one = table(np.random.default_rng(1), "q", 6)
    one.relevant[DEPTH : DEPTH + 2] = True
    query_rows = one.query_rows
    kept = (query_rows > 2) | (np.arange(len(query_rows)) % 3 != 0) | one.relevant
    scores, is_pair = fusion.pad_lists(one.feature_matrix(("m",))[kept], query_rows[kept])
    relevant, _ = fusion.pad_lists(one.relevant[kept, None].astype(np.float32), query_rows[kept])
    losses = fusion.listwise_losses(scores[..., 0], is_pair, relevant[..., 0] > 0)
    for query, loss in enumerate(losses.tolist()):
        pairs = (query_rows == query) & kept
        weights = np.exp(one.features["m: signal"][pairs].astype(np.float64))
        assert loss == pytest.approx(-np.log(weights[one.relevant[pairs]].sum() / weights.sum()), 1e-4)


def test_the_fusion_refuses_what_teaches_nothing():
    """Tables without a relevant pair, or with other features."""
    one, other = (table(np.random.default_rng(seed), "q") for seed in (1, 2))
    one.relevant[:] = False
    with refused("no candidate", "relevant"):
        fusion.fit([one], [("m",)])
    del other.features["words: noise"]
    with refused("different features"):
        fusion.fit([one, other], [("m",)])


def test_a_feature_that_did_not_vary_counts_for_nothing():
    """No weight of it was trained, so that what it says of other candidates is noise."""
    learned, other = (table(np.random.default_rng(seed), "q") for seed in (1, 2))
    learned.features["m: flat"] = np.full(len(learned.query_rows), -1, dtype=np.float32)
    fitted = fusion.fit([learned], [("m",)])
    scores = []
    for value in (-1, 0.7):
        other.features["m: flat"] = np.full(len(other.query_rows), value, dtype=np.float32)
        other.features["m: flat"][::3] = -1
        scores.append(fitted.score(other))
    np.testing.assert_array_equal(*scores)


def test_candidates_with_other_features_are_not_scored():
    """The networks would read one feature for another."""
    learned, other = (table(np.random.default_rng(seed), "q") for seed in (1, 2))
    fitted = fusion.fit([learned], [("m",)])
    other.features["m: more"] = other.features["m: signal"]
    with refused("other features", "some that vote"):
        fitted.score(other)


def test_no_fold_is_ranked_by_what_its_own_labels_taught(monkeypatch):
    """Each fit gets every fold's table but that of the fold that it ranks."""
    folds, fitted, scored = [fold(seed) for seed in range(3)], [], []
    fit = fusion.fit

    def spy(tables, groups):
        fitted.append([id(each) for each in tables])
        return fit(tables, groups)

    monkeypatch.setattr(cross_validation.fusion, "fit", spy)
    monkeypatch.setattr(Fusion, "score", lambda self, each: scored.append(id(each)) or np.zeros(len(each.query_rows)))
    cross_validation.evaluate_stages(folds, [("fusion", [("m",)])])
    tables = {id(each.table) for each in folds}
    assert [set(own) | {left} for own, left in zip(fitted, scored, strict=True)] == [tables] * 3
    assert all(left not in own for own, left in zip(fitted, scored, strict=True))


def test_means_and_spread_are_those_of_the_folds():
    """Mean over folds, their standard deviation, seen and unseen rows apart, and Fisher's p over all queries."""
    folds = [fold(seed) for seed in range(3)]
    rows = cross_validation.evaluate_stages(folds, [])
    assert [row.label for row in rows] == ["BM25", "zero-shot"] and [row.minutes for row in rows] == [2.0, 2.0]
    first, second = cross_validation.stage_table(rows, folds, "").rows
    scores = [each.round_scores["BM25"]["MAP@25"] for each in folds]
    means = [own.mean() for own in scores]
    assert first[1:3] == [f"{np.mean(means):.4f}", f"{np.std(means, ddof=1):.4f}"]
    seen, unseen = (np.mean([values[part].mean() for values in scores]) for part in (slice(25, None), slice(25)))
    assert first[3:5] == [f"{seen:.4f}", f"{unseen:.4f}"]
    others = np.concatenate([each.round_scores["zero-shot"]["MAP@25"] for each in folds])
    assert first[6] == "" and second[6] == f"{significance.fisher_p_value(others, np.concatenate(scores)):.4f}"


def test_ablations_are_tested_against_what_they_change_and_against_the_ensemble():
    """A stage's p is against the row above; a column that the header names has each ablation's against the ensemble."""
    labels = ("BM25", "fusion", "ensemble", "fusion without votes", "fusion without words", "ensemble, reranked")
    folds = [fold(seed, labels) for seed in range(2)]
    rows = cross_validation.evaluate_stages(folds, [])
    table = cross_validation.stage_table(rows, folds, "")
    scores = {row.label: np.concatenate(row.scores["MAP@25"]) for row in rows}

    def column(name, against):
        place = table.header.index(name)
        expected = [
            f"{significance.fisher_p_value(scores[label], scores[other]):.4f}" if other else ""
            for label, other in zip(labels, against, strict=True)
        ]
        assert [row[place] for row in table.rows] == expected

    column("p (before)", ["", "BM25", "fusion", "fusion", "fusion", "ensemble"])
    column("p (ensemble)", ["", "", "", "ensemble", "ensemble", "ensemble"])
    assert "(ensemble)" in table.caption and len({len(row) for row in [table.header, *table.rows]}) == 1


def test_the_table_of_stages_alone_has_one_p():
    """Without ablations no row is tested against the ensemble."""
    folds = [fold(seed, ("BM25", "fusion", "ensemble")) for seed in range(2)]
    table = cross_validation.stage_table(cross_validation.evaluate_stages(folds, []), folds, "")
    assert table.header == list(cross_validation.HEADER) and "(ensemble)" not in table.caption


def test_ablations_fit_a_terminal_of_80_columns(capsys):
    """No label is broken within a word; together the screens have all cells of the table."""
    folds = [fold(seed, ("BM25", "fusion", "ensemble", "fusion without siblings")) for seed in range(2)]
    table = cross_validation.stage_table(cross_validation.evaluate_stages(folds, []), folds, "")
    screens = cross_validation.screens(table)
    for screen in screens:
        Console(width=80).print(screen.screen())
    text = capsys.readouterr().out
    assert text.count("ensemble ") >= 2 and text.count("siblings") == 2
    first, second = (screen.rows for screen in screens)
    assert [scores + costs[1:] for scores, costs in zip(first, second, strict=True)] == table.rows


def test_several_seeds_have_a_row_of_their_mean_similarity():
    """It ranks by the last model's similarity, below the rounds; folds of one and of two seeds do not go together."""
    folds = [replace(fold(seed), seeds=2) for seed in (0, 1)]
    for each in folds:
        each.table.features["m: score"] = each.table.features["m: signal"]
    rows = cross_validation.evaluate_stages(folds, [])
    assert [row.label for row in rows] == ["BM25", "zero-shot", "zero-shot, 2 seeds"]
    for each, values in zip(folds, rows[-1].scores["MAP@25"], strict=True):
        run = each.table.to_run(each.table.features["m: signal"])
        np.testing.assert_array_equal(values, cross_validation.evaluate_run(each, run)["MAP@25"])
    with refused("different rounds, seeds or N_FOLDS"):
        cross_validation.evaluate_stages([folds[0], replace(folds[1], seeds=1)], [])


def test_the_title_says_what_the_rounds_were_trained_with():
    """A table with outside questions is told from one without, and the mean of seeds from a single one."""
    folds = [fold(0), fold(1)]
    plain = cross_validation.title(folds)
    assert "2 of 4 folds of v5, 80 queries" in plain and "outside" not in plain
    folds = [replace(each, data=replace(each.data, outside={"training_queries": 9})) for each in folds]
    shown = cross_validation.title([replace(folds[0], seeds=2), replace(folds[1], seeds=2)])
    assert shown == f"{plain}; with outside questions; rounds: means over 2 training seeds"
    outside = {"training_queries": 9, "rewritten": ["more"]}
    rewritten = replace(folds[0], data=replace(folds[0].data, outside=outside))
    assert "some of which look written from the competition's" in cross_validation.title([rewritten, folds[1]])


def test_folds_of_different_numbers_are_refused():
    """Fold 0 of 4 and fold 1 of 10 train on different shares of the rows, and are no folds of one table."""
    one, other = fold(0), fold(1)
    with refused("different rounds, seeds or N_FOLDS"):
        cross_validation.evaluate_stages([one, replace(other, data=replace(other.data, n_folds=10))], [])


def test_scores_of_seeds_are_means_and_their_minutes_add_up():
    """Query by query; the peak is the larger one, and None where no seed has one."""
    one, two = ({"round 1": {"MAP@25": np.array(values)}} for values in ([0.0, 1.0], [0.5, 0.5]))
    scores, costs = folds._mean_of_seeds(
        [(one, {"round 1": folds.Cost(2.0, 10.0)}), (two, {"round 1": folds.Cost(3.0, None)})]
    )
    assert scores["round 1"]["MAP@25"].tolist() == [0.25, 0.75] and costs == {"round 1": folds.Cost(5.0, 10.0)}


def test_folds_that_do_not_belong_together_are_refused():
    """A single fold, a fold that is named twice, and folds with other rounds."""
    with refused("two folds or more", "FOLDS"):
        cross_validation.evaluate_stages([fold(0)], [])
    with refused("fold0 and fold0", "share 40 validation questions"):
        cross_validation.evaluate_stages([fold(0), fold(1), fold(0)], [])
    with refused("different rounds"):
        cross_validation.evaluate_stages([fold(0), fold(1, ("BM25",))], [])


def test_the_table_is_kept_as_markdown_csv_and_json(tmp_path):
    """All files hold every row; the Markdown says what was measured."""
    folds = [fold(seed) for seed in range(2)]
    stages = cross_validation.evaluate_stages(folds, views.default_views(["m"]))
    table = cross_validation.stage_table(stages, folds, "a title")
    files = cross_validation.write_table(table, tmp_path / "cv-tiny")
    text = files[0].read_text()
    assert text.startswith("a title\n") and all(f"| {name} |" in text for name in ("BM25", "fusion", "ensemble"))
    assert [line.partition(",")[0] for line in files[1].read_text().splitlines()] == [
        "stage",
        *(row.label for row in stages),
    ]
    assert Table.load(files[2]) == table


def test_ablations_leave_out_one_kind_of_feature_or_add_the_reranker():
    """Kinds without a feature are not ablated; the reranked ensemble reads the reranker beside each view."""
    folds = [fold(seed) for seed in range(2)]
    names = [label for label, _ in views.ablation_views(["m"], folds[0].table)]
    assert names[:-1] == [f"fusion without {kind}" for kind in ("votes", "labels", "words", "siblings")]
    assert all(len(view) == 6 for _, views in views.ablation_views(["m"], folds[0].table)[:-1] for view in views)
    scored = folds[0].table.with_scores("reranker", np.zeros(len(folds[0].table.query_rows)))
    label, reranked = views.ablation_views(["m"], scored)[-1]
    ensemble = views.default_views(["m"])[-1][1]
    assert label == "ensemble, reranked" and reranked == [(*view, "reranker") for view in ensemble]


def test_the_ensemble_averages_the_last_round_alone_and_beside_each_part():
    """Not the base model's own where there are rounds; earlier rounds and single kinds are for ablations."""
    members = ["m round 0 topic", "m round 0 problem", "m round 0", "m round 1", "m round 2"]
    own = table(np.random.default_rng(1), "q")
    own.features["votes m round 2: score"] = own.features["labels: noise"]
    (_, last), (_, everyone) = views.default_views(members, NETWORKS)
    assert [view[:3] for view in last] == [("m round 2", "votes m round 2", "tokens m round 2")]
    sets = [[], *([part] for part in members[:2])]
    assert [[group for group in view if group in members] for view in everyone] == [["m round 2", *own] for own in sets]
    found = dict(views.ablation_views(members, own, NETWORKS))
    assert [[group for group in view if group in members] for view in found["ensemble, all rounds"]] == [
        [member, *part] for member in members[3:] for part in sets
    ]
    assert found["fusion without votes"][0][0] == members[-1] and "votes" not in str(found["fusion without votes"])
    assert "fusion without tokens" not in found  # no member has any
    assert not any("outside" in label for label in found)
    own.features["outside m round 2: score"] = own.features["labels: noise"]
    (without,) = dict(views.ablation_views(members, own, NETWORKS))["fusion without outside"]
    assert "outside" not in str(without) and "votes m round 2" in without
    whole = dict(views.ablation_views(members, own, NETWORKS))["ensemble without outside"]
    assert whole == [tuple(group for group in view if not group.startswith("outside")) for view in everyone]
    silent = Ensemble(outside_votes=False, boosted_trees=False)
    assert views.default_views(members, silent) == [("fusion", whole[:1]), ("ensemble", whole)]
    ablations = views.ablation_views(members, own, silent)
    assert ablations and "outside" not in str(ablations)
    fused, ensemble = views.default_views(["m round 0"], NETWORKS)
    assert fused[1] == ensemble[1]


def test_views_are_averaged():
    """Two views' probabilities are the mean of each alone."""
    own = table(np.random.default_rng(1), "q")
    alone = [fusion.fit([own], [view]).score(own) for view in (("m",), ("votes m",))]
    assert np.allclose(fusion.fit([own], [("m",), ("votes m",)]).score(own), np.mean(alone, axis=0))


def test_a_fold_that_is_named_twice_is_refused(tmp_path):
    """Another spelling of its path does not hide it."""
    (tmp_path / "b").mkdir()
    with refused("b", "named twice"):
        folds.require_distinct([tmp_path / "b", tmp_path / "a", tmp_path / "a" / ".." / "b"])
    folds.require_distinct([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("missing", ["", "manifest"])
def test_a_folder_without_candidates_is_named(missing, tmp_path):
    """Neither an empty folder nor another stage's passes for candidates."""
    if missing:
        (tmp_path / "manifest.json").write_text('{"kind": "evaluation", "config": {}}')
    with refused(tmp_path, "no candidates"):
        folds.read_fold(tmp_path)


def test_the_first_fits_tell_how_long_all_take(monkeypatch, capsys):
    """A fusion of two views counts twice; each network takes 10 minutes, or 3 of a view half an hour."""
    folds = [fold(seed) for seed in range(2)]
    monkeypatch.setattr(cross_validation.fusion, "fit", lambda tables, views: Fusion([]))
    monkeypatch.setattr(Fusion, "score", lambda self, each: np.zeros(len(each.query_rows)))
    slow_clock.use(monkeypatch, 1800)
    cross_validation.evaluate_stages(folds, [("fusion", [("m",)]), ("ensemble", [("m",), ("words m",)])])
    assert slow_clock.lines(capsys) == ["cross-validate the fusions: about 3.0 h (18 networks, 6.0 networks/h)"]


def test_a_single_fit_tells_how_long_it_takes(monkeypatch, capsys):
    """All networks of all views count."""
    slow_clock.use(monkeypatch)
    one = table(np.random.default_rng(1), "q")
    fusion.fit([one], [("m",), ("words",)], on_network=Estimate("fit the fusion", "networks").update)
    assert slow_clock.lines(capsys) == ["fit the fusion: about 60 min (6 networks, 6.0 networks/h)"]
