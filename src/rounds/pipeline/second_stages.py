"""Second stages: targets that refine what the rounds rank, each trained on folds of split v5, or of v6."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from rounds.artifacts import store
from rounds.config.sections.ensemble import LEAST_FOLDS
from rounds.errors import UserError
from rounds.estimate import Counter, Estimate
from rounds.evaluation.table import files_of
from rounds.pipeline import freshness, keys, stages, uploads
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.registry import target
from rounds.pipeline.runner import up_to_date
from rounds.pipeline.session import Session
from rounds.pipeline.stages import Stage

ENDINGS = {  # of a submission's name, by the flag of fuse.py that it stands for
    "without_outside": "no-outside-votes",
    "boosted_trees": "boosted-trees",
    "unseen_prior": "unseen-prior",
}


@target(is_dense=True, is_text_only=True)
def candidates(session: Session) -> None:
    """List what the chosen round's ranking is refined with."""
    session.finish(stages.candidates(session.experiment))


@target(is_dense=True, is_text_only=True)
def rerank(session: Session) -> None:
    """Train a reranker for each fold on the other folds' candidates."""
    rerankers = zip(ensure_folds(session), _rerankers(session), strict=True)
    _ensure_each(session, {f"fold {fold.settings.fold}: rerank": stage for fold, stage in rerankers})


def _rerankers(session: Session) -> list[Stage]:
    folds = _folds(session)
    return [stages.rerank(fold, tuple(other for other in folds if other != fold)) for fold in folds]


@target(is_dense=True, is_text_only=True)
def cv(session: Session) -> None:
    """Print what each stage scores on the folds."""
    rerank(session)
    table = _table(session, ablate=True, unseen_prior=True)
    _finish_table(session, replace(table, inputs=(*table.inputs, *_rerankers(session))))


@target(is_dense=True, is_text_only=True)
def best(session: Session) -> None:
    """Fuse the rounds on all of train as the folds teach, and write the submission.

    The table of `make cv` has all rows of its own, and more: where it is made from the same candidates, it is kept.
    """
    uploads.require_test_queries(session.experiment)
    has_prior, output = _has_unseen_prior(session), session.experiment.fused_submission
    folds = ensure_folds(session)
    session.runner.say("== all of train")
    whole = session.on(split="submission", fold=0)
    ranked = stages.candidates(whole.experiment)
    whole.ensure(ranked)
    larger = _table(session, ablate=True, unseen_prior=True)
    is_there = store.read_made_from(larger.output) == keys.made_from(larger.command)
    is_kept = is_there and freshness.are_fresh(larger.inputs)  # which a dry run leaves as they are
    _finish_table(session, larger if is_kept else _table(session, unseen_prior=has_prior))
    flags = ensemble_flags(session.experiment) | {"unseen_prior": has_prior}
    output = output.with_stem("-".join([output.stem, *endings(flags)]))
    fuse(session, folds, ranked, output, unseen_prior=has_prior)


def _has_unseen_prior(session: Session) -> bool:
    """Return whether the recipe asks for the unseen prior.

    Raises:
        UserError: It does, and there are too few folds to estimate one on.
    """
    recipe, folds = stages.load_recipe("MODEL", session.settings.model), session.settings.folds
    if recipe.ensemble.unseen_prior and len(folds) < LEAST_FOLDS:
        raise UserError(
            f"FOLDS={' '.join(map(str, folds))}: ensemble.unseen_prior needs {LEAST_FOLDS} folds or more; name them, "
            f"or leave the key out of recipe {recipe.name}"
        )
    return recipe.ensemble.unseen_prior


def ensemble_flags(experiment: Experiment) -> dict[str, bool]:
    """Return what scripts are told of the recipe's ensemble; of outside votes only where there are such questions."""
    settings = stages.load_recipe("MODEL", experiment.settings.model).ensemble
    return {
        "without_outside": bool(experiment.settings.extra_files) and not settings.outside_votes,
        "boosted_trees": settings.boosted_trees,
    }


def endings(flags: Mapping[str, bool]) -> list[str]:
    """Return what names of outputs end in, by the flags of the ensemble that are set."""
    return [ending for flag, ending in ENDINGS.items() if flags.get(flag)]


def fuse(
    session: Session,
    folds: Iterable[Experiment],
    ranked: Stage,
    output: Path,
    is_named: bool = False,
    unseen_prior: bool = False,
) -> None:
    """Rank the test queries by the ensemble that the folds teach, and write its submission.

    Args:
        ranked: What lists the test queries' candidates.
        is_named: Write the submission's name into the ledger, to be scored.
        unseen_prior: Shift the scores of passages that training never labels, as the folds tell.
    """
    call = keys.command(
        "fuse",
        folds=_tables(folds),
        table=ranked.output,
        raw_dir=session.settings.raw,
        output_file=output,
        named=is_named,
        unseen_prior=unseen_prior,
        **ensemble_flags(session.experiment),
        replace_stale=True,
    )
    stage = Stage("fuse", output, call, (*map(stages.candidates, folds), ranked), home=output)
    if not is_named:
        session.finish(stage)
    elif not session.ensure(stage):
        session.runner.call(call)  # keeps the CSV, and writes its name where the ledger lost it


def _folds(session: Session) -> list[Experiment]:
    folds = session.settings.folds
    if len(folds) < 2:
        raise UserError(
            f"FOLDS={' '.join(map(str, folds))}: name two folds or more; each is ranked as the others teach"
        )
    return [session.on(split=session.settings.fold_split, fold=fold).experiment for fold in folds]


def ensure_folds(session: Session) -> list[Experiment]:
    """The candidates of each fold, each in folders of its own, so that a stopped run goes on where it was."""
    folds = _folds(session)
    _ensure_each(session, {f"fold {fold.settings.fold}": stages.candidates(fold) for fold in folds})
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


def _table(session: Session, ablate: bool = False, unseen_prior: bool = False) -> Stage:
    """What each stage scores on the folds; with ablations, also what their rerankers add."""
    folds, number = _folds(session), session.settings.round
    (output,) = files_of(session.experiment.cross_validation, ".json")
    call = keys.command(
        "cv",
        folds=_tables(folds),
        rerankers=[fold.reranker(number) for fold in folds] if ablate else [],
        ablate=ablate,
        unseen_prior=unseen_prior,
        **ensemble_flags(session.experiment),
        output_file=output,
        replace_stale=True,
    )
    return Stage("cv", output, call, tuple(map(stages.candidates, folds)), home=output)


def _finish_table(session: Session, table: Stage) -> None:
    """Bring the table over the folds up to date; show it where nothing had to run."""
    if not session.ensure(table):
        session.runner.show_screens(table.output)
        session.runner.say(up_to_date([table.output]))
