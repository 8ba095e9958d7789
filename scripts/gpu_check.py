"""Prove the flagship on a GPU: encode, train, fp16, a whole round, search and torch.compile, within some minutes."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli


@dataclass
class Flags:
    """How long, what, and where the figures go."""

    minutes: float = field(default=9.0, metadata={"help": "for all sections; what would not fit is skipped"})
    sections: str = field(default="", metadata={"help": "names with commas between; default: all"})
    small: bool = field(default=False, metadata={"help": "tiny models on a CPU"})
    output_dir: str = field(default="model_output/gpu_check", metadata={"help": "JSON and Markdown table go here"})


def main(flags: Flags) -> None:
    """Run the sections; exit code 1 where one failed."""
    import torch

    if flags.small:
        os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # ranx would compile for a minute what runs for a moment
        torch.set_num_threads(1)  # tiny products only wait for other threads
    from rounds.benchmark import gpu_check
    from rounds.benchmark.gpu_check import Options

    sections = [name.strip() for name in flags.sections.split(",") if name.strip()]
    options = Options(flags.minutes, sections, flags.small, Path(flags.output_dir))
    report = gpu_check.run(options, lambda line: print(line, flush=True))
    if report.failed:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, Flags)
