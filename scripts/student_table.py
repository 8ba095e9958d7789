"""Print a distilled embedder's size and times, beside those of the ensemble that taught it."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.config import loader
from rounds.flags import OneDevice
from rounds.models import checkpoint
from rounds.models.devices import resolve_device
from rounds.reranking import cross_validation, student_table
from rounds.reranking.student_table import Taught


@dataclass(kw_only=True)
class Flags(OneDevice):
    """The student, its teacher, and what the teacher was made from."""

    recipe: str = field(metadata={"help": "recipe of the rounds"})
    model_path: str = field(metadata={"help": "the student: the folder that distil.py wrote"})
    teacher: str = field(metadata={"help": "JSONL that teach.py wrote"})
    folds: list[str] = field(metadata={"help": "folders of candidates, one a fold, each in its last round's folder"})
    model_paths: list[str] = field(metadata={"help": "checkpoints of the rounds on everything"})
    output: str = field(default="", metadata={"help": "write OUTPUT.md, OUTPUT.csv and OUTPUT.json"})


def main(flags: Flags) -> None:
    """Print a distilled embedder's size and times, beside those of the ensemble that taught it."""
    device = resolve_device(flags.device or None)
    rounds = [checkpoint.resolve(path, device=device) for path in flags.model_paths]
    taught = Taught(
        student=checkpoint.resolve(flags.model_path, device=device),
        teacher=Path(flags.teacher),
        checkpoints=[checkpoint.resolve(None, loader.load(flags.recipe), device), *rounds],
        folds=[Path(fold) for fold in flags.folds],
    )
    table = student_table.build_table(taught)
    Console().print(table.screen())
    if flags.output:
        print(", ".join(map(str, cross_validation.write_table(table, Path(flags.output)))))


if __name__ == "__main__":
    cli.run(main, Flags)
