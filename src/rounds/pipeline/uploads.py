"""Uploads: targets that hand a checkpoint to Kaggle or to the Hugging Face hub, and read what came of it."""

from pathlib import Path

from rounds.data import remote_files
from rounds.errors import UserError
from rounds.pipeline import averages, stages
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.registry import target
from rounds.pipeline.session import Session

SUBMISSIONS = Path("submissions")


@target()
def submit(session: Session) -> None:
    """Write and check a CSV of the chosen checkpoint."""
    require_test_queries(session.experiment)
    submit_checkpoint(session, averages.ensure_chosen(session), submitted(session.experiment))


def require_test_queries(names: Experiment) -> None:
    """Refuse data without queries to submit, before rounds are trained for them."""
    given = names.settings
    if given.task != "eedi":
        raise UserError(f"TASK={given.task}: has no test queries to write a submission for; evaluate prints its scores")
    raw = remote_files.local_path(given.raw)
    for name in ("test.csv", "sample_submission.csv"):
        if (raw / "train.csv").exists() and not (raw / name).exists():
            raise UserError(f"{raw / name}: no such file, and a submission needs it; evaluate needs none")


def submit_checkpoint(session: Session, checkpoint: Path, output: Path) -> None:
    """Write and check a CSV of a checkpoint."""
    given, names = session.settings, session.experiment
    session.call(
        "make_submission",
        model_path=checkpoint,
        data_dir=names.data,
        raw_dir=given.raw,
        device=given.device,
        cluster=given.cluster,
        shards=given.shards,
        kaggle=given.kaggle,
        competition=given.competition,
        output_file=output,
    )


def submitted(names: Experiment) -> Path:
    """The CSV of the chosen checkpoint."""
    return SUBMISSIONS / f"{names.submission}.csv"


def of_teacher(submission: Path) -> Path:
    """The CSV of the ensemble that taught a distilled embedder, by the embedder's."""
    return submission.with_name(f"{submission.stem}-teacher.csv")


@target(is_text_only=True)
def bundle(session: Session) -> None:
    """Write the bundle and the notebook for the chosen checkpoint."""
    given, names = session.settings, session.experiment
    chosen = averages.ensure_chosen(session)
    session.call(
        "bundle",
        model_path=chosen,
        data_dir=names.data,
        name=names.submission,
        **notebook_flags(session),
        merged=given.merged,
    )


def notebook_flags(session: Session) -> dict[str, object]:
    """Flags of every bundle: the competition, and the notebook's machine."""
    given = session.settings
    return {
        "competition": given.competition,
        "hours": given.hours,
        "python": given.kaggle_python,
        "owner": given.owner,
        "image": given.image,
        "everything": given.wheels == "all",
        "base": given.base,
    }


@target()
def push(session: Session) -> None:
    """Upload the bundle, run the notebook and submit what it wrote; DRY=1 prints the commands."""
    is_rehearsal, session.runner.is_dry = session.settings.dry, session.runner.is_dry and not session.settings.dry
    session.call("push", dry=is_rehearsal)


@target(is_text_only=True)
def publish(session: Session) -> None:
    """Write the chosen model with a card, and upload both; DRY=1 writes the folder only."""
    given, names = session.settings, session.experiment
    if not given.repo:
        raise UserError("REPO: name the repository on the hub, such as REPO=you/name")
    is_rehearsal, session.runner.is_dry = given.dry, session.runner.is_dry and not given.dry
    if given.runs:
        session.ensure(averages.last_stage(names))
        evaluations = [names.evaluation(0), names.average / "eval"]
    else:
        session.ensure(stages.round_end(names, given.round))
        evaluations = [names.evaluation(number) for number in range(given.round + 1)]
    session.call(
        "publish",
        model_path=averages.ensure_chosen(session),
        data_dir=names.data,
        raw_dir=given.raw,
        evaluations=evaluations if given.is_validated else "",
        repo=given.repo,
        license=given.license,
        merged=given.merged,
        public=given.public,
        device=given.first_device,
        output_dir=names.published,
        dry=is_rehearsal,
    )


@target()
def lb(session: Session) -> None:
    """Write Kaggle's scores into the ledger."""
    session.call("lb", competition=session.settings.competition)


@target()
def ledger(session: Session) -> None:
    """Print CV and LB of all checkpoints."""
    session.call("ledger")
