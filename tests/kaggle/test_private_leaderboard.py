"""Private leaderboard: held-out questions that no other stage sees, and one score per submission name."""

import csv
import shutil

import pandas as pd
import pytest
from helpers.tiny_task import refused

from rounds.artifacts import hashing
from rounds.data.loaders import eedi
from rounds.data.synthetic import maths
from rounds.evaluation import ledger
from rounds.kaggle import private_leaderboard

SUBMISSION = "tiny-v1-round1"


@pytest.fixture(scope="module")
def own_raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "tiny"
    folder.mkdir()
    maths.generate(folder, questions=300, test_questions=8, seed=0)
    return folder


@pytest.fixture
def held(own_raw, tmp_path):
    folder = tmp_path / "private-tiny"
    return folder, private_leaderboard.hold_out(own_raw, folder, 0.2, 0.5, 42)


def solution(folder) -> list[dict[str, str]]:
    with open(private_leaderboard.solution_of(folder), newline="") as file:
        return list(csv.DictReader(file))


def submit(folder, tmp_path, place: int = 0):
    """Write a submission that ranks the right label at `place` (from 0) in each row."""
    labels = {row["QuestionId_Answer"]: row["MisconceptionId"] for row in solution(folder)}
    ids = list(eedi.load(folder).passages)
    path = tmp_path / f"{SUBMISSION}.csv"
    with open(folder / "sample_submission.csv", newline="") as given, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["QuestionId_Answer", "MisconceptionId"])
        for row in csv.DictReader(given):
            label = labels.get(row["QuestionId_Answer"], ids[0])
            others = [identifier for identifier in ids if identifier != label]
            writer.writerow([row["QuestionId_Answer"], " ".join([*others[:place], label, *others[place:24]])])
    return path


def test_no_held_out_question_is_left_in_train(held, own_raw):
    """train.csv and test.csv divide the questions; test.csv has no labels; the folder loads as competition data."""
    folder, counts = held
    task, whole = eedi.load(folder), eedi.load(own_raw)
    train, test = ({query.group for query in queries} for queries in (task.queries, task.test_queries))
    assert not train & test and train | test == {query.group for query in whole.queries}
    assert len(test) == counts.questions
    assert "Misconception" not in (folder / "test.csv").read_text().splitlines()[0]
    assert not list(folder.rglob("*solution*")) and private_leaderboard.solution_of(folder).parent.name == "solutions"


def test_the_unseen_share_is_the_one_asked_for(held, own_raw):
    """This share of the labelled held-out rows has a misconception that is no label in the rest of train."""
    folder, counts = held
    labels = {row["MisconceptionId"] for row in solution(folder)}
    known = {label for relevant in eedi.load(folder).qrels.values() for label in relevant}
    unseen = [row for row in solution(folder) if row["MisconceptionId"] not in known]
    assert len(unseen) == counts.unseen_rows and labels
    assert abs(len(unseen) / counts.rows - 0.5) <= 0.03
    assert abs(counts.rows / len(eedi.load(own_raw).qrels) - 0.2) <= 0.05
    assert all(
        eedi.load(own_raw).qrels[row["QuestionId_Answer"]] == [row["MisconceptionId"]] for row in solution(folder)
    )


def test_public_and_private_rows_share_no_question(held):
    """The rows of a question are on one side, and the public side is the smaller one."""
    sides = {"Public": set(), "Private": set()}
    for row in solution(held[0]):
        sides[row["Usage"]].add(row["QuestionId_Answer"].split("_")[0])
    assert not sides["Public"] & sides["Private"] and 0 < len(sides["Public"]) < len(sides["Private"])


def test_a_single_question_is_not_held_out(own_raw, tmp_path, monkeypatch):
    """It would be on one side alone; nothing is written."""
    (question, *_) = {query.group for query in eedi.load(own_raw).queries}
    monkeypatch.setattr(private_leaderboard.splits, "hold_out", lambda *arguments: {question})
    with refused(own_raw, "one labelled question"):
        private_leaderboard.hold_out(own_raw, tmp_path / "private-tiny", 0.2, 0.5, 42)
    assert not list(tmp_path.iterdir())


def test_a_side_without_rows_is_no_score_of_0(held, tmp_path):
    """A solution that an earlier version wrote of few questions may have no public row."""
    folder, path = held[0], tmp_path / "ledger.csv"
    ledger.record(path, [{"data": "t", "split": "v1", "fingerprint": "f", "MAP@25": 0.5, "submission": SUBMISSION}])
    csv_file, file = submit(folder, tmp_path), private_leaderboard.solution_of(folder)
    file.write_text(file.read_text().replace("Public", "Private"))
    with refused(file, "no row is public"):
        private_leaderboard.score(csv_file, folder, path)
    assert not ledger.read(path)[0]["LB private"]


@pytest.mark.parametrize(("place", "expected"), [(0, 1.0), (3, 0.25), (24, 0.04)])
def test_a_score_is_map_at_25(held, tmp_path, place, expected):
    """With one right label per row, the score is its reciprocal rank, and the ledger has it as LB."""
    folder, path = held[0], tmp_path / "ledger.csv"
    ledger.record(path, [{"data": "t", "split": "v1", "fingerprint": "f", "MAP@25": 0.5, "submission": SUBMISSION}])
    scores = private_leaderboard.score(submit(folder, tmp_path, place), folder, path)
    assert scores == {"public": expected, "private": expected}
    assert ledger.read(path)[0]["LB private"] == str(expected)


