import pytest
from helpers.tiny_task import MAPPING, question, refused, write_csv, write_raw

from rounds.config.recipe import QUERY_FIELDS
from rounds.data.loaders import eedi
from rounds.data.loaders.eedi import LABEL_COLUMNS, QUESTION_COLUMNS


def test_only_wrong_answers_become_queries(tmp_path):
    """A question gives one query per wrong answer, in file order, with the id `QuestionId_Answer`."""
    train = [question(9, {"B": "0"}, CorrectAnswer="C"), question(4, {"D": "1"}, CorrectAnswer="A")]
    task = eedi.load(write_raw(tmp_path / "raw", train))
    assert [query.id for query in task.queries] == ["9_A", "9_B", "9_D", "4_B", "4_C", "4_D"]
    assert [query.group for query in task.queries] == ["9"] * 3 + ["4"] * 3


def test_fields_are_those_of_the_row(tmp_path):
    """A query holds its construct, subject, question, the right answer's text and the wrong answer's own."""
    task = eedi.load(write_raw(tmp_path / "raw", [question(9, {"B": "0"}, CorrectAnswer="C")]))
    assert task.queries[1].fields == {
        "construct": "construct 9",
        "subject": "subject 9",
        "question": "question 9?",
        "correct": "answer C of 9",
        "wrong": "answer B of 9",
    }


def test_fields_are_those_that_recipes_may_name(tmp_path):
    """`QUERY_FIELDS`, which recipes are checked against, are the fields that queries have."""
    task = eedi.load(write_raw(tmp_path / "raw"))
    assert {tuple(query.fields) for query in task.queries} == {QUERY_FIELDS}


@pytest.mark.parametrize("empty", ["", " ", "NaN", "nan"])
def test_unlabelled_answers_have_no_qrels(tmp_path, empty):
    """An answer without a misconception id is a query without relevant passages."""
    task = eedi.load(write_raw(tmp_path / "raw", [question(5, {"B": "0", "C": empty, "D": empty})]))
    assert len(task.queries) == 3
    assert task.qrels == {"5_B": ["0"]}


def test_a_label_at_the_right_answer_is_no_label(tmp_path):
    """What the file says about the right answer's misconception concerns no query."""
    task = eedi.load(write_raw(tmp_path / "raw", [question(5, {"A": "1", "B": "0"})]))
    assert task.qrels == {"5_B": ["0"]}


@pytest.mark.parametrize("written", ["2142", "2142.0", " 2142 "])
def test_labels_are_the_mapping_s_ids(tmp_path, written):
    """A label read by way of floats (`2142.0`) is the id 2142."""
    task = eedi.load(write_raw(tmp_path / "raw", [question(5, {"B": written})]))
    assert task.qrels == {"5_B": ["2142"]}


def test_passages_stand_in_id_order(tmp_path):
    """The corpus is in numerical id order, whatever the file's."""
    mapping = [("10", "ten"), ("9", "nine"), ("0", "zero")]
    task = eedi.load(write_raw(tmp_path / "raw", [question(5, {"B": "9"})], mapping))
    assert list(task.passages.items()) == [("0", "zero"), ("9", "nine"), ("10", "ten")]


def test_multi_line_text_survives(tmp_path):
    """Line breaks, commas and quotes inside a cell are part of the text."""
    text = 'Which of "these", if any,\n\nis larger?\n- one\n- two'
    task = eedi.load(write_raw(tmp_path / "raw", [question(5, {"B": "0"}, QuestionText=text)]))
    assert task.queries[0].fields["question"] == text


def test_text_that_looks_like_nothing_survives(tmp_path):
    """Answers such as `NA`, `null` or `1.0` are texts, not missing values or numbers."""
    row = question(5, {"B": "0"}, AnswerBText="NA", AnswerCText="null", AnswerDText="1.0")
    task = eedi.load(write_raw(tmp_path / "raw", [row]))
    assert [query.fields["wrong"] for query in task.queries] == ["NA", "null", "1.0"]


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    """A CSV that a spreadsheet saved as UTF-8 with a byte order mark is read like any other."""
    path = write_raw(tmp_path / "raw") / "train.csv"
    plain = eedi.load(path.parent)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert eedi.load(path.parent) == plain


