"""Evaluate a checkpoint on tasks of mteb, and write mteb's own result files."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.data import collection
from rounds.data.few_shot import ExampleBank
from rounds.evaluation import mteb_tasks
from rounds.evaluation.mteb_search import mteb_model
from rounds.flags import Engine, ModelOutput, RecipeOfCheckpoint, SeveralDevices, Truncated
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import resolve_devices


@dataclass(kw_only=True)
class Flags(Engine, ModelOutput, RecipeOfCheckpoint, SeveralDevices, Truncated):
    """The checkpoint and the tasks."""

    tasks: list[str] = field(metadata={"help": "names of tasks, such as SciFact"})
    model_path: str = field(default="", metadata={"help": "checkpoint or finetune folder; default: the recipe's model"})
    data_dir: str = field(default="", metadata={"help": "collection whose training rows are few-shot examples"})
    precision: str | None = field(default=None, metadata={"help": "compute in this precision; default: its own"})
    output_dir: str = field(metadata={"help": "folder for results/MODEL/REVISION/TASK.json"})


def main(flags: Flags) -> None:
    """Evaluate a checkpoint on tasks of mteb, and write mteb's own result files."""
    tasks = mteb_tasks.find_tasks(flags.tasks)
    source = _without_nearest_examples(_checkpoint(flags))
    model = mteb_model(source, _example_bank(flags, source))
    results = mteb_tasks.evaluate(model, tasks, Path(flags.output_dir))
    meta = model.mteb_model_meta
    Console().print(mteb_tasks.score_table(results, tasks, meta).screen())
    print(f"mteb's files: {Path(flags.output_dir) / 'results' / meta.model_name_as_path() / meta.revision}")


def _checkpoint(flags: Flags) -> Checkpoint:
    path = flags.model_path or None
    recipe = flags.load_recipe(path)
    devices = resolve_devices(flags.device)
    source = checkpoint.resolve(path, recipe, devices[0], flags.precision, takes_recipe=True)
    return source.with_options(devices=devices, engine=flags.engine, truncate_dim=flags.truncate_dim)


def _without_nearest_examples(source: Checkpoint) -> Checkpoint:
    """Leave out examples that are chosen by the query's construct, and say so."""
    if source.recipe.prompts.examples != "nearest":
        return source
    print("queries of mteb have no construct to choose the nearest examples by: evaluating without examples")
    prompts = dataclasses.replace(source.recipe.prompts, examples="none", examples_number=0)
    return dataclasses.replace(source, recipe=dataclasses.replace(source.recipe, prompts=prompts))


def _example_bank(flags: Flags, source: Checkpoint) -> ExampleBank | None:
    prompts = source.recipe.prompts
    if prompts.examples == "none" or not flags.data_dir:
        return None
    rows = collection.read_rows(Path(flags.data_dir) / collection.FINETUNE, ("pos",))
    return collection.example_bank(rows, prompts)


if __name__ == "__main__":
    cli.run(main, Flags)
