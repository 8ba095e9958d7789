"""Score predictions of a split's validation prompts, in one table by one embedder."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.flags import ModelOutput, OneDevice
from rounds.generation import ledger_rows, predictions, rows, tables
from rounds.generation.embedder import DEFAULT, PromptEmbedder


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice):
    """The predictions and the embedder."""

    data_dir: str = field(metadata={"help": "rows of a split"})
    predictions: list[str] = field(metadata={"help": "folders with predictions.jsonl, a row of the table each"})
    joined: list[str] = field(
        default_factory=list, metadata={"help": "folders whose predictions are joined to one more row"}
    )
    output: str = field(metadata={"help": "the table, without suffix; end its name with the embedder's"})
    embedder: str = field(default=DEFAULT, metadata={"help": "minilm, sentence-t5-base, or a model's name or folder"})


def main(flags: Flags) -> None:
    """Score predictions of a split's validation prompts, in one table by one embedder."""
    held_out = rows.read_validation(Path(flags.data_dir))
    listed = [predictions.read(Path(folder), held_out) for folder in flags.predictions]
    if flags.joined:
        listed.append(predictions.join([predictions.read(Path(folder), held_out) for folder in flags.joined]))
    scored = tables.score(listed, held_out, PromptEmbedder(flags.embedder, flags.device))
    table = tables.main_table(scored, flags.embedder, len(held_out))
    ledger_rows.record(listed, scored, held_out, flags.embedder, Path(flags.data_dir), Path(flags.model_output))
    files = tables.save(table, tables.family_table(scored, held_out, flags.embedder), Path(flags.output))
    Console().print(table.screen())
    print(f"{flags.output}: {', '.join(file.name for file in files)}")


if __name__ == "__main__":
    cli.run(main, Flags)
