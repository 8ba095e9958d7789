"""Second stages: targets that refine what the rounds rank, each trained on folds of split v5, or of v6."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from rounds.artifacts import store
from rounds.config.recipe import Recipe
from rounds.config.sections.ensemble import LEAST_FOLDS
from rounds.errors import UserError
from rounds.estimate import Counter, Estimate
from rounds.evaluation.table import files_of
from rounds.pipeline import candidate_stages, freshness, keys, stages, uploads
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.registry import target
from rounds.pipeline.runner import up_to_date
from rounds.pipeline.session import Session
from rounds.pipeline.stages import Stage

ENDINGS = {  # of a submission's name, by the flag of fuse.py that it stands for
    "without_outside": "no-outside-votes",
    "without_trees": "no-boosted-trees",
    "unseen_prior": "unseen-prior",
}


@target(is_dense=True, is_text_only=True)
def candidates(session: Session) -> None:
    """List what the chosen round's ranking is refined with."""
    session.finish(candidate_stages.candidates(session.experiment))


@target(is_dense=True, is_text_only=True)
def rerank(session: Session) -> None:
    """Train a reranker for each fold on the other folds' candidates."""
    rerankers = zip(ensure_folds(session), _rerankers(session.experiment), strict=True)
    _ensure_each(session, {f"fold {fold.settings.fold}: rerank": stage for fold, stage in rerankers})


def _rerankers(experiment: Experiment) -> list[Stage]:
    folds = _folds(experiment)
    return [candidate_stages.rerank(fold, tuple(other for other in folds if other != fold)) for fold in folds]


@target(is_dense=True, is_text_only=True)
def cv(session: Session) -> None:
    """Print what each stage scores on the folds."""
    rerank(session)
    table = _table(session.experiment, ablate=True, unseen_prior=True)
    finish_table(session, replace(table, inputs=(*table.inputs, *_rerankers(session.experiment))))


@target(is_dense=True, is_text_only=True)
def best(session: Session) -> None:
    """Fuse the rounds on all of train as the folds teach, and write the submission.

    The table of `make cv` has all rows of its own, and more: where it is made from the same candidates, it is kept.
    """
    uploads.require_test_queries(session.experiment)
    _check_unseen_prior(session.experiment)
    ensure_folds(session)
    session.runner.say("== all of train")
    whole = session.on(split="submission", fold=0)
    whole.ensure(candidate_stages.candidates(whole.experiment))
    finish_table(session, table_of_best(session.experiment))
    finish_submission(session, submission(session.experiment))


def table_of_best(experiment: Experiment) -> Stage:
    """What each stage scores on the folds: the table of `make cv` where it is there and fresh, else a smaller one."""
    larger = _table(experiment, ablate=True, unseen_prior=True)
    is_there = store.read_made_from(larger.output) == keys.made_from(larger.command)
    is_kept = is_there and freshness.are_fresh(larger.inputs)  # which a dry run leaves as they are
    return larger if is_kept else _table(experiment, unseen_prior=_recipe(experiment).ensemble.unseen_prior)


def submission(experiment: Experiment) -> Stage:
    """The submission of `make best`; that of data with held-out questions is named in the ledger, to be scored."""
    has_prior, is_named = _recipe(experiment).ensemble.unseen_prior, experiment.is_private
    return fused(experiment, submission_file(experiment), is_named, has_prior)


def submission_file(experiment: Experiment) -> Path:
    """The CSV of `make best`; its name says which keys of the recipe's `ensemble` are set."""
    output = experiment.fused_submission
    flags = ensemble_flags(experiment) | {"unseen_prior": _recipe(experiment).ensemble.unseen_prior}
    return output.with_stem("-".join([output.stem, *endings(flags)]))


def _recipe(experiment: Experiment) -> Recipe:
    return stages.load_recipe("MODEL", experiment.settings.model)


def _check_unseen_prior(experiment: Experiment) -> None:
    """Refuse a recipe that asks for the unseen prior where there are too few folds to estimate one on."""
    recipe, folds = _recipe(experiment), experiment.settings.folds
    if recipe.ensemble.unseen_prior and len(folds) < LEAST_FOLDS:
        raise UserError(
            f"FOLDS={' '.join(map(str, folds))}: ensemble.unseen_prior needs {LEAST_FOLDS} folds or more; name them, "
            f"or leave the key out of recipe {recipe.name}"
        )


def ensemble_flags(experiment: Experiment) -> dict[str, bool]:
    """Return what scripts are told of the recipe's ensemble; of outside votes only where there are such questions."""
    settings = _recipe(experiment).ensemble
    return {
        "without_outside": bool(experiment.settings.extra_files) and not settings.outside_votes,
        "without_trees": not settings.boosted_trees,
    }


