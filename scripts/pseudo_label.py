"""Label unlabelled wrong answers of a split's training questions with its checkpoint, where it is sure enough."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.data import collection, remote_files
from rounds.data.loaders import eedi
from rounds.errors import UserError
from rounds.flags import ModelOutput, OneDevice, Replacing
from rounds.mining.pseudo_labels import PseudoLabelJob, label
from rounds.models import checkpoint
from rounds.models.devices import resolve_device


@dataclass(kw_only=True)
class Flags(ModelOutput, OneDevice, Replacing):
    """The checkpoint, its split, and other folds that measure the precision."""

    model_path: str = field(metadata={"help": "checkpoint or finetune folder of the split"})
    data_dir: str = field(metadata={"help": "the split's collection"})
    raw_dir: str = field(metadata={"help": "folder of the competition's CSVs that the split was drawn from"})
    held_out_models: list[str] = field(metadata={"help": "checkpoints of other folds"})
    held_out_data: list[str] = field(metadata={"help": "their collections, in the same order"})
    output_file: str = field(metadata={"help": "JSONL of outside questions to write"})
    min_precision: float = field(default=0.5, metadata={"help": "precision of the labels on held-out queries"})


def main(flags: Flags) -> None:
    """Label unlabelled wrong answers of a split's training questions with its checkpoint, where it is sure enough."""
    if len(flags.held_out_models) != len(flags.held_out_data):
        raise UserError("held_out_data: name the collection of each of held_out_models")
    device = resolve_device(flags.device)
    pairs = zip(flags.held_out_models, flags.held_out_data, strict=True)
    job = PseudoLabelJob(
        checkpoint=checkpoint.resolve(flags.model_path, device=device),
        data=collection.read(Path(flags.data_dir)),
        raw=eedi.load(remote_files.local_path(flags.raw_dir)),
        held_out=[(checkpoint.resolve(path, device=device), collection.read(Path(data))) for path, data in pairs],
        min_precision=flags.min_precision,
        output=Path(flags.output_file),
        model_output=Path(flags.model_output),
        overwrite=flags.overwrite,
        made_from=flags.made_from,
    )
    table, line = label(job)
    if table:
        Console().print(table.screen())
    print(line)


if __name__ == "__main__":
    cli.run(main, Flags)
