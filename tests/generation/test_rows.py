"""Rows: files are read as they are, and what a split's folder holds comes back; bad cells are named."""

import json

import pyarrow as pa
import pytest
from helpers.tiny_task import refused
from pyarrow import parquet

from rounds.artifacts.prompt_manifests import PromptSplitManifest
from rounds.generation import raw, rows
from rounds.generation.rows import PromptRow, Split

HEADER = "id,original_text,rewrite_prompt,rewritten_text\n"


def write(tmp_path, text, name="rows.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_jsonl_give_the_same_rows(tmp_path):
    """The format of a file changes nothing, and further columns are ignored."""
    table = write(tmp_path, "id,original_text,rewrite_prompt,rewritten_text,other\n7,a b,Shout,A B,x\n")
    lines = {"id": 7, "original_text": "a b", "rewrite_prompt": "Shout", "rewritten_text": "A B"}
    expected = [PromptRow("7", "a b", "A B", "Shout")]
    assert rows.read_rows(table) == rows.read_rows(write(tmp_path, json.dumps(lines), "rows.jsonl")) == expected


def test_the_case_of_a_files_ending_does_not_matter(tmp_path):
    """`.CSV` is read as `.csv`, alone and in a folder, where it would be missed without a word."""
    upper = write(tmp_path, HEADER + "7,a b,Shout,A B\n", "ROWS.CSV")
    assert rows.read_rows(upper) == raw.load(tmp_path)[0] == [PromptRow("7", "a b", "A B", "Shout")]


def test_test_rows_need_no_prompt(tmp_path):
    """Rows to predict may lack the column, or leave it empty."""
    assert (
        rows.read_rows(write(tmp_path, "id,original_text,rewritten_text\n7,a,A\n"), is_test=True)[0].rewrite_prompt
        == ""
    )
    assert rows.read_rows(write(tmp_path, HEADER + "7,a,,A\n"), is_test=True)[0].rewrite_prompt == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,original_text,rewritten_text\n7,a,A\n", "column rewrite_prompt is missing"),
        (HEADER + "7,a,Shout,A\n8,b, ,B\n", "row 3: column rewrite_prompt is empty"),
        (HEADER + "7,a,Shout,\n", "row 2: column rewritten_text is empty"),
        (HEADER + "7,a,Shout,A\n7,b,Shout,B\n", "row 3: id '7' appears twice"),
        (HEADER + "7 b,a,Shout,A\n", "row 2: id '7 b' has a blank"),
        (HEADER, "has no rows"),
        ("", "the file is empty"),
    ],
)
def test_bad_rows_are_refused(tmp_path, text, message):
    """A missing column, an empty cell and a repeated id are refused in one line that names the row."""
    with refused(message):
        rows.read_rows(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    ["None", "NA", "null", "nan", "007", "\u05e9\u05dc\u05d5\u05dd \U0001f468\u200d\U0001f469", "</s> <|im_end|> {x}"],
)
def test_texts_are_kept_as_they_are(tmp_path, text):
    """What libraries read as a missing value or a number, other scripts and special tokens are texts, on all ways."""
    expected = [PromptRow("007", text, f"{text}!", text)]
    cells = dict(id="007", original_text=text, rewritten_text=f"{text}!", rewrite_prompt=text)
    assert rows.read_rows(write(tmp_path, json.dumps(cells), "rows.jsonl")) == expected
    assert rows.read_rows(write(tmp_path, f"{HEADER}007,{text},{text},{text}!\n")) == expected
    parquet.write_table(pa.Table.from_pylist([cells]), tmp_path / "rows.parquet")
    assert rows.read_rows(tmp_path / "rows.parquet") == expected
    split = Split(expected, expected, expected)
    rows.write_split(split, tmp_path / "v1", PromptSplitManifest(data="d", split="v1", config={}))
    assert rows.read_split(tmp_path / "v1") == split


def test_csv_of_windows_is_read(tmp_path):
    """A byte order mark, CRLF, doubled quotes, and line breaks inside cells belong to the format or the text."""
    path = tmp_path / "rows.csv"
    path.write_bytes(f'\ufeff{HEADER}01,"a ""b"",\r\nc","Say\nit",A\n'.replace("\n01", "\r\n01").encode())
    assert rows.read_rows(path) == [PromptRow("01", 'a "b",\r\nc', "A", "Say\nit")]


def test_long_texts_are_read(tmp_path):
    """A cell of a megabyte is one text."""
    long = "word " * 200_000
    assert rows.read_rows(write(tmp_path, f"{HEADER}1,{long},Shout,A\n"))[0].original_text == long


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("{}\n", "column id is missing"),
        ("[1]\n", "line 1: not a JSON object"),
        ("id,original_text\n", "line 1: not a JSON object (not JSON"),
        ('{"id": 1, "original_text": NaN, "rewritten_text": "A", "rewrite_prompt": "B"}', "original_text is empty"),
        ('{"id": 1, "original_text": ["a"], "rewritten_text": "A", "rewrite_prompt": "B"}', "is not a text (['a'])"),
        ('{"id": true, "original_text": "a", "rewritten_text": "A", "rewrite_prompt": "B"}', "column id is neither"),
    ],
)
def test_bad_lines_are_refused(tmp_path, text, message):
    """A file without rows, a line that is no object, and a cell of another kind are refused in one line."""
    with refused(message):
        rows.read_rows(write(tmp_path, text, "rows.jsonl"))


def test_a_split_comes_back_as_it_was_written(tmp_path):
    """All three sides are kept, empty ones and line separators included."""
    split = Split([PromptRow("1", "a\u2028b", "A", "Shout", "capitals")], [], [PromptRow("2", "c", "C")])
    rows.write_split(split, tmp_path / "v1", PromptSplitManifest(data="d", split="v1", config={}))
    assert rows.read_split(tmp_path / "v1") == split


def test_some_validation_rows_are_taken_evenly_and_none_are_refused(tmp_path):
    """A number below 1 and a split without validation rows are named."""
    held_out = [PromptRow(name, f"text {name}", "A", f"Shout {name}") for name in "abcd"]
    for split, validation in (("v1", held_out), ("submission", [])):
        manifest = PromptSplitManifest(data="d", split=split, config={})
        rows.write_split(Split([PromptRow("1", "a", "A", "Sing")], validation, []), tmp_path / split, manifest)
    assert rows.read_validation(tmp_path / "v1") == held_out
    assert rows.read_validation(tmp_path / "v1", 2) == [held_out[0], held_out[2]]
    with refused("rows 0: must be at least 1"):
        rows.read_validation(tmp_path / "v1", 0)
    with refused("submission: has no validation rows; choose SPLIT=v1 or v6"):
        rows.read_validation(tmp_path / "submission")


def test_another_folder_is_refused(tmp_path):
    """A folder that make data did not write is not read as a split."""
    with refused("no split of prompts"):
        rows.read_split(tmp_path)
