"""Mine hard negatives with a checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.config import loader
from rounds.config.recipe import parse_range
from rounds.data import collection
from rounds.flags import Clustered, Engine, ModelOutput, RecipeOfCheckpoint, Replacing, Seeded
from rounds.mining.stage import MiningJob, mine_file
from rounds.models import checkpoint
from rounds.models.devices import resolve_devices

OVERRIDES = ("range_for_sampling", "negative_number", "relative_margin")


@dataclass(kw_only=True)
class Flags(Clustered, Engine, ModelOutput, RecipeOfCheckpoint, Replacing, Seeded):
    """FlagEmbedding's hn_mine flags, and the recipe that fills in what they leave open."""

    input_file: str = field(metadata={"help": "JSONL with query and pos"})
    output_file: str = field(metadata={"help": "the same JSONL with neg filled in"})
    candidate_pool: str = field(default="", metadata={"help": "JSONL with text; default: beside the input file"})
    embedder_name_or_path: str = field(
        default="", metadata={"help": "checkpoint folder or model; default: the recipe's model"}
    )
    embedder_model_class: str = field(
        default="", metadata={"help": f"how to use a model that has no recipe: {', '.join(loader.MODEL_CLASSES)}"}
    )
    pooling_method: str = field(default="", metadata={"help": "checked against the recipe's"})
    range_for_sampling: str | None = None
    negative_number: int | None = None
    relative_margin: float | None = None
    devices: list[str] = field(
        default_factory=list,
        metadata={"help": "cpu, cuda or cuda:N, or several, such as cuda:0,cuda:1; default: a GPU where there is one"},
    )


def main(flags: Flags) -> None:
    """Mine hard negatives with a checkpoint."""
    pool = flags.candidate_pool or Path(flags.input_file).with_name(collection.POOL)
    store.require_files(Path(flags.input_file), Path(pool))
    if flags.range_for_sampling:
        parse_range(flags.range_for_sampling)
    name = flags.embedder_name_or_path
    recipe = flags.load_recipe(name)
    if recipe is None and not checkpoint.has_manifest(name):
        recipe = checkpoint.recipe_for_model(name, flags.embedder_model_class, flags.pooling_method)
    devices = resolve_devices(",".join(flags.devices))
    source = checkpoint.resolve(name or None, recipe, devices[0], takes_recipe=True)
    source = source.with_options(engine=flags.engine, devices=devices, cluster=flags.cluster, shards=flags.shards)
    overrides = {name: getattr(flags, name) for name in OVERRIDES}
    job = MiningJob(
        checkpoint=source,
        recipe=(recipe or source.recipe).replace("mining", **overrides).mining,
        input_file=Path(flags.input_file),
        candidate_pool=Path(pool),
        output_file=Path(flags.output_file),
        seed=flags.seed,
        model_output=Path(flags.model_output),
        overwrite=flags.overwrite,
        made_from=flags.made_from,
    )
    print(mine_file(job))


if __name__ == "__main__":
    cli.run(main, Flags)
