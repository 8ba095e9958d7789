"""Merge an adapter into its base model's weights and check the vectors."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.data import collection
from rounds.encoding import merged_checkpoint
from rounds.flags import OneDevice, Overwriting
from rounds.models import checkpoint


@dataclass(kw_only=True)
class Flags(OneDevice, Overwriting):
    """The adapter, and the folder for the merged model."""

    lora_path: str = field(metadata={"help": "adapter checkpoint, or a finetune folder"})
    output_dir: str = field(metadata={"help": "checkpoint folder to write"})
    data_dir: str = field(metadata={"help": "collection whose passages the vectors are compared on"})
    precision: str = field(default="", metadata={"help": "default: the checkpoint's own; 4-bit ones: auto"})


def main(flags: Flags) -> None:
    """Merge an adapter into its base model's weights and check the vectors."""
    source = checkpoint.resolve(flags.lora_path, device=flags.device, precision=flags.precision or None)
    if source.precision in FOUR_BIT_PRECISIONS and not flags.precision:
        source = checkpoint.resolve(flags.lora_path, device=flags.device, precision="auto")
    passages = list(collection.read(Path(flags.data_dir)).passages.values())
    cosine = merged_checkpoint.merge(source, Path(flags.output_dir), passages[:256], flags.overwrite)
    print(f"{flags.output_dir}: merged in {source.precision}, least cosine to the adapter's vectors {cosine:.6f}")


if __name__ == "__main__":
    cli.run(main, Flags)
