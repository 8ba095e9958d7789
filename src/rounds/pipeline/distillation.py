"""Distillation: the target that teaches one embedder what the ensemble of the second stage says, and its stages."""

from pathlib import Path

from rounds.errors import UserError
from rounds.evaluation.table import files_of
from rounds.pipeline import candidate_stages, fold_choice, keys, second_stages, stages, uploads
from rounds.pipeline.experiment import Experiment, short_hash
from rounds.pipeline.registry import target
from rounds.pipeline.session import Session
from rounds.pipeline.stages import Stage

TEACHER_FILE = "finetune_data_teacher.jsonl"  # in a distilled embedder's folder


@target(is_dense=True, is_text_only=True)
def distil(session: Session) -> None:
    """Teach an embedder the ensemble's scores of all training rows, and write its submission."""
    if session.settings.train_seeds:
        raise UserError("TRAIN_SEEDS: make distil teaches by the rounds of one seed; leave it out, or name TRAIN_SEED")
    recipe = stages.load_recipe("MODEL", session.settings.model)
    recipe.for_student(session.settings.epochs).require_epochs()
    if recipe.ensemble.unseen_prior:
        session.runner.say("ensemble.unseen_prior: make distil teaches, and scores, the ensemble without it")
    uploads.require_test_queries(session.experiment)
    folds = second_stages.ensure_folds(session)
    session.runner.say("== all of train")
    whole = session.on(split="submission", fold=0)
    names = whole.experiment
    student = training(names, tuple(folds))
    whole.ensure(student)
    second_stages.finish_table(whole, table(names, tuple(folds)))
    name = f"{names.folder.name}-{folder(names).name}.csv"  # as RUNS would call it
    submission = uploads.SUBMISSIONS / name
    uploads.submit_checkpoint(whole, student.output, submission)
    if names.is_private:  # questions were held out that both can be scored on
        fused = second_stages.fused(names, uploads.of_teacher(submission), is_named=True)
        second_stages.finish_submission(whole, fused)


def folder(experiment: Experiment) -> Path:
    """Return what the embedder is written into, with its training data: one for each ensemble that may teach it."""
    given = experiment.settings
    named = (
        given.round,
        *given.folds,
        *fold_choice.parts(given),
        *fold_choice.split_parts(given),
        *_endings(experiment),
    )
    return experiment.folder / f"distil-{short_hash(' '.join(map(str, named)))}"


def table_file(experiment: Experiment) -> Path:
    """Return the JSON file of the embedder's table."""
    name = Path("-".join([str(experiment.table_over_folds("distil")), *_endings(experiment)]))
    return files_of(name, ".json")[0]


def table(experiment: Experiment, folds: tuple[Experiment, ...]) -> Stage:
    """The embedder's size and times, beside those of its teacher."""
    taught, student, output = teacher(experiment, folds), training(experiment, folds), table_file(experiment)
    flags = dict(taught.command.flags)
    call = keys.command(
        "student_table",
        recipe=experiment.settings.model,
        model_path=student.output,
        teacher=taught.output,
        folds=flags["folds"],
        model_paths=flags["model_paths"],
        device=experiment.settings.first_device,
        output_file=output,
        replace_stale=True,
    )
    return Stage("distil: table", output, call, (student,), home=output)


def _endings(experiment: Experiment) -> list[str]:
    return second_stages.endings(second_stages.ensemble_flags(experiment))


def teacher(experiment: Experiment, folds: tuple[Experiment, ...]) -> Stage:
    """What the ensemble of the folds says about the candidates of all training rows."""
    given, number = experiment.settings, experiment.settings.round
    call = keys.command(
        "teach",
        recipe=given.model,
        folds=[fold.candidates(number) for fold in folds],
        data_dir=experiment.data,
        model_paths=[experiment.train(earlier) for earlier in range(1, number + 1)],
        raw_dir=candidate_stages.siblings_source(experiment),
        device=given.first_device,
        output_file=folder(experiment) / TEACHER_FILE,
        replace_stale=True,
    )
    inputs = (*map(candidate_stages.candidates, folds), stages.training(experiment, number))
    name, output = "distil: teacher", folder(experiment) / TEACHER_FILE
    return Stage(name, output, call, inputs, f"== {name}", home=experiment.folder)


def training(experiment: Experiment, folds: tuple[Experiment, ...]) -> Stage:
    """An embedder that learns from the ensemble of the folds, continued from ROUND's checkpoint."""
    given, taught = experiment.settings, teacher(experiment, folds)
    call = keys.command(
        "distil",
        processes=given.nproc,
        recipe=given.model,
        round=given.round,
        train_data=taught.output,
        model_name_or_path=experiment.train(given.round),
        epochs=given.epochs,
        device=given.first_device,
        seed=given.training_seed,
        track=given.track,
        output_dir=folder(experiment) / "train",
        replace_stale=True,
    )
    name, output = "distil: finetune", folder(experiment) / "train"
    return Stage(name, output, call, (taught,), f"== {name}", home=experiment.folder)
