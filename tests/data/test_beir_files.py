"""BEIR's layout is read as published, as on the hub, and as `datasets` saves it to disk."""

import gzip
import json
from pathlib import Path

import datasets
import pandas as pd
import pytest
from helpers.tiny_task import refused

from rounds.data.loaders import beir

CORPUS = [{"_id": "10", "title": "Ten", "text": "is even"}, {"_id": "11", "title": "", "text": "is odd"}]
QUERIES = [{"_id": "1", "text": "which is even?"}, {"_id": "2", "text": "which is odd?"}]
LABELS = {
    "train": [{"query-id": "1", "corpus-id": "10", "score": 2}],
    "test": [{"query-id": "2", "corpus-id": "11", "score": 1}, {"query-id": "2", "corpus-id": "10", "score": 0}],
}


def write_jsonl(path: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def write_tsv(path: Path, rows: list[dict]) -> None:
    lines = ["\t".join(rows[0])] + ["\t".join(map(str, row.values())) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def write_parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def numbers(rows: list[dict], *keys: str) -> list[dict]:
    """Rows with whole numbers for ids, as the hub's viewer has made of some sets."""
    return [{key: int(value) if key in keys else value for key, value in row.items()} for row in rows]


def published(folder: Path) -> None:
    """Write BEIR's zip files."""
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    write_jsonl(folder / "queries.jsonl", QUERIES)
    for part, rows in LABELS.items():
        write_tsv(folder / "qrels" / f"{part}.tsv", rows)


def gzipped(folder: Path) -> None:
    """Write the hub's BeIR/NAME, and BeIR/NAME-qrels beside it."""
    write_jsonl(folder / "corpus.jsonl.gz", CORPUS)
    write_jsonl(folder / "queries.jsonl.gz", QUERIES)
    for part, rows in LABELS.items():
        write_tsv(folder / f"{part}.tsv", rows)
    (folder / "README.md").write_text("# x", encoding="utf-8")


def gzipped_labels(folder: Path) -> None:
    """Write everything gzipped."""
    gzipped(folder)
    for part, rows in LABELS.items():
        write_tsv(folder / "qrels" / f"{part}.tsv.gz", rows)
        (folder / f"{part}.tsv").unlink()


def mteb_jsonl(folder: Path) -> None:
    """Write the hub's mteb/NAME as it was first uploaded."""
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    write_jsonl(folder / "queries.jsonl", QUERIES)
    for part, rows in LABELS.items():
        write_jsonl(folder / "qrels" / f"{part}.jsonl", rows)


def mteb_parquet(folder: Path) -> None:
    """Write the hub's mteb/NAME in shards of parquet, with `id` for `_id` and numbers for ids."""
    rename = [{("id" if key == "_id" else key): value for key, value in row.items()} for row in CORPUS]
    for shard, row in enumerate(rename):
        write_parquet(folder / "corpus" / f"corpus-0000{shard}-of-00002.parquet", [row])
    write_parquet(folder / "queries" / "queries-00000-of-00001.parquet", numbers(QUERIES, "_id"))
    for part, rows in LABELS.items():
        rows = [row | {"score": float(row["score"])} for row in numbers(rows, "query-id", "corpus-id")]
        write_parquet(folder / "data" / f"{part}-00000-of-00001.parquet", rows)


def saved(folder: Path) -> None:
    """Write what `load_dataset(...).save_to_disk` leaves of the configurations corpus, queries and default."""
    for name, rows in (("corpus", CORPUS), ("queries", QUERIES)):
        datasets.DatasetDict({name: datasets.Dataset.from_list(rows)}).save_to_disk(folder / name)
    parts = {part: datasets.Dataset.from_list(rows) for part, rows in LABELS.items()}
    datasets.DatasetDict(parts).save_to_disk(folder / "default")


def saved_alone(folder: Path) -> None:
    """Write what `save_to_disk` leaves of single splits, in two shards."""
    datasets.Dataset.from_list(CORPUS).save_to_disk(folder / "corpus", num_shards=2)
    datasets.Dataset.from_list(QUERIES).save_to_disk(folder / "queries")
    for part, rows in LABELS.items():
        datasets.Dataset.from_list(rows).save_to_disk(folder / "qrels" / part)


@pytest.mark.parametrize(
    "layout",
    [published, gzipped, gzipped_labels, mteb_jsonl, mteb_parquet, saved, saved_alone],
    ids=lambda f: f.__name__,
)
def test_every_layout_is_the_same_dataset(layout, tmp_path):
    """Passages, queries, and grades by file are equal, whatever they are written in."""
    layout(tmp_path / "set")
    dataset = beir.load(tmp_path / "set")
    assert dataset.passages == {"10": "Ten is even", "11": "is odd"}
    assert {query.id: query.fields["question"] for query in dataset.queries} == {
        row["_id"]: row["text"] for row in QUERIES
    }
    assert dataset.labels == {"train": {"1": {"10": 2}}, "test": {"2": {"11": 1, "10": 0}}}


def test_validation_is_dev(tmp_path):
    """The hub calls dev `validation`; files of other names are parts as well."""
    published(tmp_path)
    write_tsv(tmp_path / "qrels" / "validation.tsv", LABELS["test"])
    write_tsv(tmp_path / "qrels" / "hard.tsv", LABELS["train"])
    assert set(beir.load(tmp_path).labels) == {"train", "dev", "test", "hard"}


def test_the_passage_format_joins_title_and_text(tmp_path):
    """A recipe may join them otherwise, or leave the title out."""
    published(tmp_path)
    assert beir.load(tmp_path, passage_format="{title}: {text}").passages["10"] == "Ten: is even"
    assert beir.load(tmp_path, passage_format="{text}").passages["10"] == "is even"


def test_two_files_of_the_whole_are_refused(tmp_path):
    """Neither of two copies is taken in silence."""
    published(tmp_path)
    write_jsonl(tmp_path / "corpus.jsonl.gz", CORPUS[:1])
    with refused("corpus.jsonl", "corpus.jsonl.gz", "leave one"):
        beir.load(tmp_path)
    (tmp_path / "corpus.jsonl.gz").unlink()
    write_jsonl(tmp_path / "qrels" / "test.jsonl", LABELS["test"])
    with refused("test.jsonl", "test.tsv", "leave one"):
        beir.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("corpus.jsonl.gz", b"not gzipped", ["corpus.jsonl.gz", "not a whole gzip file"]),
        ("corpus.jsonl.gz", gzip.compress(b'{"_id": "1", "text": "a"}\n', mtime=0)[:-6], ["not a whole gzip file"]),
        ("corpus.parquet", b"PAR1", ["corpus.parquet", "cannot be read as parquet"]),
        ("corpus.arrow", b"x" * 64, ["corpus.arrow", "cannot be read as arrow"]),
        ("corpus.csv", b"_id,text\n1,a\n", ["corpus.jsonl", "no such file", ".parquet"]),
    ],
)
def test_broken_files_are_one_line(name, content, parts, tmp_path):
    """The line names the file and what is wrong with it."""
    published(tmp_path)
    (tmp_path / "corpus.jsonl").unlink()
    (tmp_path / name).write_bytes(content)
    with refused(*parts):
        beir.load(tmp_path)


def test_labels_are_required(tmp_path):
    """A folder without labels is refused with the kinds of files that hold them."""
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "queries.jsonl", QUERIES)
    with refused("qrels", "holds no labels", ".tsv"):
        beir.load(tmp_path)


def test_an_empty_corpus_is_named(tmp_path):
    """It is not the labels' fault that their passages are not there."""
    published(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("", encoding="utf-8")
    with refused("the corpus holds no passages"):
        beir.load(tmp_path)
