"""Time our work beside the peers', in one run, and write the table into docs/benchmarks.md."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.artifacts import store
from rounds.benchmark import document, table
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
        metadata={
            "help": "letters of the rows to run (a to h; s and m: the scale curves of search and of stages; r: Ray)"
        },
    )
    encoded: int = field(default=50_000, metadata={"help": "passages that row r encodes"})
    repeats: int = field(default=2, metadata={"help": "how many times row r encodes them"})
    searched: list[int] = field(
        default_factory=lambda: [50_000, 500_000], metadata={"help": "passages of each corpus that row r searches"}
    )
    document: str = field(default="", metadata={"help": "file whose marked part a run of all rows rewrites"})


def main(flags: Flags) -> None:
    """Time our work beside the peers', in one run, and write the table into docs/benchmarks.md."""
    store.require_files(Path(flags.train_data), *([Path(flags.document)] if flags.document else []))
    if flags.document and flags.only:
        raise UserError("document: a table of some rows is printed only; leave out ONLY to write it")
    if min([flags.encoded, flags.repeats, *flags.searched]) < 1:
        raise UserError("encoded, repeats and searched: at least 1")
    start = time.perf_counter()
    inputs = BenchmarkInputs(
        recipe=loader.load(flags.recipe),
        mined=Path(flags.train_data),
        folder=Path(flags.data_dir),
        log=print,
        encoded=flags.encoded,
        repeats=flags.repeats,
        searched=tuple(flags.searched),
    )
    text = table.table(*table.run(inputs, flags.only))
    print(f"{text}\n\n{(time.perf_counter() - start) / 60:.0f} min in all; seconds and MiB: theirs / ours")
    if flags.document:
        document.write(text, Path(flags.document))


if __name__ == "__main__":
    cli.run(main, Flags)
