"""Load the CSV files of the competition *Eedi: Mining Misconceptions in Mathematics*.

Schema: https://www.kaggle.com/competitions/eedi-mining-misconceptions-in-mathematics/data
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rounds.data.cells import is_missing
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.eedi_schema import FILES
from rounds.data.loaders import tables
from rounds.errors import UserError

LETTERS = "ABCD"

QUESTION_COLUMNS = [
    "QuestionId",
    "ConstructId",
    "ConstructName",
    "SubjectId",
    "SubjectName",
    "CorrectAnswer",
    "QuestionText",
    *(f"Answer{letter}Text" for letter in LETTERS),
]

MAX_DIGITS = 100  # of an id; Python itself refuses to read numbers of some thousand digits

LABEL_COLUMNS = [f"Misconception{letter}Id" for letter in LETTERS]


def load(folder: Path) -> RetrievalDataset:
    """Read train.csv, misconception_mapping.csv and, if there is one, test.csv.

    Raises:
        UserError: a file is missing or empty, a column is missing, an id is bad or repeats, or an answer letter is not
            A to D; or one id is of two questions, in train.csv and in test.csv. The message names file and row (the
            header is row 1).
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; RAW must hold {', '.join(FILES)}")
    passages = _read_passages(folder / "misconception_mapping.csv")
    file = folder / "train.csv"
    train = _check_questions(file, read_table(file, QUESTION_COLUMNS + LABEL_COLUMNS))
    queries, qrels = [], {}
    for row, record in zip(train.index, train.to_dict("records"), strict=True):
        for letter, query in _queries(record):
            queries.append(query)
            column = f"Misconception{letter}Id"
            label = read_label(record[column], f"{file} row {row}: {column}", passages)
            if label is not None:
                qrels[query.id] = [label]
    if not qrels:
        raise UserError(f"{file}: no wrong answer has a misconception id")
    constructs = {record["QuestionId"]: _construct(record) for record in train.to_dict("records")}
    tests = _read_test(folder / "test.csv", {query.id: query for query in queries})
    return RetrievalDataset(folder.name, queries, passages, qrels, tests, constructs=constructs)


def _construct(record: dict[str, str]) -> str:
    """Return a question's ConstructId; one without any is a construct of its own."""
    return record["ConstructId"].strip() or f"of question {record['QuestionId']}"


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV file with all cells as strings, by the number of their row (the header is row 1).

    Raises:
        UserError: the file is missing, empty or broken, or lacks one of `columns`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        header, rows = tables.read_csv(path)
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: {reason}" if reason == tables.EMPTY else f"{path}: not a readable UTF-8 CSV ({reason})"
        ) from None
    numbers = [number for number, _ in rows]
    table = pd.DataFrame([cells for _, cells in rows], index=numbers, columns=header, dtype=str)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: column {missing[0]} is missing (found: {', '.join(table.columns[:20])})")
    if table.empty:
        raise UserError(f"{path}: has a header but no rows")
    return table


def _read_test(path: Path, train: Mapping[str, Query]) -> list[Query]:
    """Return the test queries; an id that train.csv has must be of the same question, since ids tell queries apart."""
    if not path.is_file():
        return []
    table = _check_questions(path, read_table(path, QUESTION_COLUMNS))
    tests = []
    for row, record in zip(table.index, table.to_dict("records"), strict=True):
        for _, query in _queries(record):
            if train.get(query.id, query).fields["question"] != query.fields["question"]:
                raise UserError(
                    f"{path} row {row}: QuestionId {query.group} is another question in train.csv; give the test "
                    "questions ids of their own"
                )
            tests.append(query)
    return tests


def _read_passages(path: Path) -> dict[str, str]:
    table = read_table(path, ["MisconceptionId", "MisconceptionName"])
    passages: dict[int, str] = {}
    for row, identifier, text in table[["MisconceptionId", "MisconceptionName"]].itertuples():
        if not _is_number(identifier.strip()):
            raise UserError(f"{path} row {row}: MisconceptionId {identifier!r} is not a whole number")
        if int(identifier) in passages:
            raise UserError(f"{path} row {row}: MisconceptionId {identifier} appears twice")
        if not text.strip():
            raise UserError(f"{path} row {row}: MisconceptionName is empty")
        passages[int(identifier)] = text
    return {str(identifier): passages[identifier] for identifier in sorted(passages)}


def _check_questions(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Check ids and answer letters; return the table with white space around its QuestionIds removed."""
    table["QuestionId"] = table["QuestionId"].str.strip()
    first_rows: dict[str, int] = {}
    for row, identifier, answer in table[["QuestionId", "CorrectAnswer"]].itertuples():
        if not _is_number(identifier):
            raise UserError(f"{path} row {row}: QuestionId {identifier!r} is not a whole number")
        if identifier in first_rows:
            raise UserError(
                f"{path} row {row}: QuestionId {identifier} appears already in row {first_rows[identifier]}"
            )
        if answer not in list(LETTERS):
            raise UserError(f"{path} row {row}: CorrectAnswer {answer!r} is not one of A, B, C, D")
        first_rows[identifier] = row
    return table


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def _queries(record: dict[str, str]) -> list[tuple[str, Query]]:
    """Return the wrong answers of one question, each as letter and query."""
    correct, identifier = record["CorrectAnswer"], record["QuestionId"]
    shared = {
        "construct": record["ConstructName"],
        "subject": record["SubjectName"],
        "question": record["QuestionText"],
        "correct": record[f"Answer{correct}Text"],
    }
    return [
        (letter, Query(f"{identifier}_{letter}", identifier, {**shared, "wrong": record[f"Answer{letter}Text"]}))
        for letter in LETTERS
        if letter != correct
    ]


def read_label(value: str, place: str, passages: Mapping[str, str]) -> str | None:
    """Return a misconception id without its decimals (`2142.0` -> `2142`), or None for an empty cell or NaN.

    Raises:
        UserError: the id is in no row of misconception_mapping.csv.
    """
    if is_missing(value):
        return None
    value = value.strip()
    whole = value.removesuffix(".0")
    if not _is_number(whole) or str(int(whole)) not in passages:
        raise UserError(f"{place} {value!r} is not in misconception_mapping.csv")
    return str(int(whole))
