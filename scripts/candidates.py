"""List the candidates of each validation (or test) query, with what the fusion learns from."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config import loader
from rounds.data import collection
from rounds.flags import Clustered, ModelOutput, OneDevice, Replacing, WithSiblings
from rounds.models import checkpoint
from rounds.models.devices import resolve_device
from rounds.reranking import stage


@dataclass(kw_only=True)
class Flags(Clustered, ModelOutput, OneDevice, Replacing, WithSiblings):
    """The checkpoints whose rankings are refined, and the queries."""

    data_dir: str = field(metadata={"help": "the split's collection"})
    output_dir: str = field(metadata={"help": "folder of the candidates"})
    model_paths: list[str] = field(metadata={"help": "checkpoints; the ranking of the last is refined"})
    recipe: str = field(default="", metadata={"help": "recipe whose base model is a member too"})


def main(flags: Flags) -> None:
    """List the candidates of each validation (or test) query, with what the fusion learns from."""
    data = collection.read(Path(flags.data_dir))
    device = resolve_device(flags.device)
    sources = [checkpoint.resolve(path, device=device) for path in flags.model_paths]
    if flags.recipe:
        sources.insert(0, checkpoint.resolve(None, loader.load(flags.recipe), device))
    sources = [source.with_options(cluster=flags.cluster, shards=flags.shards) for source in sources]
    output, model_output = Path(flags.output_dir), Path(flags.model_output)
    made_from, raw = flags.made_from, flags.load_raw()
    print(stage.make_candidates(sources, data, output, model_output, flags.overwrite, made_from, raw))


if __name__ == "__main__":
    cli.run(main, Flags)
