"""Ledger: one row per evaluated checkpoint, with CV and LB, in `model_output/ledger.csv`.

CV is MAP@25 of rankings, and SCS of recovered prompts.
"""

import csv
import math
from pathlib import Path

import pandas as pd
from scipy.stats import pearsonr, spearmanr

from rounds.artifacts import store
from rounds.data import lineage
from rounds.errors import UserError

KEY = ["data", "split", "fingerprint", "lineage", "validation"]

COLUMNS = [
    *("data", "split", "recipe", "round", "epoch", "label", "lineage"),
    *("MAP@25", "Recall@25", "MAP@25 seen", "MAP@25 unseen", "queries"),
    *("LB public", "LB private", "submission"),
    *("precision", "checkpoint", "weights", "fingerprint", "validation"),
]

# Columns of prompt recovery, which a ledger without such rows lacks. Scores by two embedders do not compare, so each
# embedder has a row of its own.
PROMPT_COLUMNS = ["SCS", "exact", "embedder"]

SCORES = ("MAP@25", "SCS", "LB public", "LB private")

NEW_LEDGER = "move the file away to start a new ledger"

MIN_CHECKPOINTS = 3  # for a correlation

REPLACED = " (replaced)"  # behind the name of a scored submission whose file another checkpoint wrote since


def record(path: Path, rows: list[dict]) -> None:
    """Add rows, or update the rows of the same checkpoint, split and precision; their LB columns are kept.

    Args:
        path: the ledger; it is created if it does not exist.
        rows: values by column, of `PROMPT_COLUMNS` too; keys that are no columns are ignored.
    """
    with store.lock(path.parent):
        ledger = {_key(row): row for row in read(path)}
        for row in rows:
            values = _cells(row)
            key = _key(values)
            # A checkpoint that was submitted before it was evaluated has a row without lineage and validation.
            submitted = ledger.pop((*key[:3], "", "", ""), {}) if any(key[3:]) else {}
            ledger[key] = {**submitted, **ledger.get(key, {}), **values}
        _write(path, list(ledger.values()))


def name_submission(path: Path, checkpoint: dict, submission: str) -> None:
    """Write the name of a submission into its checkpoint's rows, or into a new row if it was never evaluated.

    Another checkpoint that wrote a file of this name before must not get the new file's score: it gives the name up,
    and keeps it with `REPLACED` behind it where it was scored.

    Args:
        path: the ledger.
        checkpoint: values by column for a new row; existing rows are found by its `data` and `fingerprint`.
        submission: the submission's name.
    """
    with store.lock(path.parent):
        rows = read(path)
        about = (checkpoint["data"], checkpoint["fingerprint"])
        checkpoint_rows = [row for row in rows if (row["data"], row["fingerprint"]) == about]
        for row in rows:
            if row["submission"] == submission and row not in checkpoint_rows:
                row["submission"] = f"{submission}{REPLACED}" if row["LB public"] or row["LB private"] else ""
        if not checkpoint_rows:
            checkpoint_rows = [_cells(checkpoint)]
            rows += checkpoint_rows
        for row in checkpoint_rows:
            row["submission"] = submission
        _write(path, rows)


