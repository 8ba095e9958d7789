"""Time our work beside the peers', in one run, and write the table into docs/benchmarks.md."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.benchmark import table
from rounds.benchmark.table import BenchmarkInputs
from rounds.config import loader
from rounds.errors import UserError


@dataclass
class Flags:
    """The texts, the model and the rows of the table."""

    data_dir: str = field(metadata={"help": "collection"})
    train_data: str = field(metadata={"help": "mined JSONL"})
    recipe: str = "minilm"
    only: str = field(
        default="",
        metadata={"help": "letters of the rows to run (a to h, s and m: the scale curves of search and of stages)"},
    )
    readme: str = field(default="", metadata={"help": "file whose marked part a run of all rows rewrites"})


def main(flags: Flags) -> None:
    """Time our work beside the peers', in one run, and write the table into docs/benchmarks.md."""
    store.require_files(Path(flags.train_data), *([Path(flags.readme)] if flags.readme else []))
    if flags.readme and flags.only:
        raise UserError("readme: a table of some rows is printed only; leave out ONLY to write it")
    start = time.perf_counter()
    inputs = BenchmarkInputs(loader.load(flags.recipe), Path(flags.train_data), Path(flags.data_dir), print)
    text = table.table(*table.run(inputs, flags.only))
    print(f"{text}\n\n{(time.perf_counter() - start) / 60:.0f} min in all; seconds and MiB: theirs / ours")
    if flags.readme:
        table.write(text, Path(flags.readme))


if __name__ == "__main__":
    cli.run(main, Flags)
