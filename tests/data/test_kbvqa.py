"""Questions on images: the generated sample needs both words and image; the loader labels it and names broken files."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from helpers.tiny_task import refused

from rounds.data.images import attach_image, find_image, image_digest, strip_image
from rounds.data.loaders import kbvqa
from rounds.data.synthetic import places
from rounds.data.synthetic.places import FACTS, QUESTIONS_PER_PLACE

PLACES = 8


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    counts = places.generate(folder, places=PLACES, captions=6)
    assert counts == {"places": 8, "questions": 8 * QUESTIONS_PER_PLACE, "passages": 8 * len(FACTS), "captions": 6}
    return folder


@pytest.fixture
def own(sample, tmp_path) -> Path:
    """Return a copy of the sample to break."""
    return Path(shutil.copytree(sample, tmp_path / "own"))


def rows(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def rewrite(folder: Path, name: str, lines: list[dict]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_no_question_names_its_place_or_answer(sample):
    """A question holds neither its place nor its answer, and questions on several places share their text."""
    questions = rows(sample, "questions")
    for row in questions:
        assert row["provenance"][0] not in row["question"] and row["answer"] not in row["question"]
    texts = [row["question"] for row in questions]
    assert len(set(texts)) <= 2 * len(FACTS) and len(texts) == PLACES * QUESTIONS_PER_PLACE


def test_no_two_images_are_equal(sample):
    """Every photograph of an emblem, a question's or an article's, has other bytes."""
    images = {row["image"] for name in ("questions", "captions") for row in rows(sample, name)}
    images |= {row["image"] for row in rows(sample, "passages")}
    digests = {image_digest(str(sample / image)) for image in images}
    assert len(digests) == len(images) == PLACES * (QUESTIONS_PER_PLACE + 1) + 6


def test_the_sample_is_the_same_twice(sample, tmp_path):
    """Equal arguments give equal bytes."""
    places.generate(tmp_path, places=PLACES, captions=6)
    for file in sorted(sample.rglob("*.*")):
        assert file.read_bytes() == (tmp_path / file.relative_to(sample)).read_bytes(), file


def test_relevant_passages_are_the_article_s_own_with_the_answer(sample):
    """Each question has one relevant passage; other articles' passages that hold the answer are excluded."""
    dataset, messages = kbvqa.load(sample)
    passages = {row["id"]: row for row in rows(sample, "passages")}
    assert not messages and len(dataset.queries) == PLACES * QUESTIONS_PER_PLACE
    for row in rows(sample, "questions"):
        (relevant,) = dataset.qrels[row["id"]]
        assert passages[relevant]["title"] == row["provenance"][0] and row["answer"] in passages[relevant]["text"]
        for other in dataset.excluded[row["id"]]:
            assert other != relevant and row["answer"].lower() in passages[other]["text"].lower()
    groups = {query.group for query in dataset.queries}
    assert groups == {row["provenance"][0] for row in rows(sample, "questions")}


def test_texts_carry_their_pictures(sample):
    """Queries and passages begin with the marker of their image; the entity's type is the query's subject."""
    dataset, _ = kbvqa.load(sample)
    for text in (dataset.queries[0].fields["question"], dataset.passages["a0-year"]):
        assert find_image(text).read().size and attach_image(strip_image(text), find_image(text).path) == text
    assert dataset.queries[0].fields["subject"] == rows(sample, "passages")[0]["type"]


def test_aliases_label_passages_if_none_holds_the_answer(own):
    """If no passage holds the answer, the article's own with an alias are relevant; else the question is reported."""
    lines = rows(own, "questions")
    lines[0] |= {"answer": "nowhere written", "aliases": [lines[0]["answer"]]}
    rewrite(own, "questions", lines)
    dataset, messages = kbvqa.load(own)
    assert dataset.qrels["q0-0"] == ["a0-year"] and not messages
    lines[0]["aliases"] = []
    rewrite(own, "questions", lines)
    dataset, messages = kbvqa.load(own)
    assert "q0-0" not in dataset.qrels and "1 questions" in messages[0] and "q0-0" in messages[0]


@pytest.mark.parametrize("kind", ["parquet", "datasets"])
def test_all_table_formats_give_the_same_dataset(kind, own):
    """Parquet files and `datasets` folders are read as JSONL files are."""
    expected, _ = kbvqa.load(own)
    for name in ("questions", "passages"):
        lines = rows(own, name)
        (own / f"{name}.jsonl").unlink()
        if kind == "parquet":
            pd.DataFrame(lines).to_parquet(own / f"{name}.parquet")
        else:
            Dataset.from_list(lines).save_to_disk(str(own / name))
    dataset, _ = kbvqa.load(own)
    assert dataset == expected


def test_pictures_that_are_missing_or_broken_are_named_by_row(own):
    """A missing or broken image is named with file, row and id, in both tables."""
    (own / "images" / "q1-2.jpg").unlink()
    with refused("questions row 8 (q1-2)", "no picture images/q1-2.jpg"):
        kbvqa.load(own)
    (own / "images" / "a3.jpg").write_bytes(b"\x89PNG broken")
    with refused("passages row 16 (a3-year)", "a3.jpg cannot be read"):
        kbvqa.load(own)


@pytest.mark.parametrize("name", ["a>b.jpg", "a\nb.jpg", "a\0b.jpg"])
def test_a_picture_that_no_text_can_name_is_refused(own, name):
    """What would end the path in a text's marker would leave the marker among the words and the picture unseen."""
    rewrite(own, "questions", [rows(own, "questions")[0] | {"image": name}, *rows(own, "questions")[1:]])
    with refused("questions row 1 (q0-0)", "must not hold", repr(name[1])):
        kbvqa.load(own)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [{**lines[0], "answer": " "}, *lines[1:]], ("row 1", "answer is empty")),
        (lambda lines: [{key: line[key] for key in line if key != "image"} for line in lines], ("image is missing",)),
        (lambda lines: [lines[0], *lines], ("row 2", "appears twice")),
        (lambda lines: [], ("questions.jsonl", "no rows")),
    ],
)
def test_broken_tables_are_named(change, words, own):
    """Empty cells, missing columns, repeated ids and empty files are named."""
    rewrite(own, "questions", change(rows(own, "questions")))
    with refused(*words):
        kbvqa.load(own)


def test_a_folder_without_tables_is_named(tmp_path):
    """The message names the three formats of a table."""
    with refused(tmp_path, "passages.jsonl", "passages.parquet"):
        kbvqa.load(tmp_path)
