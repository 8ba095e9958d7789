"""Uploads: targets that hand a checkpoint to Kaggle or to the Hugging Face hub, and read what came of it."""

from rounds.errors import UserError
from rounds.pipeline import stages
from rounds.pipeline.registry import target
from rounds.pipeline.session import Session


@target()
def bundle(session: Session) -> None:
    """Write the bundle and the notebook for the chosen round's checkpoint."""
    given, names = session.settings, session.experiment
    session.ensure(stages.training(names, given.round))
    session.call(
        "bundle",
        model_path=names.train(given.round),
        data_dir=names.data,
        name=names.submission,
        competition=given.competition,
        hours=given.hours,
        python=given.kaggle_python,
        owner=given.owner,
        image=given.image,
        everything=given.wheels == "all",
        base=given.base,
        merged=given.merged,
    )


@target()
def push(session: Session) -> None:
    """Upload the bundle, run the notebook and submit what it wrote; DRY=1 prints the commands."""
    is_rehearsal, session.runner.is_dry = session.settings.dry, session.runner.is_dry and not session.settings.dry
    session.call("push", dry=is_rehearsal)


@target()
def publish(session: Session) -> None:
    """Write the chosen round's model with a card, and upload both; DRY=1 writes the folder only."""
    given, names = session.settings, session.experiment
    if not given.repo:
        raise UserError("REPO: name the repository on the hub, such as REPO=you/name")
    is_rehearsal, session.runner.is_dry = given.dry, session.runner.is_dry and not given.dry
    session.ensure(stages.round_end(names, given.round))
    evaluated = range(given.round + 1) if given.is_validated else ()
    session.call(
        "publish",
        model_path=names.train(given.round),
        data_dir=names.data,
        raw_dir=given.raw,
        evaluations=[names.evaluation(number) for number in evaluated] or "",
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
