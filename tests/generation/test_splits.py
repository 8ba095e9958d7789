"""Splits of rows: v6 never has a prompt on both sides, and its folds cover all rows; the impossible is refused."""

import json

import pytest
from helpers.tiny_task import refused

from rounds.artifacts.prompt_manifests import PromptSplitManifest
from rounds.errors import Refused
from rounds.generation import raw, rows, splits
from rounds.generation.rows import PromptRow, Split

# Every prompt stands in three rows, each time in other case and white space.
PROMPTS = [form.format(number) for number in range(8) for form in ("Do thing {}", "do  thing {}", " DO thing {}\n")]
ROWS = [PromptRow(f"r{place}", f"a {place}", f"b {place}", prompt) for place, prompt in enumerate(PROMPTS)]


def ids(side):
    return {row.id for row in side}


def test_split_by_prompt_has_no_prompt_on_both_sides():
    """All forms of a prompt stand on one side, and the four folds validate each row once."""
    folds = [splits.divide(ROWS, [], "v6", fold=fold) for fold in range(4)]
    assert all(rows.shared_prompts(fold) == [] for fold in folds)
    assert sorted(identifier for fold in folds for identifier in ids(fold.validation)) == sorted(ids(ROWS))
    assert all(ids(fold.train) == ids(ROWS) - ids(fold.validation) for fold in folds)


def test_random_split_shares_prompts():
    """v1 draws rows, so that prompts of training are asked for again; equal seeds draw equal rows."""
    split = splits.divide(ROWS, [], "v1", seed=1)
    assert rows.shared_prompts(split) and len(split.validation) == 8
    assert split == splits.divide(ROWS, [], "v1", seed=1) != splits.divide(ROWS, [], "v1", seed=2)


def test_rows_with_one_prompt_are_divided_by_row_alone():
    """Split v1 needs no second prompt; split v6 names it as the way out."""
    same = [PromptRow(row.id, row.original_text, row.rewritten_text, "Sing.") for row in ROWS]
    assert len(rows.shared_prompts(splits.divide(same, [], "v1"))) == 8
    with refused("24 rows with 1 different prompts are too few for split v6", "take SPLIT=v1"):
        splits.divide(same, [], "v6")


def test_rows_that_repeat_a_training_row_are_counted():
    """Their texts decide, not their ids or prompts; white space does not matter."""
    train = [PromptRow("1", "a  b", "c", "Sing."), PromptRow("2", "x", "y", "Sing.")]
    held_out = [PromptRow("3", "a b", "c\n", "Shout."), PromptRow("4", "a b", "y", "Sing.")]
    assert rows.repeated_texts(Split(train, held_out)) == held_out[:1]


def test_submission_trains_on_everything():
    """No row is held out, and the test rows are there."""
    assert splits.divide(ROWS, ROWS[:1], "submission") == Split(ROWS, [], ROWS[:1])


@pytest.mark.parametrize(
    ("number", "version", "fold", "message"),
    [
        (24, "v5", 0, "'v5' is not one of"),
        (24, "v6", 4, "folds 0 to 3"),
        (24, "v1", 1, "only split v6"),
        (3, "v1", 0, "too few"),
    ],
)
def test_impossible_splits_are_refused(number, version, fold, message):
    """An unknown split or fold and too few rows are named in one line."""
    with refused(message):
        splits.divide(ROWS[:number], [], version, fold=fold)


def test_a_prompt_on_both_sides_is_refused(tmp_path):
    """A split by prompt that was changed afterwards is not read."""
    split = Split(ROWS[:1], [PromptRow("x", "a", "b", "DO THING 0")], [])
    for version in ("v1", "v6"):
        rows.write_split(split, tmp_path / version, PromptSplitManifest(data="d", split=version, config={}))
    assert rows.read_split(tmp_path / "v1") == split
    with pytest.raises(Refused, match="1 of 1 validation rows"):
        rows.read_split(tmp_path / "v6")


def test_a_folder_may_hold_several_training_files(tmp_path):
    """Rows of all files train, but for test rows and the sample submission; an id in two files is refused."""
    for name, row in (("train", ROWS[0]), ("more", ROWS[1])):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(vars(row)) + "\n")
    (tmp_path / "test.csv").write_text("id,original_text,rewritten_text\nt,a,b\n")
    (tmp_path / "sample_submission.csv").write_text("id,rewrite_prompt\nt,x\n")
    train, test = raw.load(tmp_path)
    assert ids(train) == {"r0", "r1"} and ids(test) == {"t"}
    (tmp_path / "more.jsonl").write_text(json.dumps(vars(ROWS[0])) + "\n")
    with refused("id 'r0' is also in another file"):
        raw.load(tmp_path)


def test_two_files_of_test_rows_are_refused(tmp_path):
    """Neither of them is left out in silence."""
    for name in ("train.csv", "test.csv", "test.jsonl"):
        (tmp_path / name).touch()
    with refused("has test.csv and test.jsonl; leave one"):
        raw.load(tmp_path)


def test_a_folder_without_training_rows_is_refused(tmp_path):
    """Test rows alone are no data, and neither is a path that does not exist."""
    (tmp_path / "test.csv").write_text("id,original_text,rewritten_text\nt,a,b\n")
    with refused("no file of rows with prompts"):
        raw.load(tmp_path)
    with refused("no such file or folder"):
        raw.load(tmp_path / "nowhere")
