"""Submission: run -> CSV of 25 ids a row, checked against sample_submission.csv before it is in place."""

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
        run: ranks the corpus for each test query, at least 25 deep.
        passages: passage id -> text.
        sample: the competition's sample_submission.csv, which gives keys and order.

    Raises:
        UserError: the run's queries are not the sample's, or a row is not 25 distinct ids of the corpus. Nothing
            is left at `path` then that was not there before.
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
    """Check keys, their order, and 25 distinct ids of the corpus in each row of a submission file.

    Args:
        name: how errors call the file; default: its path.
    """
    name = name or str(path)
    expected = eedi.read_table(sample, COLUMNS)[COLUMNS[0]].tolist()
    table = eedi.read_table(path, COLUMNS)
    if table[COLUMNS[0]].tolist() != expected:
        raise UserError(f"{name}: keys or their order differ from {sample}")
    if len(passages) < DEPTH:
        raise UserError(f"{name}: the corpus has {len(passages)} passages, {DEPTH} are needed for a row")
    for row, ids in enumerate(table[COLUMNS[1]].str.split(" "), 2):
        if len(ids) != DEPTH or len(set(ids)) != DEPTH:
            raise UserError(f"{name} row {row}: {len(set(ids))} distinct ids, {DEPTH} are needed")
        unknown = [each for each in ids if each not in passages]
        if unknown:
            raise UserError(f"{name} row {row}: id {unknown[0]!r} is not in misconception_mapping.csv")
