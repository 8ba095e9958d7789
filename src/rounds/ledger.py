"""Ledger: one row per evaluated checkpoint, with CV and LB, in `model_output/ledger.csv`."""

import os
from pathlib import Path

import pandas as pd

from rounds import artefact
from rounds.errors import UserError

KEY = ["data", "split", "fingerprint", "lineage", "validation"]
COLUMNS = [
    "data", "split", "recipe", "round", "epoch", "label", "lineage", "MAP@25", "Recall@25", "MAP@25 seen",
    "MAP@25 unseen", "queries", "LB public", "LB private", "submission", "precision", "checkpoint", "weights",
    "fingerprint", "validation",
]  # fmt: skip


def record(path: Path, rows: list[dict]) -> None:
    """Add rows, or bring the rows of the same checkpoint, split and precision up to date; LB columns are kept."""
    with artefact.lock(path.parent):
        table = {tuple(row[key] for key in KEY): row for row in read(path)}
        for row in rows:
            new = {column: str(row[column]) for column in COLUMNS if row.get(column) is not None}
            key = tuple(new.get(name, "") for name in KEY)
            table[key] = {**table.get(key, {}), **new}
        _write(path, list(table.values()))


def name_submission(path: Path, about: dict, name: str) -> None:
    """Note which submission a checkpoint made: at its rows, or in a new one where it was never evaluated.

    Args:
        about: values of `COLUMNS` for a new row; its `fingerprint` finds the rows.
    """
    with artefact.lock(path.parent):
        rows = read(path)
        mine = [row for row in rows if row["fingerprint"] == about["fingerprint"]]
        if not mine:
            mine = [{column: str(about[column]) for column in COLUMNS if about.get(column) is not None}]
            rows += mine
        for row in mine:
            row["submission"] = name
        _write(path, rows)


def _write(path: Path, rows: list[dict]) -> None:
    frame = pd.DataFrame(rows)
    added = [column for column in frame.columns if column not in COLUMNS]  # by hand, in a spreadsheet
    frame = frame.reindex(columns=[*COLUMNS, *added]).fillna("")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    frame.to_csv(temporary, index=False)
    os.replace(temporary, path)


def read(path: Path) -> list[dict]:
    """All rows, as strings; none where the file is absent."""
    if not path.is_file():
        return []
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError):
        raise UserError(f"{path}: not a readable CSV; move the file away to start a new ledger") from None
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise UserError(f"{path}: column {missing[0]} is missing; move the file away to start a new ledger")
    return table.to_dict("records")
