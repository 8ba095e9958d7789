"""Compare ways of tuning a generator in one table, and say which of a field note's findings hold."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.prompt_manifests import BrittlenessManifest
from rounds.errors import UserError
from rounds.flags import ModelOutput, OneDevice
from rounds.generation import ledger_rows, predictions, rows, sweep, tables
from rounds.generation.embedder import DEFAULT, PromptEmbedder
from rounds.generation.sweep import Entry

LOG_WIDTH = 110  # columns of the table where it is not printed to a terminal


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice):
    """The predictions and the embedder."""

    data_dir: str = field(metadata={"help": "rows of a split"})
    baselines: list[str] = field(metadata={"help": "folders with predictions.jsonl of no generator"})
    generators: list[str] = field(
        metadata={"help": "folders of tuned generators, each with train/ and validation/predictions.jsonl"}
    )
    joined: list[str] = field(metadata={"help": "which of these folders' predictions are joined to one more row"})
    brittle: str = field(metadata={"help": "folder that prompt_brittle.py wrote"})
    output: str = field(metadata={"help": "the table, without suffix; end its name with the embedder's"})
    embedder: str = field(default=DEFAULT, metadata={"help": "minilm, sentence-t5-base, or a model's name or folder"})


def main(flags: Flags) -> None:
    """Compare ways of tuning a generator in one table, and say which of a field note's findings hold."""
    held_out = rows.read_validation(Path(flags.data_dir))
    folders = [*flags.baselines, *flags.generators]
    if unknown := [folder for folder in flags.joined if folder not in folders]:
        raise UserError(f"--joined {unknown[0]}: is none of the folders of --baselines and --generators")
    brittle = store.read_manifest(Path(flags.brittle))
    if not isinstance(brittle, BrittlenessManifest):
        raise UserError(f"{flags.brittle}: prompt_brittle.py did not write it; run make brittle")
    tuned = [None] * len(flags.baselines) + [sweep.read_tuned(Path(folder) / "train") for folder in flags.generators]
    files = [*map(Path, flags.baselines), *(Path(folder) / "validation" for folder in flags.generators)]
    listed = [predictions.read(file, held_out) for file in files]
    parts = [listed[folders.index(folder)] for folder in flags.joined]
    listed.append(replace(predictions.join(parts), title=f"{len(parts)} of these, joined"))
    scored = tables.score(listed, held_out, PromptEmbedder(flags.embedder, flags.device))
    ledger_rows.record(listed, scored, held_out, flags.embedder, Path(flags.data_dir), Path(flags.model_output))
    entries = [Entry(each, how) for each, how in zip(scored, [*tuned, None], strict=True)]
    joined = [entries[folders.index(folder)] for folder in flags.joined]
    table = sweep.table(entries, flags.embedder)
    lines = sweep.findings(entries, entries[-1], joined, brittle)
    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table.screen())
    print("\n".join(lines))
    saved = tables.save(replace(table, caption="\n\n".join([table.caption, *lines])), None, Path(flags.output))
    print(f"{flags.output}: {', '.join(file.name for file in saved)}")


if __name__ == "__main__":
    cli.run(main, Flags)
