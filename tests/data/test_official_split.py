"""Splits `official` and `dev` take their sides from the data's own files of labels, grade by grade."""

import json
from pathlib import Path

import pytest
from helpers.scripts import assert_one_line, call
from helpers.tiny_task import refused

from rounds.data import collection, official_split, splits
from rounds.data.dataset import RetrievalDataset
from rounds.data.loaders import beir

LABELS = {
    "train": "q0\tp0\t1\nq1\tp1\t2\nq2\tp2\t0\nq3\tp3\t1\nq3\tp4\t-1\nq4\tp4\t1\n",
    "test": "q5\tp5\t2\nq5\tp0\t0\nq6\tp6\t0\nq3\tp6\t1\n",
}


def write(folder: Path, **labels: str) -> Path:
    """Write eight queries, eight passages and files of labels."""
    (folder / "qrels").mkdir(parents=True)
    for name, key in (("queries", "q"), ("corpus", "p")):
        rows = [{"_id": f"{key}{n}", "title": f"T{n}", "text": f"{key} text {n}"} for n in range(8)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, text in labels.items():
        (folder / "qrels" / f"{name}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{text}", encoding="utf-8")
    return folder


def test_official_trains_on_train_and_evaluates_test_as_they_are(tmp_path):
    """Test keeps its grades and its query without a relevant passage; a query of both sides is evaluated only."""
    dataset = beir.load(write(tmp_path / "d", **LABELS))
    divided, split, messages = official_split.divide(dataset, "official")
    assert split.validation == {"q5", "q6", "q3"} and split.train == {"q0", "q1", "q4"}
    assert divided.grades["q3"] == {"p6": 1} and divided.qrels["q6"] == []
    assert divided.grades["q5"] == {"p5": 2, "p0": 0} and divided.qrels["q5"] == ["p5"]
    assert messages == ["1 training queries are evaluated too; they are not trained on"]


def test_drawn_splits_are_over_all_files(tmp_path):
    """v1 to v5 take the labels of all files, and of a pair that is graded twice the higher grade."""
    dataset = beir.load(write(tmp_path / "d", **LABELS, more="q2\tp2\t1\nq1\tp1\t1\n"))
    relevant = {query: set(passages) for query, passages in dataset.qrels.items()}
    singles = {f"q{n}": {f"p{n}"} for n in (0, 1, 2, 4, 5)}
    assert relevant == singles | {"q3": {"p3", "p6"}}
    assert dataset.grades["q1"] == {"p1": 2}


def test_dev_is_its_file_and_test_stays_unseen(tmp_path):
    """`dev` evaluates dev.tsv; no label of test is on either side."""
    dataset = beir.load(write(tmp_path / "d", **LABELS, dev="q7\tp7\t1\n"))
    divided, split, _ = official_split.divide(dataset, "dev")
    assert split.validation == {"q7"} and split.train == {"q0", "q1", "q3", "q4"}
    assert divided.grades["q3"] == {"p3": 1, "p4": -1} and "q5" not in divided.qrels


def test_dev_without_a_file_is_a_fifth_of_train(tmp_path):
    """Equal seeds draw equal fifths, of the queries that train judges; the rest of train trains."""
    train = "".join(f"q{n}\tp{n}\t1\n" for n in range(7))
    dataset = beir.load(write(tmp_path / "d", train=train, test="q7\tp7\t1\n"))
    first, again, other = (official_split.divide(dataset, "dev", seed)[1] for seed in (1, 1, 2))
    assert len(first.validation) == 2 and first.train | first.validation == {f"q{n}" for n in range(7)}
    assert first == again and first != other and not first.train & first.validation


@pytest.mark.parametrize(
    ("version", "labels", "parts"),
    [
        ("official", {"train": LABELS["train"]}, ["no qrels/test.tsv", "there are train"]),
        ("dev", {"test": LABELS["test"]}, ["no qrels/train.tsv", "there are test"]),
        ("dev", {"train": "", "test": LABELS["test"]}, ["train.tsv labels 0 queries", "add qrels/dev.tsv"]),
        ("dev", {"train": "q1\tp1\t1\n"}, ["train.tsv labels 1 queries", "add qrels/dev.tsv"]),
        ("official", {"test": "q1\tp1\t0\n"}, ["no evaluated query has a passage of grade 1"]),
    ],
)
def test_missing_labels_are_one_line(version, labels, parts, tmp_path):
    """The message names the file that the split needs, or says that there is nothing to find."""
    with refused(*parts):
        official_split.divide(beir.load(write(tmp_path / "d", **labels)), version)


def test_other_data_have_no_official_split():
    """Data without files of labels are refused with the splits that they do have."""
    with refused("split official", "only task beir", "v1 to v5"):
        official_split.divide(task := RetrievalDataset("t", [], {}, {}), "official")
    with refused("official", "files of labels"):
        splits.make_split(task, "official")


def test_a_collection_keeps_grades(tmp_path, tiny):
    """Grades are written beside the relevant passages and read back; they are part of the validation's digest."""
    dataset = beir.load(write(tmp_path / "d", **LABELS))
    divided, split, _ = official_split.divide(dataset, "official")
    collection.write(divided, split, tiny.prompts, tmp_path / "c", {})
    data = collection.read(tmp_path / "c")
    assert data.grades == {"q3": {"p6": 1}, "q5": {"p5": 2, "p0": 0}, "q6": {"p6": 0}}
    assert data.qrels == {"q3": ["p6"], "q5": ["p5"], "q6": []}
    qrels = tmp_path / "c" / "validation_qrels.tsv"
    before = data.validation_digest
    qrels.write_text(qrels.read_text(encoding="utf-8").replace("p5\t2", "p5\t3"), encoding="utf-8")
    assert collection.read(tmp_path / "c").validation_digest != before


def test_without_training_labels_only_the_base_model_can_be_measured(tmp_path):
    """The collection has an empty training side, and mining says in one line why it has nothing to do."""
    raw = write(tmp_path / "d", test=LABELS["test"])
    flags = ["--task", "beir", "--raw_dir", raw, "--recipe", "tiny-mistral", "--output_dir", tmp_path / "c"]
    made = call("gen_data_for_hn_mine.py", *flags, "--validation_version", "official")
    assert "0 training queries, 3 validation queries" in made.stdout, made.stderr
    mined = call(
        "hn_mine.py",
        *("--recipe", "tiny-mistral", "--input_file", tmp_path / "c" / "finetune_data.jsonl"),
        *("--output_file", tmp_path / "m.jsonl"),
    )
    assert_one_line(mined, "finetune_data.jsonl", "holds no training queries", "ROUND=0")
