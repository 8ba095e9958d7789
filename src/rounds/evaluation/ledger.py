"""Ledger: one row per evaluated checkpoint, with CV and LB, in `model_output/ledger.csv`."""

import os
from pathlib import Path

import pandas as pd
from scipy.stats import pearsonr, spearmanr

from rounds.artifacts import store
from rounds.data import lineage
from rounds.errors import UserError

KEY = ["data", "split", "fingerprint", "lineage", "validation"]

COLUMNS = [
    "data", "split", "recipe", "round", "epoch", "label", "lineage", "MAP@25", "Recall@25", "MAP@25 seen",
    "MAP@25 unseen", "queries", "LB public", "LB private", "submission", "precision", "checkpoint", "weights",
    "fingerprint", "validation",
]  # fmt: skip


def record(path: Path, rows: list[dict]) -> None:
    """Add rows, or bring the rows of the same checkpoint, split and precision up to date; LB columns are kept."""
    with store.lock(path.parent):
        table = {tuple(row[key] for key in KEY): row for row in read(path)}
        for row in rows:
            new = {column: str(row[column]) for column in COLUMNS if row.get(column) is not None}
            key = tuple(new.get(name, "") for name in KEY)
            # Submitted before it was evaluated: the submission's row becomes this one.
            submitted = table.pop((*key[:3], "", ""), {}) if any(key[3:]) else {}
            table[key] = {**submitted, **table.get(key, {}), **new}
        _write(path, list(table.values()))


def name_submission(path: Path, about: dict, name: str) -> None:
    """Note which submission a checkpoint made: at its rows, or in a new one where it was never evaluated.

    Args:
        about: values of `COLUMNS` for a new row; its `fingerprint` finds the rows.
    """
    with store.lock(path.parent):
        rows = read(path)
        mine = [row for row in rows if row["fingerprint"] == about["fingerprint"]]
        if not mine:
            mine = [{column: str(about[column]) for column in COLUMNS if about.get(column) is not None}]
            rows += mine
        for row in mine:
            row["submission"] = name
        _write(path, rows)


def score(path: Path, scores: dict[str, tuple[str, str]]) -> list[str]:
    """Write public and private LB scores at the rows of their submissions; returns the names that no row has.

    Args:
        scores: submission name -> (public, private), empty where there is none yet.
    """
    with store.lock(path.parent):
        rows = read(path)
        for row in rows:
            if row["submission"] in scores:
                public, private = scores[row["submission"]]
                row["LB public"], row["LB private"] = public or row["LB public"], private or row["LB private"]
        _write(path, rows)
    return [name for name in scores if all(row["submission"] != name for row in rows)]


def correlations(rows: list[dict]) -> list[dict]:
    """Per data and split, how CV and LB go together over checkpoints; polluted rows do not count.

    Returns:
        `data`, `split`, `n` checkpoints with both, and Pearson's and Spearman's correlation of MAP@25 with each LB
        (None below three checkpoints, or where one of the two does not vary).
    """
    found = []
    for data, split in dict.fromkeys((row["data"], row["split"]) for row in rows):
        both = [row for row in rows if (row["data"], row["split"]) == (data, split) and is_comparable(row)]
        for side in ("LB public", "LB private"):
            pairs = [(float(row["MAP@25"]), float(row[side])) for row in both if row[side]]
            if pairs:
                found.append({"data": data, "split": split, "side": side, "n": len(pairs), **_correlated(pairs)})
    return found


def is_comparable(row: dict) -> bool:
    """Whether the row has a CV that was measured on questions that the checkpoint had not seen."""
    return bool(row["MAP@25"]) and row["lineage"] == lineage.CLEAN


def _correlated(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    cv, lb = zip(*pairs, strict=True)
    if len(pairs) < 3 or len(set(cv)) == 1 or len(set(lb)) == 1:
        return {"pearson": None, "spearman": None}
    return {"pearson": float(pearsonr(cv, lb).statistic), "spearman": float(spearmanr(cv, lb).statistic)}


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
