"""Measure the 7B decoder on a GPU: encoding, training, fp16, a whole round, search and torch.compile, in minutes."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli


@dataclass
class Flags:
    """Choose the time, the sections and the output folder."""

    minutes: float = field(default=9.0, metadata={"help": "time for all sections; those that do not fit are skipped"})
    sections: str = field(default="", metadata={"help": "comma-separated names of sections; default: all"})
    small: bool = field(default=False, metadata={"help": "use tiny models on a CPU"})
    output_dir: str = field(
        default="model_output/gpu_check", metadata={"help": "folder of the JSON file and the Markdown table"}
    )


def main(flags: Flags) -> None:
    """Run the sections, and exit with code 1 if one failed."""
    import torch

    if flags.small:
        torch.set_num_threads(1)  # more threads only slow tiny products down
    from rounds.benchmark.gpu import check
    from rounds.benchmark.gpu.check import CheckOptions

    sections = [name.strip() for name in flags.sections.split(",") if name.strip()]
    options = CheckOptions(flags.minutes, sections, flags.small, Path(flags.output_dir))
    results = check.run(options, lambda line: print(line, flush=True))
    if results.failed:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, Flags)
