"""Uploads of prompt recovery: a submission of the test rows' prompts, and the bundle of what predicts them.

A generator that MODEL names predicts, tuned first where that is missing; without MODEL the fixed prompt does.
"""

from pathlib import Path

from rounds.data import remote_files
from rounds.errors import UserError
from rounds.pipeline import generator_stages, prompt_stages, task_defaults, uploads
from rounds.pipeline.experiment import Experiment, tag
from rounds.pipeline.session import Session


def submit(session: Session) -> None:
    """Write and check a CSV of the chosen predictions: RUNS joined, MODEL's generator's, or the fixed prompt."""
    given, names = session.settings, session.experiment
    _check_competition(session)
    _require_test_rows(session)
    sample = remote_files.local_path(given.raw) / "sample_submission.csv"
    predictions = _ensure_predictions(session)
    session.call(
        "submit_prompts",
        data_dir=prompt_stages.data_folder(names),
        predictions=predictions,
        sample=sample if sample.is_file() or given.is_sample else "",
        kaggle=given.kaggle,
        competition=given.competition,
        output_file=uploads.SUBMISSIONS / f"{submission_name(names)}.csv",
    )


def bundle(session: Session) -> None:
    """Write the bundle and the notebook of MODEL's generator, of a baseline that RUNS names, or of the fixed prompt."""
    given, names = session.settings, session.experiment
    _check_competition(session)
    if given.merged:
        raise UserError("MERGED=1: is for bundles of embedders; name a generator's base model with BASE=")
    baselines, tuned = (
        prompt_stages.baselines(names),
        generator_stages.tuning(names) if _has_generator(session) else None,
    )
    baseline = _baseline(session)
    session.ensure(baselines, *([tuned] if tuned else []))
    if not tuned:
        _say_baseline(session, baseline)
    session.call(
        "bundle_prompts",
        data_dir=prompt_stages.data_folder(names),
        baselines=baselines.output,
        model_path=tuned.output if tuned else "",
        baseline="" if tuned else baseline,
        embedder=given.embedder,
        seed=given.training_seed,
        name=submission_name(names),
        **uploads.notebook_flags(session),
    )


def submission_name(names: Experiment) -> str:
    """The name of the chosen predictions' submission: that of its CSV, of its bundle and in the ledger."""
    given = names.settings
    if given.runs:
        return f"{prompt_stages.home(names).name}-runs{tag(list(given.runs))}"
    if "model" in given.given:
        return f"{prompt_stages.home(names).name}-{generator_stages.folder(names).name}"
    return prompt_stages.fixed_name(names)


def chosen_runs(session: Session) -> list[Path]:
    """The folders of predictions that RUNS name, as paths or within the split's folder.

    Raises:
        UserError: a folder holds no predictions.
    """
    home = prompt_stages.home(session.experiment)
    folders = [Path(run) if Path(run).is_dir() else home / run for run in session.settings.runs]
    for run, folder in zip(session.settings.runs, folders, strict=True):
        if not (folder / prompt_stages.PREDICTIONS).is_file() and not session.runner.is_dry:
            raise UserError(f"RUNS={run}: no folder with {prompt_stages.PREDICTIONS}, neither there nor in {home}")
    return folders


def _has_generator(session: Session) -> bool:
    """Whether MODEL's generator predicts; the default recipe does only where the command line names it."""
    return "model" in session.settings.given and not session.settings.runs


def _ensure_predictions(session: Session) -> list[Path]:
    """Bring the chosen predictions of the test rows up to date, and return their folders."""
    given, names = session.settings, session.experiment
    if _has_generator(session):
        stage = generator_stages.predictions(names, "test")
        session.ensure(stage)
        return [stage.output]
    if given.is_validated:
        raise UserError(
            f"submit: SPLIT={given.split} has predictions of validation rows alone without a generator; say "
            "SPLIT=submission, or name a generator with MODEL"
        )
    baselines = prompt_stages.baselines(names)
    session.ensure(baselines)
    if given.runs:
        return chosen_runs(session)
    _say_baseline(session, "fixed")
    return [baselines.output / "fixed"]


def _baseline(session: Session) -> str:
    """The baseline to bundle: the fixed prompt, or the one that RUNS name.

    Raises:
        UserError: RUNS name something else than one baseline.
    """
    runs = session.settings.runs
    if not runs:
        return "fixed"
    folder = prompt_stages.baselines(session.experiment).output
    names = {place: name for name in prompt_stages.BASELINES for place in (f"{folder.name}/{name}", f"{folder}/{name}")}
    if len(runs) > 1 or runs[0].rstrip("/") not in names:
        raise UserError(
            f"RUNS={' '.join(runs)}: a notebook predicts rows that are not here yet; name one baseline "
            f"({folder.name}/nearest), or a generator with MODEL and no RUNS"
        )
    return names[runs[0].rstrip("/")]


def _say_baseline(session: Session, baseline: str) -> None:
    session.runner.say(f"no generator: MODEL names none, so the baseline {baseline!r} predicts every row")


def _check_competition(session: Session) -> None:
    """Refuse the competition of another task.

    Raises:
        UserError: COMPETITION's files are another task's.
    """
    given = session.settings
    folder = task_defaults.COMPETITIONS.get(given.competition, task_defaults.DOWNLOADED_PROMPTS)
    if folder != task_defaults.DOWNLOADED_PROMPTS:
        raise UserError(f"COMPETITION={given.competition}: takes no prompts (id,rewrite_prompt); leave it out")


def _require_test_rows(session: Session) -> None:
    """Refuse data without rows to submit, before a generator is tuned for them."""
    given = session.settings
    folder = remote_files.local_path(given.raw)
    if not given.is_sample and folder.exists() and not (folder.is_dir() and any(folder.glob("test.*"))):
        raise UserError(f"{given.raw}: has no test rows to submit; RAW must be a folder with test.csv")
