"""Unseen prior: a planted shift is found, no fold's labels choose its own offset, folds that tell none are named."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.random_folds import DEPTH, labelled_fold

from rounds.evaluation.table import Table
from rounds.reranking import cross_validation, fusion, unseen_prior, views
from rounds.reranking.candidates import Candidates
from rounds.reranking.fusion import Fusion

LABELLED = unseen_prior.LABELLED


def drawn(shift: float, queries: int = 3000) -> tuple[Candidates, np.ndarray]:
    """Candidates whose labels are drawn by true probabilities, and these with unlabelled passages `shift` too low."""
    generator = np.random.default_rng(1)
    logits = 2 * generator.standard_normal((queries, 10))
    is_labelled = generator.random((queries, 10)) < 0.6
    relevant = (logits + generator.gumbel(size=logits.shape)).argmax(1)[:, None] == np.arange(10)
    weights = np.exp(logits - shift * ~is_labelled)
    rows = np.repeat(np.arange(queries), 10)
    passages = np.array([f"p{number}" for number in range(10)] * queries, dtype=object)
    features = {LABELLED: is_labelled.ravel().astype(np.float32)}
    table = Candidates([f"q{row}" for row in range(queries)], rows, passages, relevant.ravel(), features)
    return table, (weights / weights.sum(1, keepdims=True)).ravel()


def log_likelihood(table: Candidates, scores: np.ndarray) -> float:
    """The log-probabilities of the queries' relevant candidates, summed in a loop."""
    total = 0.0
    for row in range(len(table.queries)):
        values, relevant = scores[table.query_rows == row], table.relevant[table.query_rows == row]
        total += np.log(values[relevant] / values.sum()).mean()
    return total


@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.8])
def test_a_planted_shift_is_found(shift):
    """Probabilities that are too low for unlabelled passages by a factor get this factor back."""
    assert unseen_prior.estimate_offset([drawn(shift)]) == pytest.approx(shift, abs=0.15)


def test_the_offset_is_the_most_likely_one():
    """No offset of a grid gives the labels, two in some queries, more probability; several folds count together."""
    table, probabilities = drawn(0.5, 200)
    table.relevant[::30] = True
    parts = [table.of_queries(np.arange(200) % 2 == side) for side in (0, 1)]
    sides = table.query_rows % 2
    offset = unseen_prior.estimate_offset([(part, probabilities[sides == side]) for side, part in enumerate(parts)])
    grid = np.arange(-2, 2, 0.05)
    best = log_likelihood(table, unseen_prior.apply_offset(table, probabilities, offset))
    others = [log_likelihood(table, unseen_prior.apply_offset(table, probabilities, other)) for other in grid]
    assert best >= max(others) and abs(grid[np.argmax(others)] - offset) <= 0.05


def test_queries_that_say_nothing_change_nothing():
    """Those without a relevant candidate, and those whose candidates are all of one kind."""
    table, probabilities = drawn(0.8, 400)
    offset = unseen_prior.estimate_offset([(table, probabilities)])
    silent, kinds = table.of_queries(np.arange(400) < 90), np.repeat([0.0, 1.0, 0.5], 300)
    silent.features[LABELLED] = np.where(kinds == 0.5, silent.features[LABELLED], kinds).astype(np.float32)
    silent.relevant[kinds == 0.5] = False
    assert unseen_prior.estimate_offset([(table, probabilities), (silent, probabilities[:900])]) == offset


def test_certain_probabilities_have_a_finite_offset():
    """Probabilities that are zero for all passages of the relevant one's kind do not break the estimate."""
    table, _ = drawn(0.0, 50)
    certain = np.float64(table.features[LABELLED] > 0)
    assert np.isfinite(unseen_prior.estimate_offset([(table, certain)]))


def test_an_offset_of_zero_leaves_the_ranking_as_it_is():
    """Passages and scores are the same bytes; another offset raises unlabelled passages alone."""
    table, probabilities = drawn(0.0, 20)
    plain, same = table.to_run(probabilities), table.to_run(unseen_prior.apply_offset(table, probabilities, 0.0))
    assert plain.scores.tobytes() == same.scores.tobytes() and (plain.passages == same.passages).all()
    raised = unseen_prior.apply_offset(table, probabilities, 1.0) > probabilities
    assert (raised == (table.features[LABELLED] == 0)).all()


