"""Print a distilled embedder's size and times, beside those of the ensemble that taught it."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import store
from rounds.artifacts.second_stage_manifests import StudentTableManifest
from rounds.config import loader
from rounds.flags import OneDevice, TableFile
from rounds.models import checkpoint
from rounds.models.devices import resolve_device
from rounds.reranking import cv_table, student_table
from rounds.reranking.student_table import Taught


@dataclass(kw_only=True)
class Flags(OneDevice, TableFile):
    """The student, its teacher, and what the teacher was made from."""

    recipe: str = field(metadata={"help": "recipe of the rounds"})
    model_path: str = field(metadata={"help": "the student: the folder that distil.py wrote"})
    teacher: str = field(metadata={"help": "JSONL that teach.py wrote"})
    folds: list[str] = field(metadata={"help": "folders of candidates, one a fold, each in its last round's folder"})
    model_paths: list[str] = field(metadata={"help": "checkpoints of the rounds on everything"})


def main(flags: Flags) -> None:
    """Print a distilled embedder's size and times, beside those of the ensemble that taught it."""
    output = flags.table_file()
    device = resolve_device(flags.device)
    rounds = [checkpoint.resolve(path, device=device) for path in flags.model_paths]
    taught = Taught(
        student=checkpoint.resolve(flags.model_path, device=device),
        teacher=Path(flags.teacher),
        checkpoints=[checkpoint.resolve(None, loader.load(flags.recipe), device), *rounds],
        folds=[Path(fold) for fold in flags.folds],
    )
    config = taught.config()
    if output is not None and store.is_file_finished(output, config, flags.overwrite, flags.made_from):
        print(f"{output}: up to date")
        return
    table = student_table.build_table(taught)
    Console().print(table.screen())
    if output is not None:
        files = cv_table.write(table, {}, output, config, flags.made_from, StudentTableManifest)
        print(", ".join(map(str, files)))


if __name__ == "__main__":
    cli.run(main, Flags)
