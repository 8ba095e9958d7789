"""Targets of TASK=prompt_recovery, by the names that they have for other tasks where these mean the same."""

from rounds.data.source import PROMPT_TASK
from rounds.errors import UserError
from rounds.pipeline import (
    generator_stages,
    prompt_stages,
    prompt_uploads,
    registry,
    settings,
    stages,
)
from rounds.pipeline.registry import Action, target
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


@target()
def tune(session: Session) -> None:
    """Tune MODEL's generator on the split's training rows."""
    _require_task("tune", session)
    session.finish(generator_stages.tuning(session.experiment))


@target()
def predict(session: Session) -> None:
    """Let the tuned generator write prompts: of the validation rows, or of the test rows where the split has none."""
    _require_task("predict", session)
    side = "validation" if session.settings.is_validated else "test"
    session.finish(generator_stages.predictions(session.experiment, side))


def brittle(session: Session) -> None:
    """Show how the tuned generator's prompts change with a space, a newline or the case of a word."""
    stage = generator_stages.brittleness(session.experiment)
    if not session.ensure(stage):
        session.runner.call(stage.command)  # it prints what is there


def evaluate(session: Session) -> None:
    """Print the table of the baselines and of all predictions; RUNS name predictions that one more row joins."""
    given, names = session.settings, session.experiment
    if not given.is_validated:
        raise UserError("evaluate: SPLIT=submission trains on everything and has no validation rows; choose v1 or v6")
    session.ensure(prompt_stages.baselines(names))
    session.call(
        "eval_prompts",
        data_dir=prompt_stages.data_folder(names),
        predictions=prompt_stages.predicted(names),
        joined=prompt_uploads.chosen_runs(session) or None,
        output=prompt_stages.table(names),
        embedder=given.embedder,
        device=given.first_device,
    )


def sweep(session: Session) -> None:
    """Tune MODEL in several ways, and print the scores beside the baselines', and which of a note's findings hold."""
    given, names = session.settings, session.experiment
    if not given.is_validated:
        raise UserError("sweep: SPLIT=submission trains on everything and has no validation rows; choose v1 or v6")
    ways = generator_stages.swept(given)
    baselines, brittle = prompt_stages.baselines(names), generator_stages.brittleness(ways["8 tokens"])
    session.ensure(baselines)
    for way in ways.values():
        session.ensure(generator_stages.predictions(way))
    session.ensure(brittle)
    folders = {name: generator_stages.folder(way) for name, way in ways.items()}
    own = {name: baselines.output / name for name in prompt_stages.BASELINES}
    session.call(
        "prompt_sweep",
        data_dir=prompt_stages.data_folder(names),
        baselines=list(own.values()),
        generators=list(folders.values()),
        joined=[own["fixed"], own["nearest"], folders["8 tokens"], folders["r=16"]],
        brittle=brittle.output,
        output=prompt_stages.table(names, "sweep"),
        embedder=given.embedder,
        device=given.first_device,
    )


def report(session: Session) -> None:
    """Score each checkpoint of the sweep, and write a page with its table and the checkpoints' losses and scores."""
    sweep(session)
    names, ways = session.experiment, generator_stages.swept(session.settings).values()
    scored = [generator_stages.checkpoints(way) for way in ways]
    session.ensure(*scored)
    session.call(
        "prompt_report",
        title=prompt_stages.home(names).name,
        table=prompt_stages.table(names, "sweep"),
        checkpoints=[stage.output for stage in scored],
        output_dir=prompt_stages.report(names),
    )


def _require_task(name: str, session: Session) -> None:
    if session.settings.task != PROMPT_TASK:
        raise UserError(f"{name}: is for TASK={PROMPT_TASK}; make round1 fine-tunes an embedder")


TARGETS: dict[str, Action] = {
    "sample": sample,
    "data": data,
    "tune": tune,
    "predict": predict,
    "brittle": brittle,
    "evaluate": evaluate,
    "sweep": sweep,
    "report": report,
    "submit": prompt_uploads.submit,
    "bundle": prompt_uploads.bundle,
    **{name: registry.TARGETS[name] for name in ("push", "lb", "ledger")},
}