def test_no_fold_s_labels_choose_its_own_offset(monkeypatch):
    """Other labels of a fold leave its offset as it is, and change those of the others."""
    monkeypatch.setattr(fusion, "EPOCHS", 1)
    monkeypatch.setattr(fusion, "SEEDS", 1)
    tables = [each.table for each in map(labelled_fold, range(3))]
    before = unseen_prior.estimate_by_fold(tables, [("m",)])
    relabelled = [*tables[:2], replace(tables[2], relevant=np.roll(tables[2].relevant, 1))]
    after = unseen_prior.estimate_by_fold(relabelled, [("m",)])
    assert after[2] == before[2] and after[0] != before[0] and after[1] != before[1]


def test_each_pair_of_folds_is_left_out_once(monkeypatch):
    """Four folds take six fits, each of the other two, that score both of the pair."""
    tables = [each.table for each in map(labelled_fold, range(4))]
    fitted, scored, estimated = [], [], []
    monkeypatch.setattr(fusion, "fit", lambda fit_on, views: fitted.append(list(map(id, fit_on))) or Fusion([]))
    monkeypatch.setattr(Fusion, "score", lambda self, each: scored.append((len(fitted), id(each))))
    monkeypatch.setattr(unseen_prior, "estimate_offset", lambda each: estimated.append([id(t) for t, _ in each]) or 0.0)
    unseen_prior.estimate_by_fold(tables, [("m",)])
    ids = list(map(id, tables))
    assert len({tuple(each) for each in fitted}) == len(fitted) == 6 and len(scored) == 12
    for number, fit_on in enumerate(fitted, start=1):
        assert {*fit_on, *(each for fit, each in scored if fit == number)} == set(ids) and len(fit_on) == 2
    assert [set(each) for each in estimated] == [set(ids) - {own} for own in ids]


def test_the_row_ranks_the_ensemble_s_probabilities_with_each_fold_s_offset(monkeypatch, tmp_path):
    """It stands among the ensemble's ablations with the minutes of both; the offsets are kept below the table."""
    monkeypatch.setattr(fusion, "EPOCHS", 1)
    monkeypatch.setattr(fusion, "SEEDS", 1)
    folds, ensemble_views = [labelled_fold(seed) for seed in range(3)], [("m",)]
    *_, ensemble = rows = cross_validation.evaluate_stages(folds, [("ensemble", ensemble_views)])
    row, prior = cross_validation.evaluate_unseen_prior(folds, ensemble_views, ensemble)
    assert prior.folds == unseen_prior.estimate_by_fold([each.table for each in folds], ensemble_views)
    assert prior.test == unseen_prior.estimate_on_all([each.table for each in folds], ensemble_views)
    assert row.minutes > ensemble.minutes
    for place, each in enumerate(folds):
        shifted = unseen_prior.apply_offset(each.table, ensemble.probabilities[place], prior.folds[place])
        expected = cross_validation.evaluate_run(each, each.table.to_run(shifted))
        assert all(np.array_equal(row.scores[name][place], values) for name, values in expected.items())
    assert views.changed_label(row.label) == "ensemble"
    table = cross_validation.stage_table([*rows, row], folds, "")
    markdown, _, json = cross_validation.write_table(table, tmp_path / "cv", {"unseen_prior": prior})
    assert markdown.read_text().endswith(f"\n{prior}\n") and all(f"{each:+.4f}" in str(prior) for each in prior.folds)
    assert '"unseen_prior": {' in json.read_text() and Table.load(json) == table


def test_folds_that_tell_no_offset_are_named():
    """Two folds, of which none is left without both; common queries; relevant candidates that are all of one kind."""
    tables = {f"fold{number}": each.table for number, each in enumerate(map(labelled_fold, range(3)))}
    assert unseen_prior.find_obstacle(tables) == ""
    two = {name: tables[name] for name in ("fold0", "fold1")}
    assert unseen_prior.find_obstacle(two).startswith("it takes 3 folds or more, not 2")
    common = unseen_prior.find_obstacle(tables | {"again": tables["fold1"]})
    assert common.startswith("fold1 and again share 40 queries")
    tables["fold1"].features[LABELLED] = np.float32(np.arange(40 * DEPTH) % DEPTH > 0) * ~tables["fold1"].relevant
    assert unseen_prior.find_obstacle(tables).startswith("fold1: its relevant candidates are not of both kinds")
