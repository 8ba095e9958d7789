import csv
import os

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.evaluation import ledger


def row(**changed) -> dict:
    """What an evaluated checkpoint gives to the ledger; keys without a column are allowed."""
    base = {
        "data": "raw",
        "split": "v1",
        "recipe": "minilm",
        "round": 1,
        "epoch": 2,
        "label": "last",
        "lineage": "clean",
        "MAP@25": 0.25,
        "Recall@25": 0.75,
        "MAP@25 seen": 0.3,
        "MAP@25 unseen": None,
        "MRR@5": 0.2,
        "queries": 100,
        "precision": "fp32",
        "checkpoint": "round_1/epoch_2",
        "weights": "abc",
        "fingerprint": "abc",
        "validation": "123",
    }
    return {**base, **changed}


def fill_in(path, **values) -> None:
    """What a user does in a spreadsheet: set cells of the first row."""
    rows = ledger.read(path)
    rows[0].update(values)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model_output" / "ledger.csv"


def test_no_ledger_has_no_rows(path):
    """Where there is no file there are no rows, and reading makes none."""
    assert ledger.read(path) == []
    assert not path.exists()


def test_a_row_is_kept_as_strings_under_the_columns(path):
    """A row has every column, values as text, empty where there is none."""
    ledger.record(path, [row()])
    (found,) = ledger.read(path)
    assert list(found) == ledger.COLUMNS
    assert (found["MAP@25"], found["round"], found["MAP@25 unseen"], found["LB public"]) == ("0.25", "1", "", "")


def test_the_same_checkpoint_again_is_the_same_row(path):
    """Evaluating again brings the row up to date instead of adding one."""
    ledger.record(path, [row()])
    ledger.record(path, [row(**{"MAP@25": 0.26, "label": "last, best"})])
    (found,) = ledger.read(path)
    assert (found["MAP@25"], found["label"]) == ("0.26", "last, best")


def test_the_same_checkpoint_twice_at_once_is_one_row(path):
    """Rows of one call fall together like those of two."""
    ledger.record(path, [row(), row(label="best")])
    assert [found["label"] for found in ledger.read(path)] == ["best"]


