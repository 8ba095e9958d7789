"""Small invented data for tests: tasks, competition-schema CSVs, and a check of what a refusal says."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.loaders.eedi import LABEL_COLUMNS, LETTERS, QUESTION_COLUMNS
from rounds.errors import UserError

MAPPING = {"0": "Adds instead of multiplying", "1": "Reads the axis wrongly", "2142": "Forgets the sign"}


@contextmanager
def refused(*parts: object) -> Iterator[None]:
    """A `UserError` of a single line that holds each of `parts` in this order."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    start = 0
    for part in parts:
        assert str(part) in message[start:], f"{part!r} is not in {message!r}"
        start = message.index(str(part), start) + len(str(part))


def write_csv(path: Path, rows: list[dict[str, str]], columns: list[str]) -> None:
    """Rows as CSV, every cell a string; what a row lacks is empty."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def question(identifier: object, labels: dict[str, str] | None = None, **changed: str) -> dict[str, str]:
    """A row of train.csv whose right answer is A; `labels` maps a wrong letter to its misconception id."""
    row = {
        "QuestionId": str(identifier),
        "ConstructId": "7",
        "ConstructName": f"construct {identifier}",
        "SubjectId": "8",
        "SubjectName": f"subject {identifier}",
        "CorrectAnswer": "A",
        "QuestionText": f"question {identifier}?",
        **{f"Answer{letter}Text": f"answer {letter} of {identifier}" for letter in LETTERS},
        **{f"Misconception{letter}Id": label for letter, label in (labels or {}).items()},
    }
    return {**row, **changed}


def write_raw(
    folder: Path,
    train: list[dict[str, str]] | None = None,
    mapping: list[tuple[str, str]] | None = None,
    test: list[dict[str, str]] | None = None,
) -> Path:
    """A folder in the competition's schema; test.csv only where `test` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    train = [question(5, {"B": "0", "C": "1"}), question(6, {"D": "2142"})] if train is None else train
    names = list(MAPPING.items()) if mapping is None else mapping
    columns = ["MisconceptionId", "MisconceptionName"]
    write_csv(folder / "train.csv", train, QUESTION_COLUMNS + LABEL_COLUMNS)
    rows = [dict(zip(columns, name, strict=True)) for name in names]
    write_csv(folder / "misconception_mapping.csv", rows, columns)
    if test is not None:
        write_csv(folder / "test.csv", test, QUESTION_COLUMNS)
    return folder


def make_task(labels: dict[str, list[str]], passages: dict[str, str] | None = None, tests: int = 0) -> RetrievalDataset:
    """A task of questions with three wrong answers each.

    Args:
        labels: question id -> passage ids of its wrong answers B, C, D in this order; `""` is unlabelled.
        passages: default: each label in numerical order, under an invented text.
        tests: number of test questions.
    """
    ids = sorted({label for row in labels.values() for label in row if label}, key=int)
    queries = [_query(group, letter) for group in labels for letter in "BCD"]
    qrels = {
        f"{group}_{letter}": [label]
        for group, row in labels.items()
        for letter, label in zip("BCD", row, strict=False)
        if label
    }
    test_queries = [_query(str(900_000 + number), letter) for number in range(tests) for letter in "BCD"]
    passages = passages or {i: f"misconception {i}" for i in ids}
    constructs = {group: f"c{int(group) // 3}" for group in labels}  # up to three questions each
    return RetrievalDataset("tiny", queries, passages, qrels, test_queries, constructs=constructs)


def _query(group: str, letter: str) -> Query:
    fields = {
        "construct": f"construct {int(group) % 5}",
        "subject": f"subject {int(group) % 3}",
        "question": f"question {group}?",
        "correct": f"right {group}",
        "wrong": f"wrong {letter} of {group}",
    }
    return Query(f"{group}_{letter}", group, fields)


def chunks_and_labels(batch: dict) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """A collated batch as the Trainer hands it to the loss."""
    labels = batch.pop("label")
    chunks: dict[str, dict] = {}
    for name, value in batch.items():
        chunk, _, key = name.partition("_")
        chunks.setdefault(chunk, {})[key] = value
    return list(chunks.values()), labels