def test_a_name_is_scored_once(held, tmp_path):
    """A second request is refused with the first score, and so is a submission that the ledger does not name."""
    folder, path = held[0], tmp_path / "ledger.csv"
    csv_file = submit(folder, tmp_path)
    with refused(path, SUBMISSION, "make submit"):
        private_leaderboard.score(csv_file, folder, path)
    ledger.record(path, [{"data": "t", "split": "v1", "fingerprint": "f", "submission": SUBMISSION}])
    private_leaderboard.score(csv_file, folder, path)
    with refused(SUBMISSION, "scored before", "1.0"):
        private_leaderboard.score(csv_file, folder, path)
    ledger.name_submission(path, {"data": "t", "split": "v1", "fingerprint": "another"}, SUBMISSION)
    with refused(SUBMISSION, "scored before", "1.0"):
        private_leaderboard.score(csv_file, folder, path)


def test_a_killed_call_goes_on_with_what_has_no_score(tmp_path):
    """Of a student and its teacher, the one that was scored is left out; both are asked for where both were.

    A ranking under another name than the ledger's, as that of `make best` once it has taught, is left out beside them.
    """
    path, both, best = tmp_path / "ledger.csv", [tmp_path / "a.csv", tmp_path / "a-teacher.csv"], tmp_path / "best.csv"
    with refused(best, "no such file"):
        private_leaderboard.select_unscored([best], path)
    for file in (*both, best):
        file.touch()
    assert private_leaderboard.select_unscored(both, path) == both
    for file in both:
        ledger.record(path, [{"data": "t", "split": "v1", "fingerprint": file.stem, "submission": file.stem}])
    assert private_leaderboard.select_unscored([*both, best], path) == both
    ledger.score(path, {"a": ("0.5", "0.5")})
    assert private_leaderboard.select_unscored(both, path) == both[1:]
    ledger.score(path, {"a-teacher": ("0.6", "0.6")})
    assert private_leaderboard.select_unscored(both, path) == both


def test_a_broken_submission_is_refused_and_not_counted(held, tmp_path):
    """A missing row is named, and the name may still be scored."""
    folder, path = held[0], tmp_path / "ledger.csv"
    ledger.record(path, [{"data": "t", "split": "v1", "fingerprint": "f", "submission": SUBMISSION}])
    csv_file = submit(folder, tmp_path)
    csv_file.write_text("\n".join(csv_file.read_text().splitlines()[:-1]) + "\n")
    with refused(csv_file, "keys or their order"):
        private_leaderboard.score(csv_file, folder, path)
    assert not ledger.read(path)[0]["LB private"]


def test_one_seed_holds_out_the_same_questions(own_raw, held, tmp_path):
    """A finished folder is left as it is, and other settings are refused."""
    folder, counts = held
    again = tmp_path / "other"
    assert private_leaderboard.hold_out(own_raw, again, 0.2, 0.5, 42) == counts
    assert (again / "train.csv").read_bytes() == (folder / "train.csv").read_bytes()
    before = hashing.sha256_file(folder / "manifest.json")
    private_leaderboard.hold_out(own_raw, folder, 0.2, 0.5, 42)
    assert hashing.sha256_file(folder / "manifest.json") == before
    with refused(folder, "unseen: 0.5 -> 0.3"):
        private_leaderboard.hold_out(own_raw, folder, 0.2, 0.3, 42)


def test_labels_never_stand_beside_other_questions(own_raw, held, monkeypatch):
    """A call that is killed between folder and labels leaves no older labels, and the next one makes both."""
    folder, _ = held
    monkeypatch.setattr(private_leaderboard, "_write_solution", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        private_leaderboard.hold_out(own_raw, folder, 0.2, 0.5, 43, overwrite=True)
    assert not private_leaderboard.solution_of(folder).exists()
    monkeypatch.undo()
    private_leaderboard.hold_out(own_raw, folder, 0.2, 0.5, 43)
    with open(folder / "sample_submission.csv", newline="") as file:
        asked = {row["QuestionId_Answer"] for row in csv.DictReader(file)}
    assert {row["QuestionId_Answer"] for row in solution(folder)} <= asked


def test_a_carriage_return_in_a_cell_survives(own_raw, tmp_path):
    """Questions with any line ends are held out as they are."""
    raw = tmp_path / "raw"
    shutil.copytree(own_raw, raw)
    table = pd.read_csv(raw / "train.csv", dtype=str, keep_default_na=False)
    table["QuestionText"] += "\r"
    table.to_csv(raw / "train.csv", index=False, lineterminator="\r\n")
    private_leaderboard.hold_out(raw, tmp_path / "private", 0.2, 0.5, 42)
    queries = eedi.load(tmp_path / "private")
    assert all("\r" in query.fields["question"] for query in (*queries.queries, *queries.test_queries))


def test_an_impossible_share_is_refused(own_raw, tmp_path):
    """A share out of range is refused, and nothing is written."""
    with refused("0.5"):
        private_leaderboard.hold_out(own_raw, tmp_path / "x", 0.9, 0.5, 42)
    assert not (tmp_path / "x").exists() and not (tmp_path / "solutions").exists()
