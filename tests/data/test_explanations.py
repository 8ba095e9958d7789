"""Explanations of misconceptions: what is read of a file, and how they reach the texts of a collection."""

import dataclasses
import json

import pytest
from helpers.tiny_task import MAPPING, make_task, refused, write_raw
from helpers.training import mine

from rounds.config.recipe import Prompts
from rounds.data import collection, splits
from rounds.data.loaders import eedi, explanations, registry
from rounds.data.loaders.registry import Columns
from rounds.data.prompts import check_passage_format, passage_text
from rounds.data.splits import Split
from rounds.retrieval import bm25

JOINED = Prompts(passage="{name}\n{explanation}")
HEADER = "MisconceptionId,Explanation\n"
JSONL = """{"MisconceptionId": 0, "Explanation": "Sums.\\n"}
{"MisconceptionId": "1", "Explanation": "Axes."}
{"MisconceptionId": 2142, "Explanation": "Signs."}
"""


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_collection(folder, prompts: Prompts, given: dict[str, str]):
    task = dataclasses.replace(make_task({"1": ["7", "8", ""], "2": ["8", "", ""]}), explanations=given)
    collection.write(task, Split("v1", {"1"}, {"2"}), prompts, folder, {})
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.csv", f'{HEADER}1,"Axes.\n"\n0, Sums. \n2142.0,Signs.\n'),
        ("e.csv", 'Other,Explanation,MisconceptionId\nx,"\nSums.",0\nx,Axes.,1\nx,Signs.,2142\n'),
        ("e.jsonl", JSONL),
    ],
    ids=["csv", "order of columns", "jsonl"],
)
def test_a_file_gives_each_misconception_its_explanation(name, text, tmp_path):
    """Ids are those of the mapping however they are written, and white space around an explanation goes."""
    read = explanations.read(write(tmp_path / name, text), MAPPING)
    assert list(read.items()) == [("0", "Sums."), ("1", "Axes."), ("2142", "Signs.")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["the file is empty"]),
        (HEADER, ["has no rows"]),
        ("MisconceptionId,Text\n0,a\n", ["column Explanation is missing", "MisconceptionId, Text"]),
        ("Id,Explanation\n0,a\n", ["column MisconceptionId is missing"]),
        (f"{HEADER}0,a\n7,b\n", ["row 3", "MisconceptionId '7'", "misconception_mapping.csv"]),
        (f"{HEADER}0,a\n1,b\n0.0,c\n", ["row 4", "MisconceptionId 0 appears already in row 2"]),
        (f"{HEADER}0,a\n ,b\n", ["row 3", "MisconceptionId is empty"]),
        (f"{HEADER}nan,b\n", ["row 2", "MisconceptionId is empty"]),
        (f"{HEADER}0, \n1,\n", ["all explanations are empty"]),
        (f"{HEADER}0,nan\n1,NaN\n", ["all explanations are empty"]),
    ],
)
def test_a_wrong_file_is_one_line(text, parts, tmp_path):
    """The message names file and row."""
    path = write(tmp_path / "e.csv", text)
    with refused(path, *parts):
        explanations.read(path, MAPPING)


def test_an_explanation_that_is_no_text_is_refused(tmp_path):
    """A number in a JSONL file is no explanation."""
    path = write(tmp_path / "e.jsonl", '{"MisconceptionId": 0, "Explanation": 5}\n')
    with refused(path, "row 1", "Explanation is not a text"):
        explanations.read(path, MAPPING)


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", " nan "])
def test_missing_explanations_are_counted(cell, tmp_path):
    """Misconceptions without a row, with an empty cell or with what libraries write for one are counted together."""
    path = write(tmp_path / "e.csv", f"{HEADER}0,Sums.\n1,{cell}\n")
    dataset, messages = registry.load_dataset("eedi", write_raw(tmp_path / "raw"), Columns(explanations=str(path)))
    assert dataset.explanations == {"0": "Sums."}
    assert messages == [
        f"{path}: 2 of 3 misconceptions have no explanation, such as 1, 2142; their passages are the name alone"
    ]


def test_complete_explanations_need_no_message(tmp_path):
    """A file that explains every misconception is read without a word."""
    path = write(tmp_path / "e.csv", HEADER + "".join(f"{key},text\n" for key in MAPPING))
    _, messages = registry.load_dataset("eedi", write_raw(tmp_path / "raw"), Columns(explanations=str(path)))
    assert messages == []


@pytest.mark.parametrize(
    ("template", "explanation", "text"),
    [
        ("{name}\n{explanation}", "Sums.", "Adds\nSums."),
        ("{name}\n{explanation}", "", "Adds"),
        ("Slip: {name}\nWhy: {explanation}", "", "Adds"),
        ("Slip: {name}", "", "Slip: Adds"),
        ("{explanation}", "Sums.", "Sums."),
        ("{title} {text}", "", " Adds\n"),
    ],
)
def test_a_passage_is_joined_as_the_recipe_says(template, explanation, text):
    """Without the explanation that its format names, a passage is its name alone; BEIR's format changes no name."""
    assert passage_text(" Adds\n", explanation, Prompts(passage=template)) == text


