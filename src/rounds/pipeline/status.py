"""Status: each stage of the present settings as fresh, stale (with what changed) or missing."""

from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rounds.data.source import PROMPT_TASK
from rounds.pipeline import (
    candidate_stages,
    distillation,
    freshness,
    generator_stages,
    prompt_stages,
    second_stages,
    stages,
)
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.stages import Stage

STYLES = {freshness.FRESH: "green", freshness.STALE: "yellow", freshness.MISSING: "dim"}


def show(experiment: Experiment, console: Console) -> None:
    """Print the table of all stages."""
    console.print(table(experiment))


def table(experiment: Experiment) -> Table:
    """A row for each stage: its name, its state, and why it is stale or where it is."""
    folder = generator_stages.folder(experiment) if _has_prompts(experiment) else experiment.folder
    rows = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=Text(str(folder), "table.title"), title_justify="left"
    )
    for name in ("stage", "state", "output, or what changed"):
        rows.add_column(name, overflow="fold")
    for stage, state in freshness.states(listed(experiment)):
        text = freshness.summary(state.reasons) or str(stage.output)
        rows.add_row(stage.name, Text(state.kind, STYLES[state.kind]), Text(text))
    return rows


def listed(experiment: Experiment) -> list[Stage]:
    """The rounds up to ROUND, and second stages and the baseline where they were made; of prompts, the generator's."""
    if _has_prompts(experiment):
        return _prompts(experiment)
    optional = [candidate_stages.candidates(experiment), *_baseline(experiment), *second_stages.made(experiment)]
    optional += _distillation(experiment)
    made = [stage for stage in optional if stage.output.exists()]
    return [stages.round_end(experiment, experiment.settings.round), *made]


def _has_prompts(experiment: Experiment) -> bool:
    return experiment.settings.task == PROMPT_TASK


def _prompts(experiment: Experiment) -> list[Stage]:
    """The baselines, the generator and its predictions; and what was measured on these, where it was."""
    measured = [generator_stages.brittleness(experiment), generator_stages.checkpoints(experiment)]
    side = "validation" if experiment.settings.is_validated else "test"
    return [
        prompt_stages.baselines(experiment),
        generator_stages.predictions(experiment, side),
        *(stage for stage in measured if stage.output.exists()),
    ]


def _distillation(experiment: Experiment) -> list[Stage]:
    """The stages of `make distil`, which trains on everything, as far as they learned from v5's folds."""
    if experiment.settings.is_validated:
        return []
    folds = tuple(Experiment(experiment.settings.on(split="v5", fold=fold)) for fold in experiment.settings.folds)
    made = (stage(experiment, folds) for stage in (distillation.teacher, distillation.training, distillation.table))
    return [replace(stage, inputs=()) for stage in made]


def _baseline(experiment: Experiment) -> list[Stage]:
    return [stages.baseline(experiment)] if experiment.settings.is_validated else []