def test_blanks_around_a_question_id_are_no_part_of_it(tmp_path):
    """Ids end up in space-separated run files, so blanks around a QuestionId do not survive."""
    task = eedi.load(write_raw(tmp_path / "raw", [question(" 5 ", {"B": "0"})]))
    assert (task.queries[0].id, task.queries[0].group) == ("5_B", "5")


def test_test_file_is_optional(tmp_path):
    """Without test.csv there are no test queries."""
    assert eedi.load(write_raw(tmp_path / "raw")).test_queries == []


def test_test_queries_need_no_labels(tmp_path):
    """test.csv has no misconception columns; its wrong answers are the test queries, in file order."""
    task = eedi.load(write_raw(tmp_path / "raw", test=[question(70), question(3, CorrectAnswer="D")]))
    assert [query.id for query in task.test_queries] == ["70_B", "70_C", "70_D", "3_A", "3_B", "3_C"]


def test_an_id_of_two_questions_is_refused(tmp_path):
    """A test question that is in train.csv too is one question; another one of its id would be taken for it."""
    same = write_raw(tmp_path / "same", train=[question(3, {"B": "0"})], test=[question(3)])
    assert [query.group for query in eedi.load(same).test_queries] == ["3"] * 3
    other = question(3, QuestionText="another question")
    raw = write_raw(tmp_path / "raw", train=[question(3, {"B": "0"})], test=[question(2), other])
    with refused(raw / "test.csv", "row 3", "QuestionId 3", "train.csv"):
        eedi.load(raw)


def test_missing_folder_is_refused(tmp_path):
    """A folder that is not there is named, with the files that it must hold."""
    with refused(tmp_path / "none", "no such folder", "train.csv", "misconception_mapping.csv"):
        eedi.load(tmp_path / "none")


@pytest.mark.parametrize("name", ["train.csv", "misconception_mapping.csv"])
def test_missing_file_is_refused(tmp_path, name):
    """A missing file is named."""
    path = write_raw(tmp_path / "raw") / name
    path.unlink()
    with refused(path, "no such file"):
        eedi.load(path.parent)


@pytest.mark.parametrize("name", ["train.csv", "misconception_mapping.csv", "test.csv"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(lambda old: b"", "the file is empty", id="empty"),
        pytest.param(lambda old: old.split(b"\n")[0] + b"\n", "no rows", id="header only"),
        pytest.param(lambda old: old + b"\xff\xfe,\n", "UTF-8", id="not UTF-8"),
        pytest.param(lambda old: old + b'"open', "not a readable", id="open quote"),
        pytest.param(lambda old: old + b"1," * 40 + b"\n", "not a readable", id="a row too long"),
        pytest.param(lambda old: old.rstrip().rpartition(b",")[0] + b"\n", "cells, the header", id="a row too short"),
        pytest.param(lambda old: old.replace(b"Name", b"Id", 1), "appears twice", id="a column twice"),
        pytest.param(lambda old: _widened(old), "not a readable", id="every row longer than the header"),
    ],
)
def test_unreadable_file_is_refused(tmp_path, name, content, says):
    """A file that is no table is named; none of its cells is taken for another column's."""
    path = write_raw(tmp_path / "raw", test=[question(70)]) / name
    path.write_bytes(content(path.read_bytes()))
    with refused(path, says):
        eedi.load(path.parent)


def _widened(table: bytes) -> bytes:
    header, *rows = table.splitlines()
    return b"\n".join([header, *(row + b",1" for row in rows)]) + b"\n"


@pytest.mark.parametrize(
    ("name", "columns", "left_out"),
    [
        *(
            ("train.csv", QUESTION_COLUMNS + LABEL_COLUMNS, c)
            for c in ("QuestionId", "AnswerDText", "MisconceptionDId")
        ),
        *(("test.csv", QUESTION_COLUMNS, column) for column in ("CorrectAnswer", "SubjectName")),
    ],
)
def test_missing_column_is_refused(tmp_path, name, columns, left_out):
    """The first missing column is named with its file."""
    path = write_raw(tmp_path / "raw", test=[question(70)]) / name
    rows = [{key: value for key, value in question(5, {"B": "0"}).items() if key in columns and key != left_out}]
    write_csv(path, rows, [column for column in columns if column != left_out])
    with refused(path, f"column {left_out} is missing"):
        eedi.load(path.parent)


