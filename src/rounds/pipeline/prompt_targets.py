"""Targets of TASK=prompt_recovery, by the names that they have for other tasks where these mean the same."""

from rounds.errors import UserError
from rounds.pipeline import prompt_stages, settings, stages
from rounds.pipeline.registry import Action
from rounds.pipeline.session import Session


def run(name: str, session: Session) -> None:
    """Run a target.

    Raises:
        UserError: the task has no such target, or it needs validation rows and the split has none.
        Failed: a script ended with an error.
    """
    if name not in TARGETS:
        raise UserError(f"{name}: TASK={session.settings.task} has {settings.listed(TARGETS, 'and')} alone")
    TARGETS[name](session)


def sample(session: Session) -> None:
    """Generate the sample anew if the generator is another."""
    session.finish(stages.sample(session.experiment, anew=True))


def data(session: Session) -> None:
    """Write the split's rows."""
    session.finish(prompt_stages.data(session.experiment))


TARGETS: dict[str, Action] = {"sample": sample, "data": data}