def test_explanations_are_in_all_texts_of_a_collection(tmp_path):
    """The corpus, its parts and the positives of fine-tuning rows hold them; a passage without one is its name."""
    folder = write_collection(tmp_path / "c", JOINED, {"8": "Because."})
    assert rows(folder / collection.POOL) == [
        {"_id": "7", "text": "misconception 7", "name": "misconception 7", "explanation": ""},
        {"_id": "8", "text": "misconception 8\nBecause.", "name": "misconception 8", "explanation": "Because."},
    ]
    positives = {row["query_id"]: row["pos"] for row in rows(folder / collection.FINETUNE)}
    assert positives == {"1_B": ["misconception 7"], "1_C": ["misconception 8\nBecause."]}
    assert collection.read(folder).passages == {"7": "misconception 7", "8": "misconception 8\nBecause."}


def test_a_collection_keeps_names_and_explanations_apart(tmp_path):
    """People read the name, and the bundle takes the explanations."""
    read = collection.read(write_collection(tmp_path / "c", JOINED, {"8": "Because."}))
    assert [read.name(passage) for passage in ("7", "8")] == ["misconception 7", "misconception 8"]
    assert read.explanations == {"8": "Because."}
    plain = collection.read(write_collection(tmp_path / "plain", Prompts(), {}))
    assert plain.name("8") == "misconception 8" and not plain.names and not plain.explanations


def test_written_explanations_are_read_again(tmp_path):
    """What the bundle writes is a file that EXPLANATIONS could name."""
    given = {"0": 'Line one,\n"two"', "2142": "Signs."}
    explanations.write(tmp_path / "e.jsonl", given)
    assert explanations.read(tmp_path / "e.jsonl", MAPPING) == given


def test_texts_that_are_no_negatives_hold_their_explanations(tmp_path):
    """`excluded` names passages as the corpus has them, since mining compares texts."""
    task = make_task({"1": ["7", "", ""], "2": ["8", "", ""]})
    task = dataclasses.replace(task, explanations={"8": "Because."}, excluded={"1_B": ["8"]})
    collection.write(task, Split("v1", {"1"}, {"2"}), JOINED, tmp_path / "c", {})
    assert rows(tmp_path / "c" / collection.FINETUNE)[0]["excluded"] == ["misconception 8\nBecause."]


def test_without_explanations_the_corpus_has_no_parts(tmp_path):
    """Collections of other recipes stay as they were."""
    folder = write_collection(tmp_path / "c", Prompts(), {})
    assert rows(folder / collection.POOL) == [{"_id": key, "text": f"misconception {key}"} for key in ("7", "8")]


@pytest.mark.parametrize(
    ("template", "task", "given", "parts"),
    [
        ("{title} {text}", "eedi", "e.csv", ["e.csv", "does not use explanations", 'prompts.passage: "{name}']),
        ("{name}", "eedi", "e.csv", ["e.csv", "does not use explanations"]),
        ("{name}\n{explanation}", "eedi", "", ["no explanations are given", "EXPLANATIONS=FILE"]),
        ("{name}\n{explanation}", "pairs", "e.csv", ["e.csv", "only task eedi", "pairs"]),
        ("{name}\n{explanation}", "beir", "", ["task beir has no name and explanation"]),
    ],
)
def test_format_and_data_must_fit(template, task, given, parts):
    """Explanations that no text would hold, and a format without them, are refused."""
    with refused(*parts):
        check_passage_format(Prompts(passage=template), task, given)


@pytest.mark.parametrize(
    ("template", "task", "given"),
    [
        ("{title} {text}", "eedi", ""),
        ("{title} {text}", "beir", ""),
        ("Slip: {name}", "eedi", ""),
        ("{name}\n{explanation}", "eedi", "e.csv"),
    ],
)
def test_formats_that_fit_pass(template, task, given):
    """What was possible without explanations still is."""
    check_passage_format(Prompts(passage=template), task, given)


def test_stages_rank_and_mine_passages_with_their_explanations(tiny, raw, tmp_path):
    """BM25 finds a word that only an explanation has, and mined positives and negatives hold theirs."""
    recipe = tiny.replace("prompts", passage="{name}\n{explanation}")
    task = eedi.load(raw)
    task = dataclasses.replace(task, explanations={key: f"Why{key} so." for key in task.passages})
    collection.write(task, splits.make_split(task, "v1"), recipe.prompts, tmp_path / "c", {})
    data = collection.read(tmp_path / "c")
    run = bm25.rank({"q": "why17"}, data.passages, 1, recipe.mining.bm25)
    assert run.passages.tolist() == [["17"]]
    mine(recipe, data.folder, tmp_path / "mined.jsonl")
    for row in rows(tmp_path / "mined.jsonl"):
        for identifiers, texts in (("pos_id", "pos"), ("neg_id", "neg")):
            assert [text.rpartition("\n")[2] for text in row[texts]] == [f"Why{key} so." for key in row[identifiers]]