GOOD = question(5, {"B": "0"})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (question("x7"), "QuestionId 'x7'"),
        (question(""), "QuestionId ''"),
        (question("-3"), "QuestionId '-3'"),
        (question("3.5"), "QuestionId '3.5'"),
        (question(5), "QuestionId 5 appears already in row 2"),
        (question(8, CorrectAnswer="E"), "CorrectAnswer 'E'"),
        (question(8, CorrectAnswer="a"), "CorrectAnswer 'a'"),
        (question(8, CorrectAnswer="AB"), "CorrectAnswer 'AB'"),
        (question(8, CorrectAnswer=""), "CorrectAnswer ''"),
    ],
)
@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_bad_question_is_refused(tmp_path, name, bad, says):
    """A bad id or answer letter is named with file and spreadsheet row (the header is row 1)."""
    table = [GOOD, question(6, {"C": "1"}, QuestionText="two\nlines"), bad]
    columns = QUESTION_COLUMNS + (LABEL_COLUMNS if name == "train.csv" else [])
    path = write_raw(tmp_path / "raw") / name
    write_csv(path, [{key: row[key] for key in row if key in columns} for row in table], columns)
    with refused(f"{path} row 4", says):
        eedi.load(path.parent)


def test_rows_are_counted_as_a_spreadsheet_does(tmp_path):
    """An empty line is no question, but it has a number; a cell of two lines has one."""
    folder = write_raw(tmp_path / "raw", [question(6, {"C": "1"}, QuestionText="two\nlines"), question("x")])
    header, rows = (folder / "train.csv").read_text(encoding="utf-8").split("\n", 1)
    (folder / "train.csv").write_text(f"{header}\n\n\n{rows}", encoding="utf-8")
    with refused("train.csv row 5", "QuestionId 'x'"):
        eedi.load(folder)


def test_an_id_of_thousands_of_digits_is_refused(tmp_path):
    """Python itself does not read numbers of more than 4,300 digits."""
    with refused("row 2", "QuestionId"):
        eedi.load(write_raw(tmp_path / "raw", [question("1" * 5000, {"B": "0"})]))


@pytest.mark.parametrize(
    ("letter", "label"),
    [("B", "3"), ("C", "3"), ("D", "3"), *(("B", bad) for bad in ("-1", "one", "0.5", "1.0.0", "2142 0", "²"))],
)
def test_unknown_label_is_refused(tmp_path, letter, label):
    """A label that is not an id of the mapping is named with file, row and column."""
    folder = write_raw(tmp_path / "raw", [GOOD, question(6, {letter: label})])
    with refused(f"{folder / 'train.csv'} row 3", f"Misconception{letter}Id {label!r}", "misconception_mapping.csv"):
        eedi.load(folder)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("0", "Again"), "MisconceptionId 0 appears twice"),
        (("0 ", "Again"), "MisconceptionId 0"),
        (("seven", "Text"), "MisconceptionId 'seven'"),
        (("7.0", "Text"), "MisconceptionId '7.0'"),
        (("", "Text"), "MisconceptionId ''"),
        (("²", "Text"), "MisconceptionId '²'"),
        (("7", ""), "MisconceptionName is empty"),
        (("7", " \n "), "MisconceptionName is empty"),
    ],
)
def test_bad_mapping_is_refused(tmp_path, row, says):
    """A mapping row without a usable id and name is named with file and row."""
    folder = write_raw(tmp_path / "raw", mapping=[*MAPPING.items(), row])
    with refused(f"{folder / 'misconception_mapping.csv'} row {len(MAPPING) + 2}", says):
        eedi.load(folder)


def test_no_labels_at_all_is_refused(tmp_path):
    """A train.csv in which nothing is labelled cannot be trained on."""
    folder = write_raw(tmp_path / "raw", [question(5), question(6, {"A": "0"})])
    with refused(folder / "train.csv", "no wrong answer has a misconception id"):
        eedi.load(folder)


def test_questions_name_their_construct(tmp_path):
    """Split v6 groups questions by ConstructId; a question without any is alone."""
    rows = [question(5, {"B": "0"}), question(6, ConstructId=" 9 "), question(7, ConstructId="")]
    task = eedi.load(write_raw(tmp_path, rows))
    assert task.constructs == {"5": "7", "6": "9", "7": "of question 7"}
