"""Load the dataset that `TASK=` names, from a file or a folder.

To add a loader:

1. Write a module here with `load(path) -> RetrievalDataset`, and register it in `LOADERS` under its task's name.
2. Add the name to `TASKS` of `rounds.data.source`, with the file or folder that it is read from; `TASK=` takes it then.
   Describe it in docs/data.md.
3. Test it in `tests/data/test_loaders.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import hashing
from rounds.config.sections.prompts import DEFAULT_PASSAGE
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import beir, eedi, explanations, kbvqa, pairs, weak_labels
from rounds.data.source import check_source
from rounds.errors import UserError


@dataclass(frozen=True)
class Columns:
    """Column names of the task `pairs`, and what becomes of a query's own text in the corpus.

    Attributes:
        query, positive, group: column names.
        passage: task `beir`: how title and text become a passage's text.
        explanations: task `eedi`: file of explanations of the misconceptions; empty without one.
        identical: tasks `pairs` and `beir`: `ignore`, neither rank nor mine a query's own id or text for it, or `rank`.
    """

    query: str = "query"
    positive: str = "positive"
    group: str = ""
    identical: str = "ignore"
    passage: str = DEFAULT_PASSAGE
    explanations: str = ""


IDENTICAL = ("ignore", "rank")

Loaded = tuple[RetrievalDataset, list[str]]


def _load_eedi(path: Path, columns: Columns) -> Loaded:
    dataset = eedi.load(path)
    return explanations.explain(dataset, Path(columns.explanations)) if columns.explanations else (dataset, [])


def _load_pairs(path: Path, columns: Columns) -> Loaded:
    ignores = columns.identical == "ignore"
    return pairs.load(path, columns.query, columns.positive, columns.group, ignores), []


def _load_weak_labels(path: Path, columns: Columns) -> Loaded:
    dataset, skipped = weak_labels.load(path)
    return dataset, _describe_skipped(path, skipped)


LOADERS: dict[str, Callable[[Path, Columns], Loaded]] = {
    "eedi": _load_eedi,
    "pairs": _load_pairs,
    "beir": lambda path, columns: (beir.load(path, columns.identical == "ignore", columns.passage), []),
    "weak_labels": _load_weak_labels,
    "kbvqa": lambda path, columns: kbvqa.load(path),
}


def load_dataset(kind: str, path: Path, columns: Columns) -> Loaded:
    """Load a dataset.

    Args:
        kind: a name in `LOADERS`, which stands for the layout of the data.
        path: the file or folder.
        columns: column names, for `pairs`, `identical`, and the explanations.

    Returns:
        The dataset, and messages about what could not be used.

    Raises:
        UserError: an unknown kind, or data that cannot be read.
    """
    check_task_kind(kind)
    if columns.identical not in IDENTICAL:
        raise UserError(f"identical {columns.identical!r} is not one of {', '.join(IDENTICAL)}")
    check_source(kind, path)
    return LOADERS[kind](path, columns)


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
    return [path] if path.is_file() else sorted(hashing.files_below(path))


def source_digests(kind: str, path: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that makes up the data of a kind, by its path within the folder."""
    return {
        file.name if file == path else file.relative_to(path).as_posix(): hashing.sha256_file(file)
        for file in source_files(kind, path)
    }


def check_task_kind(kind: str) -> None:
    """Raise a `UserError` if there is no such kind of task."""
    if kind not in LOADERS:
        raise UserError(f"task {kind!r} is not one of {', '.join(LOADERS)}")
