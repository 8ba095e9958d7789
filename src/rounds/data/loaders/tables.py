"""Read a table from CSV, JSONL or parquet as rows of Python values, without a column's numbers changing their type."""

from pathlib import Path

import pandas as pd
from pyarrow import ArrowException, parquet

from rounds.artifacts import jsonl
from rounds.errors import UserError

FILE_ENDINGS = (".csv", ".jsonl", ".parquet")

Rows = list[tuple[str, dict]]


def read_table(path: Path) -> Rows:
    """Return each row after its place (`FILE row N`).

    Cells of a CSV file are texts, and its header is row 1; a null cell of the other formats is None.

    Raises:
        UserError: the file is missing, of another type, broken or empty.
    """
    if path.suffix not in FILE_ENDINGS:
        raise UserError(f"{path}: not one of {', '.join(FILE_ENDINGS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".csv":
            rows = list(enumerate(_read_csv(path), 2))
        elif path.suffix == ".jsonl":
            rows = list(jsonl.read_lines(path))
        else:
            rows = list(enumerate(parquet.read_table(path).to_pylist(), 1))
    except (ValueError, OSError, ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({reason})") from None
    if not rows:
        raise UserError(f"{path}: has no rows")
    return [(f"{path} row {number}", row) for number, row in rows]


def _read_csv(path: Path) -> list[dict]:
    """Return the rows of a CSV file, whose cells stay the texts that they are: `007`, `NA`, `1.0`."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("rows have more cells than the header")
    return table.to_dict("records")
