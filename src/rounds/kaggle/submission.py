"""Submission file: a CSV with 25 ids per row, checked against sample_submission.csv before it is in place."""

from pathlib import Path

import pandas as pd

from rounds.artifacts import store
from rounds.data.loaders import eedi
from rounds.errors import UserError
from rounds.retrieval.run import Run

DEPTH = 25

COLUMNS = ["QuestionId_Answer", "MisconceptionId"]


def write(run: Run, passages: dict[str, str], sample: Path, path: Path) -> int:
    """Write the submission and return its number of rows.

    Args:
        run: The rankings of the test queries, at least 25 deep.
        passages: The corpus, id -> text.
        sample: The competition's sample_submission.csv, which gives keys and order.
        path: The CSV to write.

    Raises:
        UserError: The queries of the run differ from the sample's keys, or a row does not hold 25 distinct ids of the
            corpus. What was at `path` before is left as it is.
    """
    expected = eedi.read_table(sample, COLUMNS)[COLUMNS[0]].tolist()
    rows = {query: run.passages[row, :DEPTH].tolist() for row, query in enumerate(run.queries)}
    missing = [key for key in expected if key not in rows]
    if missing or len(rows) != len(expected):
        raise UserError(
            f"{sample}: {len(expected)} keys, the test queries are {len(rows)}"
            + (f"; {missing[0]} has no ranking" if missing else "")
        )
    table = pd.DataFrame({COLUMNS[0]: expected, COLUMNS[1]: [" ".join(rows[key]) for key in expected]})
    path.parent.mkdir(parents=True, exist_ok=True)
    with store.replacing(path) as temporary:
        table.to_csv(temporary, index=False)
        validate(temporary, sample, passages, str(path))
    return len(table)


def validate(path: Path, sample: Path, passages: dict[str, str], name: str | None = None) -> None:
    """Check that a submission file has the sample's keys in its order, and 25 distinct ids of the corpus per row.

    Args:
        path: The submission file.
        sample: The competition's sample_submission.csv.
        passages: The corpus, id -> text.
        name: The file's name in errors; default: its path.

    Raises:
        UserError: The file is not a valid submission; the message names the row.
    """
    name = name or str(path)
    expected = eedi.read_table(sample, COLUMNS)[COLUMNS[0]].tolist()
    table = eedi.read_table(path, COLUMNS)
    if table[COLUMNS[0]].tolist() != expected:
        raise UserError(f"{name}: keys or their order differ from {sample}")
    if len(passages) < DEPTH:
        raise UserError(f"{name}: the corpus has {len(passages)} passages, {DEPTH} are needed for a row")
    for row, ids in table[COLUMNS[1]].str.split(" ").items():
        if len(ids) != DEPTH or len(set(ids)) != DEPTH:
            raise UserError(f"{name} row {row}: {len(set(ids))} distinct ids, {DEPTH} are needed")
        unknown = [identifier for identifier in ids if identifier not in passages]
        if unknown:
            raise UserError(f"{name} row {row}: id {unknown[0]!r} is not in misconception_mapping.csv")
