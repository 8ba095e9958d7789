"""Pseudo-labels: the target that labels unlabelled wrong answers of training questions with ROUND's checkpoint."""

from rounds.data.source import PSEUDO_LABELS
from rounds.errors import UserError
from rounds.pipeline import keys, stages
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.registry import target
from rounds.pipeline.session import Session
from rounds.pipeline.stages import Stage

FOLDS_OF = {"v5": "v5", "v6": "v6", "submission": "v5"}  # splits by the folds that measure precision for them


@target()
def pseudo_label(session: Session) -> None:
    """Label unlabelled wrong answers of the split's training questions, as EXTRA takes them."""
    labelled = labelling(session)
    session.finish(labelled)
    session.runner.say(
        f"next: make round1 with EXTRA={labelled.output} and the same RAW, SPLIT, SEED, FOLD and N_FOLDS"
    )


def labelling(session: Session) -> Stage:
    """The stage that writes the pseudo-labels.

    Raises:
        UserError: the task has no unlabelled answers, or the split no other folds to measure precision on.
    """
    given, names = session.settings, session.experiment
    if given.task != "eedi":
        raise UserError(f"TASK={given.task}: pseudo_label labels wrong answers, which TASK=eedi alone has")
    folds = _other_folds(session)
    output = names.round(given.round) / PSEUDO_LABELS
    call = keys.command(
        "pseudo_label",
        model_path=names.train(given.round),
        data_dir=names.data,
        raw_dir=given.raw,
        held_out_models=[fold.train(given.round) for fold in folds],
        held_out_data=[fold.data for fold in folds],
        min_precision=given.min_precision,
        device=given.first_device,
        output_file=output,
        replace_stale=True,
    )
    inputs = tuple(stages.training(fold, given.round) for fold in (names, *folds))
    return Stage("pseudo-labels", output, call, inputs, "== pseudo-labels", home=names.folder)


def _other_folds(session: Session) -> list[Experiment]:
    """The folds whose held-out queries say how precise a confidence is: FOLDS without the split's own."""
    given = session.settings
    version = FOLDS_OF.get(given.split)
    if version is None:
        raise UserError(
            f"SPLIT={given.split}: pseudo_label measures precision on other folds, which this split has not; "
            "choose v5, v6 or submission"
        )
    own = given.fold if given.is_validated else None
    folds = [fold for fold in given.folds if fold != own]
    if not folds:
        raise UserError(
            f"FOLDS={' '.join(map(str, given.folds))}: name another fold than FOLD={given.fold}, on whose held-out "
            "queries precision is measured"
        )
    return [session.on(split=version, fold=fold).experiment for fold in folds]
