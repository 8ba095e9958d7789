"""Submission file: exact bytes, 25 known ids per row, and refusals that leave no file behind."""

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.kaggle import submission
from rounds.retrieval.run import Run

PASSAGES = {str(number): f"misconception {number}" for number in range(60)}
KEYS = ["70_B", "70_C", "3_A"]


def make_run(keys: list[str] = KEYS, depth: int = 40) -> Run:
    """Return a run in which row n ranks n, n + 1, n + 2, ..."""
    ids = np.array([[str(row + step) for step in range(depth)] for row in range(len(keys))], dtype=object)
    return Run(list(keys), ids, np.linspace(1, 0, ids.size, dtype=np.float32).reshape(ids.shape))


def text(keys: list[str], rows: list[list[str]]) -> str:
    lines = [f"{key},{' '.join(ids)}\n" for key, ids in zip(keys, rows, strict=True)]
    return "QuestionId_Answer,MisconceptionId\n" + "".join(lines)


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample_submission.csv"
    path.write_text(text(KEYS, [["1", "2"]] * 3))
    return path


EXPECTED = text(KEYS, [[str(row + step) for step in range(25)] for row in range(3)])


@pytest.mark.parametrize("order", [KEYS, KEYS[::-1]])
def test_a_submission_byte_for_byte(tmp_path, sample, order):
    """The file holds the sample's keys in the sample's order, 25 ids each, whatever the order of the run."""
    by_key = make_run()
    rows = [by_key.queries.index(key) for key in order]
    run = Run(list(order), by_key.passages[rows], by_key.scores[rows])
    path = tmp_path / "out" / "submission.csv"
    assert submission.write(run, PASSAGES, sample, path) == 3
    assert path.read_bytes() == EXPECTED.encode()
    assert [file.name for file in path.parent.iterdir()] == ["submission.csv"]


def test_a_corpus_below_25_is_refused(tmp_path, sample):
    """A row of 25 distinct ids cannot come from fewer passages."""
    corpus = {str(number): "text" for number in range(3)}
    ids = np.array([["2", "0", "1"]] * 3, dtype=object)
    with refused("submission.csv", "3 passages", "25"):
        submission.write(Run(KEYS, ids, np.zeros((3, 3))), corpus, sample, tmp_path / "submission.csv")


def changed(row: int, place: int, identifier: str) -> Run:
    run = make_run()
    run.passages[row, place] = identifier
    return run


BAD_RUNS = [
    pytest.param(make_run(KEYS[:-1]), "3_A", id="key missing"),
    pytest.param(make_run([*KEYS, "9_D"]), "3 keys", id="key extra"),
    pytest.param(make_run([*KEYS[:-1], "9_D"]), "3_A", id="key replaced"),
    pytest.param(make_run(depth=24), "row 2: 24 distinct ids, 25", id="fewer than 25"),
    pytest.param(changed(1, 24, "5"), "row 3: 24 distinct ids, 25", id="an id repeated"),
    pytest.param(changed(2, 3, "777"), "row 4: id '777'", id="an id unknown"),
    pytest.param(changed(0, 0, ""), "row 2", id="an id empty"),
]


@pytest.mark.parametrize(("run", "says"), BAD_RUNS)
def test_a_refused_submission_leaves_nothing(tmp_path, sample, run, says):
    """On refusal there is neither the file nor a temporary one."""
    with refused(says):
        submission.write(run, PASSAGES, sample, tmp_path / "out" / "submission.csv")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("run", "says"), BAD_RUNS)
def test_a_refused_submission_leaves_the_older_one(tmp_path, sample, run, says):
    """A valid file that was there before is left as it was."""
    path = tmp_path / "out" / "submission.csv"
    submission.write(make_run(), PASSAGES, sample, path)
    with refused(says):
        submission.write(run, PASSAGES, sample, path)
    assert path.read_bytes() == EXPECTED.encode()
    assert [file.name for file in path.parent.iterdir()] == ["submission.csv"]


def test_a_refusal_names_the_submission(tmp_path, sample):
    """A bad row is reported with the path of the submission, not with that of the temporary file."""
    path = tmp_path / "submission.csv"
    with refused(f"{path} row 2"):
        submission.write(make_run(depth=24), PASSAGES, sample, path)


def test_a_sample_with_a_repeated_key_is_refused(tmp_path, sample):
    """No run fits a sample that has one key twice."""
    sample.write_text(text([*KEYS, KEYS[0]], [["1"]] * 4))
    with refused(sample, "4 keys", "3"):
        submission.write(make_run(), PASSAGES, sample, tmp_path / "submission.csv")


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "empty"), ("QuestionId_Answer\n1_A\n", "column MisconceptionId"), ("a,b\n1,2\n", "column QuestionId_Answer")],
)
def test_a_sample_that_is_no_submission_is_refused(tmp_path, sample, content, says):
    """A broken sample_submission.csv is named."""
    sample.write_text(content)
    with refused(sample, says):
        submission.write(make_run(), PASSAGES, sample, tmp_path / "submission.csv")


def test_a_missing_sample_is_refused(tmp_path, sample):
    """A missing sample is named."""
    sample.unlink()
    with refused(sample, "no such file"):
        submission.write(make_run(), PASSAGES, sample, tmp_path / "submission.csv")


GOOD = [[str(row + step) for step in range(25)] for row in range(3)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (text(KEYS[::-1], GOOD[::-1]), "keys or their order"),
        (text(KEYS[:2], GOOD[:2]), "keys or their order"),
        (text([*KEYS, "9_D"], [*GOOD, GOOD[0]]), "keys or their order"),
        (text(["70_B", "70_C", "70_C"], GOOD), "keys or their order"),
        (text(KEYS, [GOOD[0], GOOD[1][:24], GOOD[2]]), "row 3"),
        (text(KEYS, [GOOD[0], [*GOOD[1], "59"], GOOD[2]]), "row 3"),
        (text(KEYS, [GOOD[0], [*GOOD[1][:24], "1"], GOOD[2]]), "row 3"),
        (text(KEYS, [GOOD[0], [*GOOD[1][:24], "99"], GOOD[2]]), "row 3: id '99'"),
        (text(KEYS, [GOOD[0], [*GOOD[1][:24], "nan"], GOOD[2]]), "row 3: id 'nan'"),
        (text(KEYS, [[], GOOD[1], GOOD[2]]), "row 2"),
        (text(KEYS, GOOD).replace(" ", "  ", 1), "row 2"),
        (text(KEYS, GOOD).replace("MisconceptionId", "Misconception"), "column MisconceptionId"),
        ("", "empty"),
    ],
    ids=[
        "wrong order",
        "key missing",
        "key extra",
        "key twice",
        "24 ids",
        "26 ids",
        "id repeated",
        "id unknown",
        "nan",
        "no ids",
        "two blanks",
        "other column",
        "empty file",
    ],
)
def test_bad_files_are_refused(tmp_path, sample, content, says):
    """Each fault is reported with the file, and with the row if it is in a row."""
    path = tmp_path / "submission.csv"
    path.write_text(content)
    with refused(path, says):
        submission.validate(path, sample, PASSAGES)
