r"""JSON Lines (jsonlines.org): one JSON object per line of UTF-8; only `\n` and `\r\n` end a line.

U+2028, U+2029 and U+0085, which `str.splitlines` takes for line ends, may stand inside a string.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from rounds.errors import UserError


def read_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield each line's number, from 1, and its object; a byte order mark and empty lines at the end are skipped.

    Raises:
        UserError: the file is missing, or a line is not a JSON object, or holds half of a surrogate pair, which no
            UTF-8 file and no tokenizer can take.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    empty = 0  # number of the first of the empty lines read last
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                empty = empty or number
                continue
            if empty:
                raise UserError(f"{path} line {empty}: not a JSON object (the line is empty)")
            yield number, _parse(line, f"{path} line {number}")


def _parse(line: bytes, place: str) -> dict:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{place}: not a JSON object (not JSON: {reason})") from None
    if not isinstance(row, dict):
        raise UserError(f"{place}: not a JSON object")
    if rb"\u" in line and not _is_encodable(row):
        raise UserError(
            f"{place}: holds half of a surrogate pair (\\ud800 to \\udfff alone); write the character whole"
        )
    return row


def _is_encodable(row: dict) -> bool:
    """Return whether the row's texts can be written as UTF-8."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
