"""Competition CSVs of *Eedi: Mining Misconceptions in Mathematics* -> `Task`.

Schema: https://www.kaggle.com/competitions/eedi-mining-misconceptions-in-mathematics/data
"""

from pathlib import Path

import pandas as pd

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.eedi_schema import FILES
from rounds.errors import UserError

LETTERS = "ABCD"

QUESTION_COLUMNS = [
    "QuestionId", "ConstructId", "ConstructName", "SubjectId", "SubjectName", "CorrectAnswer", "QuestionText",
    *(f"Answer{letter}Text" for letter in LETTERS),
]  # fmt: skip

LABEL_COLUMNS = [f"Misconception{letter}Id" for letter in LETTERS]


def load(folder: Path) -> RetrievalDataset:
    """Read train.csv, misconception_mapping.csv and, where it is there, test.csv.

    Raises:
        UserError: a missing or empty file, a missing column, a bad id, an answer letter outside A-D or a
            duplicate QuestionId; the line names file and row (the header is row 1).
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; RAW must hold {', '.join(FILES)}")
    passages = _read_passages(folder / "misconception_mapping.csv")
    train = read_table(folder / "train.csv", QUESTION_COLUMNS + LABEL_COLUMNS)
    train = _check_questions(folder / "train.csv", train)
    queries, qrels = [], {}
    for row, record in enumerate(train.to_dict("records"), 2):
        for letter, query in _queries(record):
            queries.append(query)
            label = _label(record[f"Misconception{letter}Id"], folder / "train.csv", row, letter, passages)
            if label is not None:
                qrels[query.id] = [label]
    if not qrels:
        raise UserError(f"{folder / 'train.csv'}: no wrong answer has a misconception id")
    return RetrievalDataset(folder.name, queries, passages, qrels, _read_test(folder / "test.csv"))


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV as strings, checked for being there, not empty, and having `columns`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable UTF-8 CSV ({str(error).splitlines()[0]})") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: not a readable UTF-8 CSV (rows have more cells than the header)")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: column {missing[0]} is missing (found: {', '.join(table.columns[:20])})")
    if table.empty:
        raise UserError(f"{path}: has a header but no rows")
    return table


def _read_test(path: Path) -> list[Query]:
    if not path.is_file():
        return []
    table = read_table(path, QUESTION_COLUMNS)
    table = _check_questions(path, table)
    return [query for record in table.to_dict("records") for _, query in _queries(record)]


def _read_passages(path: Path) -> dict[str, str]:
    table = read_table(path, ["MisconceptionId", "MisconceptionName"])
    passages: dict[int, str] = {}
    for row, (identifier, text) in enumerate(zip(table["MisconceptionId"], table["MisconceptionName"], strict=True), 2):
        if not _is_number(identifier.strip()):
            raise UserError(f"{path} row {row}: MisconceptionId {identifier!r} is not a whole number")
        if int(identifier) in passages:
            raise UserError(f"{path} row {row}: MisconceptionId {identifier} appears twice")
        if not text.strip():
            raise UserError(f"{path} row {row}: MisconceptionName is empty")
        passages[int(identifier)] = text
    return {str(identifier): passages[identifier] for identifier in sorted(passages)}


def _check_questions(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table with its QuestionIds stripped, once ids and answer letters are found right."""
    table["QuestionId"] = table["QuestionId"].str.strip()
    seen: dict[str, int] = {}
    for row, (identifier, answer) in enumerate(zip(table["QuestionId"], table["CorrectAnswer"], strict=True), 2):
        if not _is_number(identifier):
            raise UserError(f"{path} row {row}: QuestionId {identifier!r} is not a whole number")
        if identifier in seen:
            raise UserError(f"{path} row {row}: QuestionId {identifier} appears already in row {seen[identifier]}")
        if answer not in list(LETTERS):
            raise UserError(f"{path} row {row}: CorrectAnswer {answer!r} is not one of A, B, C, D")
        seen[identifier] = row
    return table


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _queries(record: dict[str, str]) -> list[tuple[str, Query]]:
    """The wrong answers of one question, as (letter, query)."""
    correct = record["CorrectAnswer"]
    shared = {
        "construct": record["ConstructName"],
        "subject": record["SubjectName"],
        "question": record["QuestionText"],
        "correct": record[f"Answer{correct}Text"],
    }
    return [
        (letter, Query(f"{record['QuestionId']}_{letter}", record["QuestionId"],
                       {**shared, "wrong": record[f"Answer{letter}Text"]}))
        for letter in LETTERS
        if letter != correct
    ]  # fmt: skip


def _label(value: str, path: Path, row: int, letter: str, passages: dict[str, str]) -> str | None:
    """`2142.0` -> `2142`; empty or NaN -> None."""
    value = value.strip()
    if value in ("", "nan", "NaN"):
        return None
    whole = value.removesuffix(".0")
    if not _is_number(whole) or str(int(whole)) not in passages:
        raise UserError(f"{path} row {row}: Misconception{letter}Id {value!r} is not in misconception_mapping.csv")
    return str(int(whole))
