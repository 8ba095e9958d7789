"""Write and check a submission, and print (or run) the line that submits it."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.data import collection, remote_files
from rounds.flags import Clustered, ModelOutput, RecipeOfCheckpoint, SeveralDevices, Truncated
from rounds.kaggle.client import COMPETITION, Client
from rounds.kaggle.stage import submit
from rounds.models import checkpoint
from rounds.models.devices import resolve_devices


@dataclass(kw_only=True)
class Flags(Clustered, ModelOutput, RecipeOfCheckpoint, SeveralDevices, Truncated):
    """The checkpoint and the test queries that it ranks."""

    data_dir: str = field(metadata={"help": "collection with test queries"})
    raw_dir: str = field(metadata={"help": "folder of the competition's CSVs, for sample_submission.csv"})
    output_file: str = field(metadata={"help": "the CSV to write"})
    model_path: str = field(default="", metadata={"help": "checkpoint or finetune folder; default: the recipe's model"})
    precision: str | None = None
    kaggle: bool = field(default=False, metadata={"help": "submit it, too"})
    competition: str = COMPETITION


def main(flags: Flags) -> None:
    """Write and check a submission, and print (or run) the line that submits it."""
    data = collection.read(Path(flags.data_dir))
    recipe = flags.load_recipe(flags.model_path)
    devices = resolve_devices(flags.device)
    source = checkpoint.resolve(flags.model_path or None, recipe, devices[0], flags.precision, takes_recipe=True)
    source = source.with_options(
        devices=devices, cluster=flags.cluster, shards=flags.shards, truncate_dim=flags.truncate_dim
    )
    output = Path(flags.output_file)
    sample = remote_files.local_path(flags.raw_dir) / "sample_submission.csv"
    rows = submit(source, data, sample, output, Path(flags.model_output))
    print(f"{output}: {rows} rows, 25 ids each, checked against {sample}")
    Client(dry=not flags.kaggle).run("competitions", "submit", flags.competition, "-f", output, "-m", output.stem)


if __name__ == "__main__":
    cli.run(main, Flags)