@pytest.mark.parametrize(
    "changed",
    [{"split": "v2"}, {"lineage": "POLLUTED"}, {"fingerprint": "def"}, {"data": "sample"}, {"validation": "456"}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_key_is_another_row(path, changed):
    """Another split, lineage, model, data or validation set adds a row behind the others."""
    ledger.record(path, [row()])
    ledger.record(path, [row(**changed)])
    first, second = ledger.read(path)
    assert first == ledger.read(path)[0]
    (key,) = changed
    assert (first[key], second[key]) == (row()[key], changed[key])


def test_leaderboard_scores_survive(path):
    """What the user filled in stays when the row is evaluated again and when others come."""
    ledger.record(path, [row()])
    fill_in(path, **{"LB public": "0.319", "LB private": "0.3", "submission": "sub.csv"})
    ledger.record(path, [row(**{"MAP@25": 0.5}), row(fingerprint="def")])
    first, second = ledger.read(path)
    assert (first["LB public"], first["LB private"], first["submission"]) == ("0.319", "0.3", "sub.csv")
    assert first["MAP@25"] == "0.5"
    assert second["LB public"] == ""


def test_a_column_that_stands_twice_is_refused(path):
    """Of two columns of one name, neither is taken for the other."""
    ledger.record(path, [row()])
    header, first = path.read_text(encoding="utf-8").splitlines()
    path.write_text(f"{header},MAP@25\n{first},0.9\n", encoding="utf-8")
    with refused(path, "column MAP@25 stands twice"):
        ledger.read(path)


def test_a_user_s_own_column_survives(path):
    """A column that the user added in a spreadsheet is not thrown away."""
    ledger.record(path, [row()])
    fill_in(path, notes="with more dropout")
    ledger.record(path, [row(fingerprint="def")])
    assert [found.get("notes") for found in ledger.read(path)] == ["with more dropout", ""]


def test_a_submission_is_noted_at_its_checkpoint(path):
    """Every row of the checkpoint names the submission, and no other row."""
    ledger.record(path, [row(), row(split="v2"), row(fingerprint="def")])
    ledger.name_submission(path, row(), "submissions/a.csv")
    assert [found["submission"] for found in ledger.read(path)] == ["submissions/a.csv", "submissions/a.csv", ""]


def test_a_submission_of_a_checkpoint_never_evaluated_makes_a_row(path):
    """A checkpoint that trained on everything has a row for its leaderboard score all the same."""
    about = {"data": "raw", "split": "submission", "fingerprint": "abc", "round": 2}
    ledger.name_submission(path, about, "submissions/a.csv")
    (found,) = ledger.read(path)
    assert (found["submission"], found["split"], found["MAP@25"]) == ("submissions/a.csv", "submission", "")


def test_only_the_ledger_is_left(path):
    """Writing leaves no temporary file."""
    ledger.record(path, [row()])
    assert [name for name in os.listdir(path.parent) if name.endswith(".tmp")] == []


def test_a_score_goes_to_the_checkpoint_that_wrote_the_file_last(tmp_path):
    """Another checkpoint that wrote a file of this name before, and was never scored by it, gives the name up."""
    path = tmp_path / "ledger.csv"
    one, other = ({**row(), "fingerprint": name, "checkpoint": name} for name in ("one", "other"))
    for about in (one, other):
        ledger.name_submission(path, about, "best")
    ledger.score(path, {"best": ("0.4", "0.5")})
    assert [(each["submission"], each["LB private"]) for each in ledger.read(path)] == [("", ""), ("best", "0.5")]


def test_a_score_stays_with_the_checkpoint_that_got_it(tmp_path):
    """After another checkpoint wrote the file, neither its old score nor its new one reaches the wrong checkpoint."""
    path = tmp_path / "ledger.csv"
    one, other = ({**row(), "fingerprint": name, "checkpoint": name} for name in ("one", "other"))
    found, remarks = [], []
    for about, scores in ((one, ("0.40", "")), (other, ("0.40", "0.41")), (other, ("0.50", "0.51")), (one, ("", ""))):
        ledger.name_submission(path, about, "s")
        remarks.append("replaced" in ledger.score(path, {"s": scores}).get("s", ""))
        found.append([(each["submission"], each["LB public"], each["LB private"]) for each in ledger.read(path)])
    assert found == [
        [("s", "0.40", "")],
        [("s (replaced)", "0.40", "0.41"), ("s", "", "")],  # Kaggle knows the old file alone
        [("s (replaced)", "0.40", "0.41"), ("s", "0.50", "0.51")],
        [("s", "0.40", "0.41"), ("s (replaced)", "0.50", "0.51")],
    ]
    assert remarks == [False, True, False, False]


def test_a_submission_is_of_one_data_set(tmp_path):
    """The base model is one checkpoint on all data; its rows of other data have other submissions."""
    path = tmp_path / "ledger.csv"
    ledger.record(path, [row(data="a"), row(data="b")])
    for data in "ab":
        ledger.name_submission(path, row(data=data), f"{data}-s")
    assert [found["submission"] for found in ledger.read(path)] == ["a-s", "b-s"]


@pytest.mark.parametrize(
    "write", [lambda p: ledger.record(p, [row()]), lambda p: ledger.name_submission(p, row(), "s")]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"a,b\n1,2\n", b"data,split\n", b"\xff\xfe\n", b'"open'],
    ids=["empty", "other columns", "some columns", "not UTF-8", "open quote"],
)
def test_a_broken_ledger_is_refused_and_kept(path, write, content):
    """A file that is no ledger is named and not overwritten."""
    path.parent.mkdir()
    path.write_bytes(content)
    with refused(path):
        write(path)
    assert path.read_bytes() == content


def with_lines(path, *lines: str) -> None:
    """Write a ledger of one row, and further lines behind it; `{row}` stands for the row's own line."""
    ledger.record(path, [row()])
    header, first = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line.format(row=first)}\n" for line in (header, first, *lines)), encoding="utf-8")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["<<<<<<< HEAD", "{row}", "=======", "{row}", ">>>>>>> other"], "row 3: 1 cells"),
        (["raw,v1"], "row 3: 2 cells"),
        (["{row},more"], "row 3: 21 cells"),
        (["{row}"], "row 3: an earlier row is of the same checkpoint"),
        (["raw,v2,r,1,2,last,clean,high" + "," * 12], "row 3: MAP@25 'high' is not a number"),
    ],
    ids=["conflict markers", "short row", "long row", "duplicate key", "score in words"],
)
def test_a_ledger_with_a_broken_row_is_refused_and_kept(path, lines, says):
    """A row that is none, or that counts twice, is named before it changes a correlation, and the file is kept."""
    with_lines(path, *lines)
    content = path.read_bytes()
    for use in (ledger.read, lambda p: ledger.record(p, [row()]), lambda p: ledger.score(p, {})):
        with refused(path, says, "move the file away"):
            use(path)
    assert path.read_bytes() == content


