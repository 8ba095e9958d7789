"""Serve a page on this machine where a typed question is ranked by a checkpoint and by its base model."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.data import collection, remote_files
from rounds.demo import page, questions
from rounds.demo.search import DemoSearch, ModelSearch, training_rows
from rounds.encoding import run_store
from rounds.flags import Engine, ModelOutput, OneDevice, RecipeOfCheckpoint
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.report.server import HOST


@dataclass(kw_only=True)
class Flags(Engine, ModelOutput, OneDevice, RecipeOfCheckpoint):
    """The checkpoint, the collection that it ranks, and the port."""

    model_path: str = field(default="", metadata={"help": "checkpoint or finetune folder; default: the recipe's model"})
    data_dir: str = field(metadata={"help": "collection with the passages and the training queries"})
    raw_dir: str = field(default="", metadata={"help": "the competition's CSVs, for examples to click on"})
    precision: str | None = field(default=None, metadata={"help": "compute in this precision; default: its own"})
    port: int = field(default=8008, metadata={"help": "port on 127.0.0.1"})


def main(flags: Flags) -> None:
    """Serve a page on this machine where a typed question is ranked by a checkpoint and by its base model."""
    page.import_gradio()
    data = collection.read(Path(flags.data_dir))
    rows = training_rows(data)
    sources = _checkpoints(flags)
    recipe = sources[0].recipe
    recipe.require_text_only("make demo")
    form = questions.make_form(recipe.prompts, data, rows)
    examples = questions.example_values(form, data, remote_files.local_path(flags.raw_dir) if flags.raw_dir else None)
    listening = page.listen(flags.port)
    models = []
    for source in sources:
        models.append(ModelSearch(_title(source), run_store.open_store(source, Path(flags.model_output)), data, rows))
        encoded = " and ".join(models[-1].encoded)
        print(f"{source.name}: {f'encoded {encoded}' if encoded else 'nothing had to be encoded'}", flush=True)
    demo = DemoSearch(form, data, models)
    if examples:
        demo.search(examples[0])  # loads the weights before the page is there
    text = f"{len(data.passages):,} passages of {data.data}, split {data.split}, ranked by {sources[0].name}"
    app = page.make_app(demo, page.Heading("Rounds: demo", text), examples)
    print(f"http://{HOST}:{listening.getsockname()[1]}/ (Ctrl+C ends it)", flush=True)
    page.serve(app, listening)


def _checkpoints(flags: Flags) -> list[Checkpoint]:
    """Return the checkpoint and the base model of its recipe; only the latter if no checkpoint is named."""
    path = flags.model_path or None
    recipe = flags.load_recipe(path)
    if recipe:
        recipe.require_text_only("make demo")  # before its vision model is looked for
    sources = [checkpoint.resolve(path, recipe, flags.device, flags.precision, takes_recipe=True)]
    if path is not None:
        sources.append(checkpoint.resolve(None, sources[0].recipe, flags.device, flags.precision))
    return [source.with_options(engine=flags.engine) for source in sources]


def _title(source: Checkpoint) -> str:
    """Return how the page calls a checkpoint: `round 2, epoch 2`, `zero-shot`, or its folder."""
    if source.folder is None or source.is_initialization:
        return "zero-shot"
    manifest = source.manifest
    if manifest is None or manifest.round is None:
        return source.folder.name
    return f"round {manifest.round}" + (f", epoch {manifest.epoch}" if manifest.epoch else "")


if __name__ == "__main__":
    cli.run(main, Flags)
