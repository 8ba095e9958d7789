"""Load the dataset that `TASK=` names, from a file or a folder."""

from dataclasses import dataclass
from pathlib import Path

from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import beir, eedi, kbvqa, pairs, weak_labels
from rounds.errors import UserError

TASKS = ("eedi", "pairs", "beir", "weak_labels", "kbvqa")


@dataclass(frozen=True)
class Columns:
    """Column names of the task `pairs`."""

    query: str = "query"
    positive: str = "positive"
    group: str = ""


def load_dataset(kind: str, path: Path, columns: Columns) -> tuple[RetrievalDataset, list[str]]:
    """Load a dataset.

    Args:
        kind: one of `TASKS`, which names the layout of the data.
        path: the file or folder.
        columns: column names, for `pairs`.

    Returns:
        The dataset, and messages about what could not be used.

    Raises:
        UserError: an unknown kind, or data that cannot be read.
    """
    check_task_kind(kind)
    if kind == "eedi":
        return eedi.load(path), []
    if kind == "pairs":
        return pairs.load(path, columns.query, columns.positive, columns.group), []
    if kind == "beir":
        return beir.load(path), []
    if kind == "kbvqa":
        return kbvqa.load(path)
    dataset, skipped = weak_labels.load(path)
    return dataset, _describe_skipped(path, skipped)


def _describe_skipped(path: Path, skipped: weak_labels.SkippedAnswers) -> list[str]:
    messages = [
        f"{path}: question {identifier}: answers that say nothing: {', '.join(map(repr, answers))}"
        for identifier, answers in skipped.answers.items()
    ]
    if skipped.unanswered:
        examples = ", ".join(skipped.unanswered[:3])
        count = len(skipped.unanswered)
        messages.append(f"{path}: {count} questions have their answer in no passage, such as {examples}")
    return messages


def source_files(kind: str, path: Path) -> list[Path]:
    """Return the files that make up the data of a kind at `path`, for its digest."""
    check_task_kind(kind)
    if kind == "eedi":
        return [path / name for name in eedi.FILES if (path / name).is_file()]
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def check_task_kind(kind: str) -> None:
    """Raise a `UserError` if there is no such kind of task."""
    if kind not in TASKS:
        raise UserError(f"task {kind!r} is not one of {', '.join(TASKS)}")