def test_a_ledger_from_a_spreadsheet_is_read(path):
    """A byte order mark, Windows line ends and an empty last line change no row."""
    with_lines(path)
    rows = ledger.read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert ledger.read(path) == rows


@pytest.mark.parametrize("first", ["submit", "evaluate"])
def test_cv_and_lb_meet_in_one_row_in_either_order(tmp_path, first):
    """A checkpoint that was submitted before it was evaluated has one row, with both scores."""
    path = tmp_path / "ledger.csv"
    about = {"data": "d", "split": "v1", "fingerprint": "f"}

    def evaluate():
        ledger.record(path, [{**about, "lineage": "clean", "validation": "q", "MAP@25": 0.5}])

    def submit():
        ledger.name_submission(path, about, "s")
        assert list(ledger.score(path, {"s": ("0.4", ""), "t": ("0.1", "0.1")})) == ["t"]

    for step in (submit, evaluate) if first == "submit" else (evaluate, submit):
        step()
    (row,) = ledger.read(path)
    assert (row["MAP@25"], row["LB public"], row["LB private"], row["submission"]) == ("0.5", "0.4", "", "s")


def test_correlation_is_over_clean_checkpoints_of_one_split(tmp_path):
    """Against numpy's; polluted rows and other splits do not count; below three there is none."""
    path = tmp_path / "ledger.csv"
    pairs = [(0.3, 0.2), (0.4, 0.35), (0.5, 0.3), (0.6, 0.5)]
    shared = {"data": "d", "split": "v1", "lineage": "clean", "validation": "q"}
    rows = [
        {**shared, "fingerprint": str(n), "MAP@25": cv, "LB public": lb, "submission": str(n)}
        for n, (cv, lb) in enumerate(pairs)
    ]
    others = [{**rows[0], "fingerprint": "p", "lineage": "POLLUTED", "MAP@25": 0.9}, {**rows[0], "split": "v2"}]
    ledger.record(path, [*rows, *others])
    v1, v2 = ledger.correlations(ledger.read(path))
    assert v1["n"] == 4 and v1["pearson"] == pytest.approx(np.corrcoef(*zip(*pairs, strict=True))[0, 1])
    assert v1["spearman"] == pytest.approx(0.8)
    assert v2["n"] == 1 and v2["pearson"] is None


def test_a_checkpoint_correlates_once(tmp_path):
    """Evaluated again on data that were made anew, it is still one checkpoint."""
    path, shared = tmp_path / "ledger.csv", {"data": "d", "split": "v1", "lineage": "clean", "LB public": 0.5}
    for validation in ("a", "b", "c"):
        ledger.record(path, [{**shared, "fingerprint": "f", "validation": validation, "MAP@25": 0.3}])
    ledger.record(path, [{**shared, "fingerprint": "g", "validation": "c", "MAP@25": 0.4, "LB public": 0.6}])
    (pair,) = ledger.correlations(ledger.read(path))
    assert pair["n"] == 2 and pair["pearson"] is None
