"""Status: each stage of the present settings as fresh, stale (with what changed) or missing."""

from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table

from rounds.pipeline import distillation, freshness, stages
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.stages import Stage

STYLES = {freshness.FRESH: "green", freshness.STALE: "yellow", freshness.MISSING: "dim"}


def show(experiment: Experiment, console: Console) -> None:
    """Print the table of all stages."""
    console.print(table(experiment))


def table(experiment: Experiment) -> Table:
    """A row for each stage: its name, its state, and why it is stale or where it is."""
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=str(experiment.folder), title_justify="left")
    for name in ("stage", "state", "output, or what changed"):
        rows.add_column(name, overflow="fold")
    for stage, state in freshness.states(listed(experiment)):
        text = freshness.summary(state.reasons) or str(stage.output)
        rows.add_row(stage.name, f"[{STYLES[state.kind]}]{state.kind}[/]", text)
    return rows


def listed(experiment: Experiment) -> list[Stage]:
    """The rounds up to ROUND, and second stages and the baseline where they were made."""
    optional = [stages.candidates(experiment), *_baseline(experiment), *_distillation(experiment)]
    made = [stage for stage in optional if stage.output.exists()]
    return [stages.round_end(experiment, experiment.settings.round), *made]


def _distillation(experiment: Experiment) -> list[Stage]:
    """The stages of `make distil`, which trains on everything; those of its folds belong to v5."""
    if experiment.settings.is_validated:
        return []
    folds = tuple(Experiment(experiment.settings.on(split="v5", fold=fold)) for fold in experiment.settings.folds)
    made = (distillation.teacher(experiment, folds), distillation.training(experiment, folds))
    return [replace(stage, inputs=()) for stage in made]


def _baseline(experiment: Experiment) -> list[Stage]:
    return [stages.baseline(experiment)] if experiment.settings.is_validated else []