def endings(flags: Mapping[str, bool]) -> list[str]:
    """Return what names of outputs end in, by the flags of the ensemble that are set."""
    return [ending for flag, ending in ENDINGS.items() if flags.get(flag)]


def fused(experiment: Experiment, output: Path, is_named: bool = False, unseen_prior: bool = False) -> Stage:
    """The test queries as ranked by the ensemble that the folds teach.

    Args:
        output: The submission.
        is_named: Write the submission's name into the ledger, to be scored.
        unseen_prior: Shift the scores of passages that training never labels, as the folds tell.
    """
    folds, whole = _folds(experiment), Experiment(experiment.settings.on(split="submission", fold=0))
    ranked = candidate_stages.candidates(whole)
    call = keys.command(
        "fuse",
        folds=_tables(folds),
        table=ranked.output,
        raw_dir=experiment.settings.raw,
        output_file=output,
        named=is_named,
        unseen_prior=unseen_prior,
        **ensemble_flags(experiment),
        replace_stale=True,
    )
    return Stage("fuse", output, call, (*map(candidate_stages.candidates, folds), ranked), home=output)


def finish_submission(session: Session, stage: Stage) -> None:
    """Bring an ensemble's submission up to date, and its name in the ledger where it has one there."""
    if session.ensure(stage):
        return
    if stage.command.has("named"):
        session.runner.call(stage.command)  # keeps the CSV, and writes its name where the ledger lost it
    else:
        session.runner.say(up_to_date([stage.output]))


def _folds(experiment: Experiment) -> list[Experiment]:
    given = experiment.settings
    if len(given.folds) < 2:
        raise UserError(
            f"FOLDS={' '.join(map(str, given.folds))}: name two folds or more; each is ranked as the others teach"
        )
    return [Experiment(given.on(split=given.fold_split, fold=fold)) for fold in given.folds]


def ensure_folds(session: Session) -> list[Experiment]:
    """The candidates of each fold, each in folders of its own, so that a stopped run goes on where it was."""
    _recipe(session.experiment).require_cosines("second stages")
    folds = _folds(session.experiment)
    _ensure_each(session, {f"fold {fold.settings.fold}": candidate_stages.candidates(fold) for fold in folds})
    return folds


def _ensure_each(session: Session, stage_of: Mapping[str, Stage]) -> None:
    """Bring the stage of each fold up to date; say how long those take that have to run, once one has."""
    waiting = sum(not freshness.are_fresh([stage]) for stage in stage_of.values())
    estimate = Estimate(f"{waiting} folds", "folds")
    done = Counter(estimate.update, waiting)
    for title, stage in stage_of.items():
        session.runner.say(f"== {title}")
        if session.ensure(stage) and not session.runner.is_dry:
            done.add(1)


def _tables(folds: Iterable[Experiment]) -> list[Path]:
    return [fold.candidates(fold.settings.round) for fold in folds]


def _table(experiment: Experiment, ablate: bool = False, unseen_prior: bool = False) -> Stage:
    """What each stage scores on the folds; with ablations, also what their rerankers add."""
    folds, number = _folds(experiment), experiment.settings.round
    (output,) = files_of(experiment.cross_validation, ".json")
    call = keys.command(
        "cv",
        folds=_tables(folds),
        rerankers=[fold.reranker(number) for fold in folds] if ablate else [],
        ablate=ablate,
        unseen_prior=unseen_prior,
        **ensemble_flags(experiment),
        output_file=output,
        replace_stale=True,
    )
    return Stage("cv", output, call, tuple(map(candidate_stages.candidates, folds)), home=output)


def finish_table(session: Session, table: Stage) -> None:
    """Bring the table over the folds up to date; show it where nothing had to run."""
    if not session.ensure(table):
        session.runner.show_screens(table.output)
        session.runner.say(up_to_date([table.output]))


def made(experiment: Experiment) -> list[Stage]:
    """Those that were made of an experiment's second stages: for `make status`, without what they need."""
    given, number = experiment.settings, experiment.settings.round
    if (given.is_validated and given.split != given.fold_split) or len(given.folds) < 2:
        return []
    found: list[Stage] = []
    if not given.is_validated:
        found.append(submission(experiment))
    elif experiment.reranker(number).exists():
        found += [stage for stage in _rerankers(experiment) if stage.output == experiment.reranker(number)]
    found.append(table_of_best(experiment))
    return [replace(stage, inputs=()) for stage in found if stage.output.exists()]
