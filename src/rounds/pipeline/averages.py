"""Averages: the target that averages the weights of RUNS, and the checkpoint that RUNS or ROUND chooses."""

from pathlib import Path

from rounds.artifacts import store
from rounds.artifacts.manifests import CheckpointManifest, FinetuneManifest
from rounds.errors import UserError
from rounds.pipeline import keys, stages
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.registry import target
from rounds.pipeline.session import Session
from rounds.pipeline.stages import Stage


@target()
def average(session: Session) -> None:
    """Average the weights of RUNS, and evaluate the average."""
    if len(session.settings.runs) < 2:
        name = session.experiment.folder.name
        raise UserError(f"RUNS: name two rounds or more, such as RUNS='{name}/round1 ...'")
    evaluate_runs(session)


def evaluate_runs(session: Session) -> None:
    """Evaluate the run or the average of RUNS, and print its table."""
    given, end = session.settings, last_stage(session.experiment)
    session.finish(end)
    if given.is_validated and end.name not in session.runner.ran:
        session.runner.show_table(end)


def ensure_chosen(session: Session) -> Path:
    """Bring the chosen checkpoint up to date, and return its folder: that of ROUND, or of RUNS.

    One run is taken as it is, and several are averaged.
    """
    given, names = session.settings, session.experiment
    if len(given.runs) == 1:
        (checkpoint,) = _checkpoints(names).values()
        session.ensure(stages.data(names))
        return checkpoint
    stage = averaging(names) if given.runs else stages.training(names, given.round)
    session.ensure(stage)
    return stage.output


def last_stage(experiment: Experiment) -> Stage:
    """The metrics of the checkpoint of RUNS below those of the base model; without validation queries, the average."""
    given = experiment.settings
    made = (averaging(experiment),) if len(given.runs) > 1 else ()
    if not given.is_validated:
        return made[0] if made else stages.data(experiment)
    trained = made[0].output if made else _checkpoints(experiment)[given.runs[0]]
    first, output = stages.round_end(experiment, 0), experiment.average / "eval"
    call = stages.evaluation_command(experiment, trained, [first.output], output)
    name = f"{'average' if made else 'run'}: evaluate"
    return Stage(name, output, call, (first, *made), f"== {name}", home=experiment.folder)


def averaging(experiment: Experiment) -> Stage:
    """The stage that averages the weights of RUNS.

    Raises:
        UserError: a run has no checkpoint, or was trained on texts that MODEL's data do not hold.
    """
    given, output = experiment.settings, experiment.average / "train"
    call = keys.command(
        "average",
        model_paths=list(_checkpoints(experiment).values()),
        method=given.method,
        device=given.first_device,
        output_dir=output,
        replace_stale=True,
    )
    return Stage("average", output, call, (stages.data(experiment),), "== average", home=experiment.folder)


def _checkpoints(experiment: Experiment) -> dict[str, Path]:
    """Return the checkpoint of each of RUNS.

    Raises:
        UserError: a run has no checkpoint, or was trained on texts that MODEL's data do not hold.
    """
    checkpoints = {run: _find_checkpoint(run) for run in experiment.settings.runs}
    for run, folder in checkpoints.items():
        _require_same_texts(run, folder, experiment.settings.model)
    return checkpoints


def _find_checkpoint(run: str) -> Path:
    """The checkpoint of a run: of a round's folder in model_output, or a checkpoint's own folder."""
    places = (Path("model_output", run, "train"), Path("model_output", run), Path(run))
    for place in places:
        if (place / store.MANIFEST).is_file():
            return place
    raise UserError(f"RUNS: {run} has no checkpoint: there is no {places[0]}; train it first, or name another")


def _require_same_texts(run: str, folder: Path, model: str) -> None:
    """Refuse a run whose recipe joins other texts than MODEL's, from which the data are made.

    The average would be evaluated and submitted on texts of another form than those that it was trained on.
    """
    manifest = store.read_manifest(folder)
    if isinstance(manifest, CheckpointManifest):
        recipe = manifest.recipe
    else:
        recipe = manifest.config.get("recipe", {}) if isinstance(manifest, FinetuneManifest) else {}
    prompts = stages.load_recipe("MODEL", model).prompts
    for name in ("query", "passage", "latex"):
        own = getattr(prompts, name)
        if (trained := recipe.get("prompts", {}).get(name, own)) != own:
            raise UserError(
                f"RUNS: {run} was trained with prompts.{name} {trained!r}, and MODEL={model} makes texts with {own!r}; "
                "give MODEL the recipe of RUNS"
            )
