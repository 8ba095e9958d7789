"""Submission of prompt recovery: a CSV with one prompt a row, checked before it is in place."""

import csv
from pathlib import Path

from rounds.artifacts import store
from rounds.data.loaders.tables import read_csv
from rounds.errors import UserError

COLUMNS = ["id", "rewrite_prompt"]

# Prompts that pandas, which reads submissions at Kaggle, takes for empty cells.
READ_AS_MISSING = frozenset(
    (
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
        *("NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)


def write(predictions: dict[str, str], sample: Path | None, path: Path) -> int:
    """Write the submission and return its number of rows.

    A prompt is one line. One that would be read as an empty cell, such as `None`, gets a full stop.

    Args:
        predictions: Predicted prompts by the test rows' ids.
        sample: The competition's sample_submission.csv, which gives ids and order; None takes the predictions'.
        path: The CSV to write.

    Raises:
        UserError: The sample's ids are others than the test rows', or the file would not be valid. What was at `path`
            before is left as it is.
    """
    expected = _ids(sample) if sample else list(predictions)
    missing = [identifier for identifier in expected if identifier not in predictions]
    if missing or len(expected) != len(predictions):
        raise UserError(
            f"{sample}: {len(expected)} ids, the predictions are {len(predictions)}"
            + (f"; {missing[0]} has no prediction" if missing else "")
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with store.replacing(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([identifier, _cell(predictions[identifier])] for identifier in expected)
        validate(temporary, expected, str(path))
    return len(expected)


def _cell(prompt: str) -> str:
    line = " ".join(prompt.split())
    return f"{line}." if line in READ_AS_MISSING else line


def validate(path: Path, expected: list[str], name: str) -> None:
    """Check a submission as Kaggle does: its header, the ids in their order, and a prompt in every row.

    Args:
        path: The CSV.
        expected: The ids.
        name: The file's name in errors.

    Raises:
        UserError: The file is not a valid submission; the message names the row.
    """
    header, lines = _read(path, name)
    if header != COLUMNS:
        raise UserError(f"{name}: its columns are {', '.join(header)}, not {', '.join(COLUMNS)}")
    if [cells[0] for _, cells in lines] != expected:
        raise UserError(f"{name}: ids or their order differ from the test rows'")
    for number, (_, prompt) in lines:
        if not prompt.strip():
            raise UserError(f"{name} row {number}: the prompt is empty")


def _ids(sample: Path) -> list[str]:
    header, lines = _read(sample, str(sample))
    if header[:1] != COLUMNS[:1]:
        raise UserError(f"{sample}: its first column is not id")
    return [cells[0] for _, cells in lines]


def _read(path: Path, name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    store.require_files(path)
    try:
        return read_csv(path)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