def score(path: Path, scores: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Write public and private LB scores into the rows of their submissions.

    Scores that a file got before another checkpoint replaced it stay with the checkpoint that wrote it then. They are
    known by being equal to those in its row, so a checkpoint that got the very same ones has none until it gets others.

    Args:
        path: the ledger.
        scores: submission name -> (public, private); an empty score leaves the row's score as it is.

    Returns:
        what there is to say, by submission: that no row has its name, or that its scores are of a replaced file.
    """
    remarks = {}
    with store.lock(path.parent):
        rows = read(path)
        for name, (public, private) in scores.items():
            before = [
                row
                for row in rows
                if row["submission"] == f"{name}{REPLACED}"
                and row["LB public"] in ("", public)
                and row["LB private"] in ("", private)
            ]
            scored = before or [row for row in rows if row["submission"] == name]
            for row in scored:
                row["LB public"], row["LB private"] = public or row["LB public"], private or row["LB private"]
            if before:
                remarks[name] = "of the file of this name that another checkpoint has replaced since"
            elif not scored:
                remarks[name] = "no row of the ledger has this name"
        _write(path, rows)
    return remarks


def correlations(rows: list[dict]) -> list[dict]:
    """Correlate CV and LB over the checkpoints of each data set, split and embedder, without polluted rows.

    Args:
        rows: as `read` returns them.

    Returns:
        `data`, `split`, `side` (`LB public` or `LB private`), `n` checkpoints with both scores, and `pearson` and
        `spearman` correlation of the CV with the LB; None below three checkpoints, or if a score does not vary.
    """
    correlated = []
    for group in dict.fromkeys(map(comparison_group, rows)):
        comparable = [row for row in rows if comparison_group(row) == group and is_comparable(row)]
        for side in ("LB public", "LB private"):
            scored = {row["fingerprint"]: row for row in comparable if row[side]}  # each checkpoint once
            pairs = [(float(cv(row)), float(row[side])) for row in scored.values()]
            if pairs:
                about = {"data": group[0], "split": group[1], "side": side, "n": len(pairs)}
                correlated.append({**about, **_correlate(pairs)})
    return correlated


def describe_correlation(correlation: dict) -> str:
    """Return one of the `correlations` as a line.

    >>> describe_correlation({"side": "LB public", "n": 3, "pearson": 0.98765, "spearman": None})
    'CV and LB public of 3 checkpoints: Pearson +0.988, Spearman too few'
    """
    values = {name: correlation[name.lower()] for name in ("Pearson", "Spearman")}
    figures = [f"{name} {'too few' if value is None else format(value, '+.3f')}" for name, value in values.items()]
    return f"CV and {correlation['side']} of {correlation['n']} checkpoints: {', '.join(figures)}"


def comparison_group(row: dict) -> tuple[str, str, str]:
    """Return what rows must share for their scores to compare: data, split and, of prompts, the embedder."""
    return row["data"], row["split"], row.get("embedder", "")


def cv(row: dict) -> str:
    """Return a row's score on validation rows; empty where it has none."""
    return row["MAP@25"] or row.get("SCS", "")


def is_comparable(row: dict) -> bool:
    """Return whether the row has a CV that was measured on questions outside the checkpoint's training."""
    return bool(cv(row)) and row["lineage"] == lineage.CLEAN


def _correlate(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    cv, lb = zip(*pairs, strict=True)
    if len(pairs) < MIN_CHECKPOINTS or len(set(cv)) == 1 or len(set(lb)) == 1:
        return {"pearson": None, "spearman": None}
    return {"pearson": float(pearsonr(cv, lb).statistic), "spearman": float(spearmanr(cv, lb).statistic)}


def _cells(values: dict) -> dict[str, str]:
    """Return the values of the ledger's columns as text, without missing ones."""
    columns = (*COLUMNS, *PROMPT_COLUMNS)
    return {column: str(values[column]) for column in columns if values.get(column) is not None}


def _key(row: dict) -> tuple[str, ...]:
    """Return what tells a row from others."""
    return tuple(row.get(name, "") for name in (*KEY, "embedder"))


def _write(path: Path, rows: list[dict]) -> None:
    table = pd.DataFrame(rows)
    columns = [*COLUMNS, *(column for column in PROMPT_COLUMNS if column in table.columns)]
    user_columns = [column for column in table.columns if column not in columns]  # added by hand, in a spreadsheet
    store.write_text(path, table.reindex(columns=[*columns, *user_columns]).fillna("").to_csv(index=False))


def read(path: Path) -> list[dict]:
    """Read all rows as text; there are none if the file does not exist.

    Raises:
        UserError: the file is not a CSV with the ledger's columns, each once, or a row has too few or too many cells,
            holds a score that is not a number, or is of the same checkpoint, split and precision as another.
    """
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{path}: not a readable CSV; {NEW_LEDGER}") from None
    if missing := [column for column in COLUMNS if column not in header]:
        raise UserError(f"{path}: column {missing[0]} is missing; {NEW_LEDGER}")
    if twice := [name for place, name in enumerate(header) if name and name in header[:place]]:
        raise UserError(f"{path}: column {twice[0]} stands twice; delete one, or {NEW_LEDGER}")
    rows: dict[tuple[str, ...], dict] = {}
    for number, cells in enumerate(lines, 2):
        if not cells:  # an empty line
            continue
        place = f"{path} row {number}"
        if len(cells) != len(header):
            raise UserError(f"{place}: {len(cells)} cells, the header has {len(header)}; put it right, or {NEW_LEDGER}")
        row = dict(zip(header, cells, strict=True))
        key = _key(row)
        if key in rows:
            raise UserError(f"{place}: an earlier row is of the same checkpoint; delete one, or {NEW_LEDGER}")
        _check_scores(row, place)
        rows[key] = row
    return list(rows.values())


def _check_scores(row: dict, place: str) -> None:
    """Refuse a row with a score that `correlations` could not read."""
    for column in SCORES:
        try:
            is_number = not row.get(column) or math.isfinite(float(row[column]))
        except ValueError:
            is_number = False
        if not is_number:
            raise UserError(f"{place}: {column} {row[column]!r} is not a number; put it right, or {NEW_LEDGER}")
