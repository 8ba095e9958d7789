"""Pseudo-labels' target: the folds that measure the precision, and what is refused."""

import pytest
from helpers.tiny_task import refused

from rounds.pipeline import freshness, keys, stages, targets
from rounds.pipeline.pseudo_labels import labelling


def test_precision_is_measured_on_the_other_folds(session):
    """FOLDS without the split's own train first; the file lies beside the round's checkpoint."""
    given = session("SPLIT=v5", "FOLD=1", "FOLDS=0 1 3", "ROUND=1", "MIN_PRECISION=0.6")
    stage = labelling(given)
    others = [session("SPLIT=v5", f"FOLD={fold}").experiment for fold in (0, 3)]
    flags = dict(stage.command.flags)
    assert flags["held_out_models"] == tuple(str(other.train(1)) for other in others)
    assert flags["held_out_data"] == tuple(str(other.data) for other in others)
    assert (flags["model_path"], flags["min_precision"]) == ((str(given.experiment.train(1)),), ("0.6",))
    assert stage.output == given.experiment.round(1) / "pseudo_labels.jsonl"
    assert [each.name for each in freshness.in_order([stage])].count("round 1: finetune") == 3
    assert stage.command.value(keys.SCRIPTS["pseudo_label"].output) == str(stage.output)


def test_all_of_train_is_measured_on_folds_of_v5(session):
    """SPLIT=submission holds nothing out; all FOLDS measure."""
    given = session("SPLIT=submission", "FOLDS=0 1", "ROUND=1")
    folds = [session("SPLIT=v5", f"FOLD={fold}").experiment for fold in (0, 1)]
    assert dict(labelling(given).command.flags)["held_out_models"] == tuple(str(fold.train(1)) for fold in folds)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["SPLIT=v1"], ["SPLIT=v1", "choose v5, v6 or submission"]),
        (["SPLIT=v5", "FOLD=2", "FOLDS=2"], ["FOLDS=2", "another fold than FOLD=2"]),
        (["TASK=pairs", "SPLIT=v5", "RAW=pairs.csv"], ["TASK=pairs", "eedi alone"]),
        (["SPLIT=v5", "ROUND=0"], ["pseudo_label: ROUND=0 is the base model"]),
    ],
    ids=["no_folds", "own_fold", "other_task", "round_0"],
)
def test_what_has_no_pseudo_labels_is_refused(arguments, parts, session):
    """One line, before anything trains."""
    given = session(*arguments)
    with refused(*parts):
        targets.run("pseudo_label", given)
    assert given.runner.calls == []


def test_folds_of_another_number_measure(session):
    """With N_FOLDS=10, all other folds of ten measure the precision, and each split is drawn with that number."""
    made = session("SPLIT=v6", "FOLD=9", "N_FOLDS=10", "ROUND=1", target="pseudo_label")
    label = labelling(made)
    assert len(dict(label.command.flags)["held_out_data"]) == 9
    for split in (stages.data(made.experiment), stages.data(made.on(fold=0).experiment)):
        assert split.command.value("n_folds") == "10"
    assert "n_folds" not in dict(stages.data(made.on(split="submission", fold=0).experiment).command.flags)
