"""Read a table from CSV, JSONL or parquet as rows of Python values, without a column's numbers changing their type."""

import csv
import sys
from pathlib import Path

from pyarrow import ArrowException, parquet

from rounds.artifacts import jsonl
from rounds.errors import UserError

FILE_ENDINGS = (".csv", ".jsonl", ".parquet")

EMPTY = "the file is empty"

Rows = list[tuple[str, dict]]


def read_table(path: Path) -> Rows:
    """Return each row after its place (`FILE row N`), as `read_numbered` reads them."""
    return [(f"{path} row {number}", row) for number, row in read_numbered(path)]


def read_numbered(path: Path) -> list[tuple[int, dict]]:
    """Return each row after its number.

    Cells of a CSV file are texts, and its header is row 1; a null cell of the other formats is None. The case of the
    file's ending does not matter.

    Raises:
        UserError: the file is missing, of another type, broken or empty.
    """
    ending = path.suffix.lower()
    if ending not in FILE_ENDINGS:
        raise UserError(f"{path}: not one of {', '.join(FILE_ENDINGS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if ending == ".csv":
            header, lines = read_csv(path)
            rows = [(number, dict(zip(header, cells, strict=True))) for number, cells in lines]
        elif ending == ".jsonl":
            rows = list(jsonl.read_lines(path))
        else:
            rows = list(enumerate(parquet.read_table(path).to_pylist(), 1))
    except (ValueError, OSError, OverflowError, LookupError, ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as {ending[1:]} ({reason})") from None
    if not rows:
        raise UserError(f"{path}: has no rows")
    return rows


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and each row after its number as a spreadsheet counts it (the header is row 1).

    Cells stay the texts that they are: `007`, `NA`, `1.0`. Empty lines are skipped.

    Raises:
        ValueError: the file is empty or not UTF-8, a quote is never closed, a column has the name of an earlier one,
            or a row has not as many cells as the header.
    """
    csv.field_size_limit(sys.maxsize)  # texts may be longer than csv's own limit of 131,072 characters
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines: list[list[str]] = []
        try:
            lines.extend(csv.reader(file, strict=True))
        except csv.Error as error:
            raise ValueError(f"row {len(lines) + 1}: {error}") from None
    rows = [(number, cells) for number, cells in enumerate(lines, 1) if cells]
    if not rows:
        raise ValueError(EMPTY)
    (_, header), *rows = rows
    if twice := [name for place, name in enumerate(header) if name and name in header[:place]]:
        raise ValueError(f"column {twice[0]} appears twice")
    for number, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"row {number} has {len(cells)} cells, the header has {len(header)}")
    return header, rows
