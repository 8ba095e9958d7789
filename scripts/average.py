"""Average checkpoints of one shape into one checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.encoding import averaged_checkpoint
from rounds.flags import OneDevice, Replacing
from rounds.models import checkpoint


@dataclass(kw_only=True)
class Flags(OneDevice, Replacing):
    """The checkpoints, and the folder for their average."""

    model_paths: list[str] = field(metadata={"help": "checkpoints or finetune folders, two or more"})
    output_dir: str = field(metadata={"help": "checkpoint folder to write"})
    method: str = field(default="mean", metadata={"help": "mean, or slerp for two"})


def main(flags: Flags) -> None:
    """Average checkpoints of one shape into one checkpoint."""
    sources = [checkpoint.resolve(path, device=flags.device) for path in flags.model_paths]
    output = Path(flags.output_dir)
    print(averaged_checkpoint.average(sources, output, flags.method, flags.overwrite, flags.made_from))


if __name__ == "__main__":
    cli.run(main, Flags)
