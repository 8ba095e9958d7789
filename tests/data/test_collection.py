import dataclasses
import json

import pytest
from helpers.tiny_task import make_task, refused

from rounds.artifacts import store
from rounds.artifacts.manifests import EvaluationManifest
from rounds.config import loader
from rounds.data import collection, lineage
from rounds.data.dataset import RetrievalDataset
from rounds.data.splits import Split

PROMPTS = loader.load("tiny-mistral").prompts
SPLIT = Split("v1", {"1", "2", "5"}, {"3", "4"})
LABELS = {"1": ["7", "8", ""], "2": ["7", "", ""], "3": ["8", "9", ""], "4": ["7", "", "10"], "5": ["", "", ""]}


def tiny(tests: int = 2) -> RetrievalDataset:
    return make_task(LABELS, tests=tests)


def write(folder, split: Split = SPLIT, tests: int = 2):
    collection.write(tiny(tests), split, PROMPTS, folder, {"seed": 42})
    return folder


def jsonl(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_round_trip(tmp_path):
    """What `write` made of a task and split, `read` gives back."""
    task = tiny()
    read = collection.read(write(tmp_path / "c"))
    query = {q.id: PROMPTS.query.format(**q.fields) for q in [*task.queries, *task.test_queries]}
    assert (read.folder, read.data, read.split) == (tmp_path / "c", "tiny", "v1")
    assert list(read.passages.items()) == list(task.passages.items())
    assert list(read.validation.items()) == [(key, query[key]) for key in ("3_B", "3_C", "4_B", "4_D")]
    assert list(read.test.items()) == [(each.id, query[each.id]) for each in task.test_queries]
    assert read.qrels == {"3_B": ["8"], "3_C": ["9"], "4_B": ["7"], "4_D": ["10"]}


def test_queries_and_qrels_are_of_the_same_ids(tmp_path):
    """Unlabelled answers are in neither, so every query has a qrel and the other way round."""
    folder = write(tmp_path / "c")
    for side, groups in (("train", "12"), ("validation", "34")):
        ids = [row["_id"] for row in jsonl(folder / f"{side}_queries.jsonl")]
        lines = (folder / f"{side}_qrels.tsv").read_text().splitlines()
        assert lines[0] == "query-id\tcorpus-id\tscore"
        assert [line.split("\t")[0] for line in lines[1:]] == ids
        assert {each.split("_")[0] for each in ids} == set(groups)


def test_unseen_are_the_queries_whose_passage_train_lacks(tmp_path):
    """Train labels 7 and 8, so validation's 9 and 10 are unseen."""
    assert collection.read(write(tmp_path / "c")).unseen == {"3_C", "4_D"}


def test_fine_tuning_rows_are_flag_embedding_s(tmp_path):
    """Rows have `query`, `pos`, `neg` and `prompt` as FlagEmbedding reads them, and the ids behind them."""
    rows = jsonl(write(tmp_path / "c") / "finetune_data.jsonl")
    assert [row["query_id"] for row in rows] == ["1_B", "1_C", "2_B"]
    assert rows[1] == {
        "query": "construct 1\nsubject 1\nquestion 1?\nright 1\nwrong C of 1",
        "pos": ["misconception 8"],
        "neg": [],
        "prompt": PROMPTS.task,
        "query_id": "1_C",
        "question_id": "1",
        "construct": "construct 1",
        "subject": "subject 1",
        "question_digest": lineage.digest("question 1?"),
        "pos_id": ["8"],
    }


def test_questions_are_those_with_labels(tmp_path):
    """Only questions that are trained or evaluated on count in the lineage, each with its text's digest."""
    questions = collection.read(write(tmp_path / "c")).questions
    assert questions["train"] == {each: lineage.digest(f"question {each}?") for each in ("1", "2")}
    assert list(questions["validation"]) == ["3", "4"]


def test_the_split_is_described(tmp_path):
    """`split.json` is what `write` returns."""
    described = collection.write(tiny(), SPLIT, PROMPTS, tmp_path / "c", {})
    assert store.read_json(tmp_path / "c" / "split.json") == described
    assert (described["validation_queries"], described["unseen_share"]) == (4, 0.5)


def test_the_submission_split_has_an_empty_validation(tmp_path):
    """Without validation the collection reads as one with no queries, and all labelled rows train."""
    folder = write(tmp_path / "c", Split("submission", set(LABELS), set()))
    read = collection.read(folder)
    assert (read.validation, read.qrels, read.unseen, read.questions["validation"]) == ({}, {}, set(), {})
    assert len(jsonl(folder / "finetune_data.jsonl")) == 7


def test_data_without_test_queries(tmp_path):
    """Without test.csv there are no test queries."""
    assert collection.read(write(tmp_path / "c", tests=0)).test == {}


def test_two_writes_give_the_same_bytes(tmp_path):
    """Files depend on task, split and prompts only (the manifest adds the seconds that it took)."""
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in set(names) - {"manifest.json"}:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    manifests = [store.read_manifest(folder).with_values(seconds=0) for folder in (one, other)]
    assert manifests[0] == manifests[1]


def test_multi_line_texts_survive(tmp_path):
    """Line breaks and tabs inside texts do not break the files."""
    text = "one\ntwo\tthree\r\n four"
    task = dataclasses.replace(tiny(), passages={"7": text, "8": "b", "9": "c", "10": "d"})
    collection.write(task, SPLIT, PROMPTS, tmp_path / "c", {})
    assert collection.read(tmp_path / "c").passages["7"] == text


@pytest.mark.parametrize(("split", "name"), [("v1", "validation_v1"), ("submission", "submission")])
def test_folder_names(split, name):
    """A collection's folder is called after its split."""
    assert collection.folder_name(split) == name


@pytest.mark.parametrize("prepare", [lambda f: None, lambda f: f.mkdir(), lambda f: f.write_text("a file")])
def test_a_folder_without_a_collection_is_refused(tmp_path, prepare):
    """A folder that is absent, empty or a file is named with the script that makes a collection."""
    prepare(tmp_path / "c")
    with refused(tmp_path / "c", "no collection", "gen_data_for_hn_mine.py"):
        collection.read(tmp_path / "c")


def test_another_artefact_is_refused(tmp_path):
    """A finished artefact of another kind is no collection."""
    with store.writing(tmp_path / "c", EvaluationManifest(config={})):
        pass
    with refused(tmp_path / "c", "no collection"):
        collection.read(tmp_path / "c")


@pytest.mark.parametrize(
    "name",
    [
        "candidate_pool.jsonl",
        "validation_queries.jsonl",
        "test_queries.jsonl",
        "validation_qrels.tsv",
        "train_qrels.tsv",
        "questions.json",
    ],
)
def test_a_missing_file_is_refused(tmp_path, name):
    """A file that somebody deleted is named."""
    folder = write(tmp_path / "c")
    (folder / name).unlink()
    with refused(folder / name, "no such file"):
        collection.read(folder)


@pytest.mark.parametrize("line", ["3_B 8 1", "3_B\t8", "3_B\t8\t1\t1", ""])
def test_broken_qrels_are_refused(tmp_path, line):
    """A line of qrels that is not three columns is named by its number."""
    path = write(tmp_path / "c") / "validation_qrels.tsv"
    path.write_text(f"query-id\tcorpus-id\tscore\n3_B\t8\t1\n{line}\n")
    with refused(f"{path} line 3"):
        collection.read(path.parent)


def test_a_pool_without_ids_is_numbered(tmp_path):
    """FlagEmbedding's pools hold only `text`; their lines count from 0."""
    store.write_jsonl(tmp_path / "pool.jsonl", [{"text": "a"}, {"text": "b"}, {"text": "a"}])
    assert collection.read_pool(tmp_path / "pool.jsonl") == {"0": "a", "1": "b", "2": "a"}


def test_numeric_ids_of_a_pool_are_texts(tmp_path):
    """An `_id` that somebody wrote as a number is the same id."""
    store.write_jsonl(tmp_path / "pool.jsonl", [{"_id": 7, "text": "a"}, {"_id": "8", "text": "b"}])
    assert collection.read_pool(tmp_path / "pool.jsonl") == {"7": "a", "8": "b"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"_id": "7", "text": "a"}, {"_id": 7, "text": "b"}], "repeat"),
        ([{"_id": "1", "text": "a"}, {"text": "b"}], "repeat"),
        ([{"text": "a"}, {"_id": "7"}], "line 2: key 'text'"),
        ([{"text": "a"}, {"text": 5}], "line 2"),
        ([], "empty"),
    ],
    ids=["same id twice", "number is taken", "no text", "text is a number", "empty"],
)
def test_bad_pools_are_refused(tmp_path, rows, says):
    """A pool in which an id repeats or a line has no text is named."""
    path = tmp_path / "pool.jsonl"
    store.write_jsonl(path, rows)
    with refused(path, says):
        collection.read_pool(path)
