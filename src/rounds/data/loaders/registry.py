"""Load: the task that `TASK=` names, from a file or a folder."""

from dataclasses import dataclass
from pathlib import Path

from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import beir, eedi, kbvqa, pairs, weak_labels
from rounds.errors import UserError

TASKS = ("eedi", "pairs", "beir", "weak_labels", "kbvqa")


@dataclass(frozen=True)
class Columns:
    """Column names of `pairs`."""

    query: str = "query"
    positive: str = "positive"
    group: str = ""


def load_dataset(kind: str, path: Path, columns: Columns) -> tuple[RetrievalDataset, list[str]]:
    """The task, and lines on what of it could not be used."""
    check_task_kind(kind)
    if kind == "eedi":
        return eedi.load(path), []
    if kind == "pairs":
        return pairs.load(path, columns.query, columns.positive, columns.group), []
    if kind == "beir":
        return beir.load(path), []
    if kind == "kbvqa":
        return kbvqa.load(path)
    task, skipped = weak_labels.load(path)
    said = [
        f"{path}: question {identifier}: answers that say nothing: {', '.join(map(repr, answers))}"
        for identifier, answers in skipped.answers.items()
    ]
    if skipped.unanswered:
        example = ", ".join(skipped.unanswered[:3])
        said.append(f"{path}: {len(skipped.unanswered)} questions have their answer in no passage, such as {example}")
    return task, said


def source_files(kind: str, path: Path) -> list[Path]:
    """The files that make up the data."""
    check_task_kind(kind)
    if kind == "eedi":
        return [path / name for name in eedi.FILES if (path / name).is_file()]
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())


def check_task_kind(kind: str) -> None:
    """Refuse a task that nobody knows."""
    if kind not in TASKS:
        raise UserError(f"task {kind!r} is not one of {', '.join(TASKS)}")
