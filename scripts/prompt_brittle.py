"""Show how the prompts that a generator writes change with a space, a newline or the case of a word."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.errors import UserError
from rounds.evaluation.table import Column, Table
from rounds.flags import OneDevice
from rounds.generation import generator, rows
from rounds.generation.brittleness import brittleness
from rounds.generation.embedder import DEFAULT, PromptEmbedder
from rounds.models.devices import resolve_device


@dataclass(kw_only=True)
class Flags(OneDevice):
    """The generator and the rows."""

    model_path: str = field(metadata={"help": "tuned generator"})
    data_dir: str = field(metadata={"help": "split of make data TASK=prompt_recovery; its validation rows are taken"})
    rows: int = field(default=50, metadata={"help": "how many"})
    embedder: str = field(
        default=DEFAULT, metadata={"help": "minilm, sentence-t5-base, or a model's name or folder: compares prompts"}
    )


def main(flags: Flags) -> None:
    """Show how the prompts that a generator writes change with a space, a newline or the case of a word."""
    taken = rows.read_split(Path(flags.data_dir)).validation[: flags.rows]
    if not taken:
        raise UserError(f"{flags.data_dir}: has no validation rows; choose another split")
    device = resolve_device(flags.device)
    writer = generator.find_checkpoint(Path(flags.model_path)).load(device)
    effects = brittleness(writer, taken, PromptEmbedder(flags.embedder, device))
    columns = [Column(""), Column("changed"), Column(f"mean cosine^3 ({flags.embedder})"), Column("least")]
    cells = [[each.change, f"{each.changed:.1%}", f"{each.mean:.4f}", f"{each.least:.4f}"] for each in effects]
    Console().print(Table(columns, cells, f"{flags.model_path}, {len(taken)} rows").screen())


if __name__ == "__main__":
    cli.run(main, Flags)
