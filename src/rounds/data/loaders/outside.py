"""Load outside questions: wrong answers with their misconceptions from other files than the competition's.

A file is in the long form, a wrong answer in each row, or in the competition's own wide form, a question in each row as
in train.csv. Further columns are ignored; `Source` may say where each row comes from, and `HeldOut` and the columns
beside it which split a model was trained on that labelled it (`mining.pseudo_labels`).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rounds.data.cells import NOT_IN_IDS, is_empty, is_missing, read_name, read_text
from rounds.data.loaders import tables
from rounds.data.loaders.eedi import LABEL_COLUMNS, LETTERS, read_label
from rounds.errors import UserError

SOURCE = "Source"
TEXT_COLUMNS = ("ConstructName", "SubjectName", "QuestionText")
LONG_COLUMNS = (*TEXT_COLUMNS, "CorrectAnswerText", "AnswerText", "MisconceptionId")
WIDE_COLUMNS = (*TEXT_COLUMNS, "CorrectAnswer", *(f"Answer{letter}Text" for letter in LETTERS), *LABEL_COLUMNS)


LABELLED_FOR = ("Data", "Split", "Seed", "Fold", "HeldOut")  # columns of pseudo-labels


@dataclass(frozen=True)
class LabelledFor:
    """The split that a pseudo-label was made for, by a model that was trained on its training side.

    Attributes:
        data: name of the raw data.
        split, seed, fold: of the split.
        held_out: digest of the split's validation questions (`lineage.questions_digest`).
    """

    data: str
    split: str
    seed: str
    fold: str
    held_out: str


@dataclass(frozen=True)
class OutsideRow:
    """A wrong answer of an outside question.

    Attributes:
        file, row: where it stands.
        source: where it comes from: its cell in `Source`, without blanks, or the file's name without its suffix.
        fields: the parts of a query, as a `Query` of the competition has them.
        label: id of its misconception.
        labelled_for: the split of a pseudo-label; None where nothing says that a model of ours labelled the row.
    """

    file: str
    row: int
    source: str
    fields: dict[str, str]
    label: str
    labelled_for: LabelledFor | None = None

    @property
    def place(self) -> str:
        """The file and row, as messages name them."""
        return f"{self.file} row {self.row}"


def load(files: Sequence[Path], passages: Collection[str]) -> list[OutsideRow]:
    """Read CSV, JSONL or parquet files of outside questions, in order.

    Args:
        passages: ids of the corpus, one of which each label must be.

    Raises:
        UserError: a file is missing, broken or without rows, lacks a column, has an empty question or answer or an
            unknown misconception, or labels no wrong answer. The message names file and row (a CSV's header is row 1).
    """
    rows = []
    for file in files:
        labelled = [
            row for number, record in tables.read_numbered(file) for row in _read(file, number, record, passages)
        ]
        if not labelled:
            raise UserError(f"{file}: no wrong answer has a misconception id")
        rows += labelled
    return rows


def _read(file: Path, number: int, record: dict, passages: Collection[str]) -> Iterator[OutsideRow]:
    """Yield the labelled wrong answers of a row."""
    place = f"{file} row {number}"
    is_wide = "CorrectAnswer" in record and "CorrectAnswerText" not in record
    missing = [column for column in (WIDE_COLUMNS if is_wide else LONG_COLUMNS) if column not in record]
    if missing:
        found = ", ".join(map(str, list(record)[:20]))
        raise UserError(f"{place}: column {missing[0]} is missing (found: {found})")
    source, labelled_for = _read_source(record.get(SOURCE), file, place), _read_labelled_for(record, place)
    shared = {
        "construct": _read_topic(record["ConstructName"], place, "ConstructName"),
        "subject": _read_topic(record["SubjectName"], place, "SubjectName"),
        "question": read_text(record["QuestionText"], place, "QuestionText"),
    }
    for correct, wrong, column in _answers(record, place) if is_wide else [LONG_COLUMNS[3:]]:
        label = None
        if not is_empty(record[column]):
            label = read_label(read_name(record[column], place, column), f"{place}: {column}", passages)
        if label is None and is_wide:  # as in train.csv, a wrong answer may have no label
            continue
        if label is None:
            raise UserError(f"{place}: column {column} is empty")
        answers = {
            "correct": read_name(record[correct], place, correct),
            "wrong": read_name(record[wrong], place, wrong),
        }
        yield OutsideRow(str(file), number, source, {**shared, **answers}, label, labelled_for)


def _answers(record: dict, place: str) -> list[tuple[str, str, str]]:
    """Return the columns of each wrong answer in the wide form: the correct answer, the wrong one and its label."""
    correct = record["CorrectAnswer"]
    if correct not in list(LETTERS):
        raise UserError(f"{place}: CorrectAnswer {correct!r} is not one of {', '.join(LETTERS)}")
    wrong = [letter for letter in LETTERS if letter != correct]
    return [(f"Answer{correct}Text", f"Answer{letter}Text", f"Misconception{letter}Id") for letter in wrong]


def _read_topic(value: object, place: str, column: str) -> str:
    """Return a construct or subject, which may be empty."""
    return "" if is_missing(value) else read_text(value, place, column)


def _read_source(value: object, file: Path, place: str) -> str:
    """Return a source as a part of ids, which hold no blanks."""
    return NOT_IN_IDS.sub("_", file.stem if is_missing(value) else read_name(value, place, SOURCE).strip())


def _read_labelled_for(record: dict, place: str) -> LabelledFor | None:
    """Return the split of a pseudo-label; None without a cell in `HeldOut`."""
    if is_missing(record.get(LABELLED_FOR[-1])):
        return None
    return LabelledFor(*(read_name(record.get(column), place, column) for column in LABELLED_FOR))
