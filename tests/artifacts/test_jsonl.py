"""JSON Lines are read as they are defined, and what is none is refused in one line with its number."""

import json

import pytest
from helpers.tiny_task import refused

from rounds.artifacts import jsonl


def read(path, content: bytes) -> list[dict]:
    path.write_bytes(content)
    return [row for _, row in jsonl.read_lines(path)]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1c", "😀"])
def test_only_a_line_feed_ends_a_line(tmp_path, character):
    """Characters that other tools take for line ends stay in the texts that hold them."""
    row = {"text": f"one{character}two"}
    content = json.dumps(row, ensure_ascii=False).encode()
    assert read(tmp_path / "a.jsonl", content + b"\n" + content) == [row, row]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b'{"a": 1}\n{"a": 2}',
        b'{"a": 1}\n{"a": 2}\n\n \n',
    ],
    ids=["byte order mark", "Windows line ends", "no last line end", "empty lines at the end"],
)
def test_other_writers_files_are_read(tmp_path, content):
    """A byte order mark, carriage returns and empty lines at the end are no content."""
    assert read(tmp_path / "a.jsonl", content) == [{"a": 1}, {"a": 2}]


def test_a_whole_surrogate_pair_is_its_character(tmp_path):
    """JSON writes a character beyond U+FFFF as two escapes."""
    assert read(tmp_path / "a.jsonl", rb'{"a": "\ud83d\ude00"}') == [{"a": "😀"}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (rb'{"a": "\ud83d"}', "half of a surrogate pair"),
        (rb'{"\udfff": 1}', "half of a surrogate pair"),
        (b'{"a": "\xed\xa0\xbd"}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"", "the line is empty"),
    ],
    ids=["surrogate", "in a key", "in UTF-8", "no UTF-8", "a list", "nested", "long number", "empty line"],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, says):
    """The message is one line with the number of the broken one."""
    with refused(f"{tmp_path / 'a.jsonl'} line 2", says):
        read(tmp_path / "a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')


def test_a_missing_file_is_named(tmp_path):
    """A folder is no file either."""
    with refused(tmp_path, "no such file"):
        list(jsonl.read_lines(tmp_path))
