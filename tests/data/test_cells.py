"""Loaders refuse null cells, texts that are none and ids with blanks, naming the row; numbers stay what they are."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_task import refused
from PIL import Image

from rounds.data import cells, collection
from rounds.data.loaders import beir, kbvqa, pairs, weak_labels
from rounds.data.loaders.pairs import FILE_ENDINGS
from rounds.retrieval.run import Run, read_trec, write_trec


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Write rows as the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


class BeirFolder:
    """A folder in BEIR's layout; `change` replaces keys of the second line of a file."""

    id_key = "_id"
    tables = {
        "queries": [{"_id": "a", "text": "which?"}, {"_id": "b", "text": "what?"}],
        "corpus": [{"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}],
    }
    load = staticmethod(beir.load)

    @classmethod
    def write(cls, folder: Path, table: str = "", change: dict | None = None) -> Path:
        """Write the folder and return it."""
        for name, rows in cls.tables.items():
            lines = [rows[0], rows[1] | change] if name == table else rows
            write_rows(folder / f"{name}.jsonl", lines)
        cls.finish(folder)
        return folder

    @staticmethod
    def finish(folder: Path) -> None:
        """Write what is no table."""
        (folder / "qrels").mkdir()
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\na\td1\t1\n", encoding="utf-8")


class WeakLabelsFolder(BeirFolder):
    """A folder of the task weak_labels."""

    id_key = "id"
    tables = {
        "questions": [
            {"id": "a", "question": "Who built it?", "answer": "Eiffel"},
            {"id": "b", "question": "When?", "answer": "1889"},
        ],
        "passages": [{"id": "d1", "text": "Eiffel built it."}, {"id": "d2", "text": "In 1889."}],
    }
    load = staticmethod(lambda folder: weak_labels.load(folder)[0])

    @staticmethod
    def finish(folder: Path) -> None:
        """There is nothing else."""


class KbvqaFolder(WeakLabelsFolder):
    """A folder of the task kbvqa."""

    tables = {
        name: [row | {"image": "i.png"} | ({"article": "A"} if name == "passages" else {}) for row in rows]
        for name, rows in WeakLabelsFolder.tables.items()
    }
    load = staticmethod(lambda folder: kbvqa.load(folder)[0])

    @staticmethod
    def finish(folder: Path) -> None:
        """Write the image of all rows."""
        Image.new("RGB", (4, 4)).save(folder / "i.png")


FOLDERS = {"beir": BeirFolder, "weak_labels": WeakLabelsFolder, "kbvqa": KbvqaFolder}

CELLS = [
    (kind, table, column)
    for kind, folder in FOLDERS.items()
    for table, rows in folder.tables.items()
    for column in rows[0]
]


@pytest.mark.parametrize(("kind", "table", "column"), CELLS)
def test_a_null_cell_is_named_with_its_row(kind, table, column, tmp_path):
    """Null in an id, text, answer, image or article is no text `None`."""
    with refused(f"{table}.jsonl", " 2: ", f"{column} is empty"):
        FOLDERS[kind].load(FOLDERS[kind].write(tmp_path / "f", table, {column: None}))


@pytest.mark.parametrize(("kind", "table", "column"), CELLS)
def test_a_cell_of_another_type_is_named_with_its_row(kind, table, column, tmp_path):
    """A list or a truth value is neither a text nor an id."""
    for value in (["x"], True):
        with refused(f"{table}.jsonl", " 2: ", f"column {column} is n"):
            FOLDERS[kind].load(FOLDERS[kind].write(tmp_path / repr(value), table, {column: value}))


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u2028", "\x00"])
@pytest.mark.parametrize(
    ("kind", "table"), [(kind, table) for kind, folder in FOLDERS.items() for table in folder.tables]
)
def test_an_id_with_a_blank_is_refused_by_every_loader(kind, table, blank, tmp_path):
    """A blank would end the id in a run file, which trec_eval reads by columns."""
    folder = FOLDERS[kind]
    with refused(f"{table}.jsonl", " 2: ", folder.id_key, "has a blank"):
        folder.load(folder.write(tmp_path / "f", table, {folder.id_key: f"Town{blank}3"}))


@pytest.mark.parametrize(
    ("kind", "table"), [(kind, table) for kind, folder in FOLDERS.items() for table in folder.tables]
)
def test_an_id_that_comes_twice_is_refused_by_every_loader(kind, table, tmp_path):
    """The second row of an id is named."""
    folder = FOLDERS[kind]
    with refused(f"{table}.jsonl", " 2: ", "appears twice"):
        folder.load(folder.write(tmp_path / "f", table, {folder.id_key: folder.tables[table][0][folder.id_key]}))


def test_every_id_that_is_accepted_survives_a_run_file(tmp_path):
    """Quotes, commas, `NA`, numbers and other scripts come back from a TREC run as they were."""
    ids = ['"a"', "'b'", "c,d", "NA", "nan", "007", "1.0", "#1", "町3", "é"]
    assert [cells.read_id(identifier, "row 1", "id") for identifier in ids] == ids
    passages = np.array([ids] * len(ids), dtype=object)
    write_trec(Run(ids, passages, np.zeros(passages.shape, dtype=np.float32)), tmp_path / "run.trec", "tag")
    read = read_trec(tmp_path / "run.trec")
    assert read.queries == ids and read.passages.tolist() == [ids] * len(ids)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_a_null_cell_of_pairs_is_named_in_every_format(ending, tmp_path):
    """Null in query, positive or group is no text `nan` in CSV, JSONL and parquet."""
    row = {"query": "Was?", "positive": "Das.", "group": "g"}
    for column in row:
        path = write_rows(tmp_path / f"{column}{ending}", [row, row | {"query": "Wer?", column: None}])
        with refused(f"{path} row {3 if ending == '.csv' else 2}: ", f"column {column} is empty"):
            pairs.load(path, group="group")


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_groups_stay_the_numbers_and_texts_that_they_are(ending, tmp_path):
    """Whole numbers stay whole beside any other column, and leading zeros stay."""
    for name, groups, expected in (("n", [12, 7], ["12", "7"]), ("t", ["007", "12.0"], ["007", "12.0"])):
        rows = [{"query": f"q {n}", "positive": f"p {n}", "group": group} for n, group in enumerate(groups)]
        dataset = pairs.load(write_rows(tmp_path / f"{name}{ending}", rows), group="group")
        assert [query.group for query in dataset.queries] == expected


@pytest.mark.parametrize("twin", ["Orl\u00e9ans ", "Orle\u0301ans", "Orl\u00e9ans\n"])
def test_groups_that_look_the_same_are_one(twin, tmp_path):
    """No split divides what differs in blanks or in how an accent is made, in any task with groups."""
    name = "Orl\u00e9ans"
    rows = [{"query": f"q {n}", "positive": f"p {n}", "group": group} for n, group in enumerate([name, twin])]
    assert {query.group for query in pairs.load(write_rows(tmp_path / "a.csv", rows), group="group").queries} == {name}
    weak = WeakLabelsFolder.write(tmp_path / "weak", "questions", {"group": twin})
    assert weak_labels.load(weak)[0].queries[1].group == name
    images = KbvqaFolder.write(tmp_path / "images", "questions", {"provenance": [twin]})
    passages = [json.loads(line) | {"article": name} for line in (images / "passages.jsonl").read_text().splitlines()]
    dataset, _ = kbvqa.load(write_rows(images / "passages.jsonl", passages).parent)
    assert dataset.queries[1].group == name and dataset.qrels["b"] == ["d2"]


def test_a_parquet_column_with_nulls_keeps_whole_numbers(tmp_path):
    """pandas writes whole numbers with a null among them as floats: the null's row is named, not a text `12.0`."""
    rows = [{"query": f"q {n}", "positive": "p", "group": group} for n, group in enumerate([12, 7, None])]
    with refused("row 3", "group is empty"):
        pairs.load(write_rows(tmp_path / "a.parquet", rows), group="group")
    assert cells.read_name(12.0, "row 1", "group") == "12"
    with refused("row 1", "group is neither a text nor a whole number"):
        cells.read_name(12.5, "row 1", "group")


def test_floats_that_stand_for_several_numbers_are_no_names():
    """Beyond 2**53 a float is not the id that was meant: 9007199254740993 is read as ...992."""
    assert cells.read_name(float(2**53 - 1), "row 1", "id") == str(2**53 - 1)
    assert cells.read_name(2**53 + 1, "row 1", "id") == str(2**53 + 1)
    with refused("row 1", "id is neither a text nor a whole number"):
        cells.read_name(float(2**53 + 1), "row 1", "id")


@pytest.mark.parametrize("value", [None, math.nan, "", " "])
def test_an_empty_cell_is_empty_in_every_format(value):
    """Null, not-a-number and blanks are one message."""
    with refused("a.csv row 3: column text is empty"):
        cells.read_text(value, "a.csv row 3", "text")


@pytest.mark.parametrize("column", ["aliases", "provenance"])
def test_lists_that_are_none_or_hold_null_are_named(column, tmp_path):
    """A text in a list's place would be no alias at all, and null would be the alias `None`."""
    for value, says in (("Eiffel", "must be a list"), ([None], "is empty"), ([{}], "neither a text")):
        with refused("questions.jsonl row 2", column, says):
            kbvqa.load(KbvqaFolder.write(tmp_path / says, "questions", {column: value}))


def test_a_passage_of_beir_may_lack_a_title_or_a_text(tmp_path):
    """A null title is none; a passage may have a title alone, as in public corpora."""
    folder = BeirFolder.write(tmp_path / "f", "corpus", {"title": None})
    assert beir.load(folder).passages == {"d1": "one", "d2": "two"}
    folder = BeirFolder.write(tmp_path / "g", "corpus", {"title": "T", "text": ""})
    assert beir.load(folder).passages["d2"] == "T"


@pytest.mark.parametrize(("grade", "relevant"), [("1.0", True), ("2", True), ("0.0", False), ("-1", False)])
def test_grades_of_qrels_are_numbers(grade, relevant, tmp_path):
    """A grade may be written as a float, the file with a byte order mark, Windows line ends and an empty last line."""
    folder = BeirFolder.write(tmp_path / "f")
    content = f"\ufeffquery-id\tcorpus-id\tscore\r\na\td1\t1\r\nb\td2\t{grade}\r\n\r\n"
    (folder / "qrels" / "test.tsv").write_bytes(content.encode())
    assert ("b" in beir.load(folder).qrels) is relevant


@pytest.mark.parametrize("grade", ["nan", "inf", "", "x", "0.5", "1_0", "1e2", "True", str(2**70)])
def test_grades_that_are_no_numbers_are_named(grade, tmp_path):
    """The message names the line of the qrels."""
    folder = BeirFolder.write(tmp_path / "f")
    (folder / "qrels" / "test.tsv").write_text(f"a\td1\t1\nb\td2\t{grade}\n", encoding="utf-8")
    with refused("test.tsv line 2", f"score {grade!r} is not a whole number"):
        beir.load(folder)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"query_id": "Town 3"}, "has a blank"),
        ({"query_id": None}, "query_id is empty"),
        ({"excluded": None}, "excluded must be a list of texts"),
    ],
)
def test_rows_to_mine_obey_the_same_rule(row, says, tmp_path):
    """The ids of a JSONL file to mine end up in run files too."""
    path = write_rows(tmp_path / "a.jsonl", [{"query": "q", "pos": ["p"]} | row])
    with refused(f"{path} line 1", says):
        collection.read_rows(path, ("pos",))


def test_a_pool_obeys_the_same_rule(tmp_path):
    """An id of a candidate pool has no blank and is not null."""
    for identifier, says in (("Town 3", "has a blank"), (None, "is empty")):
        path = write_rows(tmp_path / "pool.jsonl", [{"_id": "a", "text": "x"}, {"_id": identifier, "text": "y"}])
        with refused(f"{path} line 2", says):
            collection.read_pool(path)
