r"""JSON Lines (jsonlines.org): one JSON object per line of UTF-8; only `\n` and `\r\n` end a line.

U+2028, U+2029 and U+0085, which `str.splitlines` takes for line ends, may stand inside a string.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rounds.errors import UserError


def read_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield each line's number, from 1, and its object; a byte order mark and empty lines at the end are skipped.

    Args:
        path: the file, gzipped where its name ends in .gz.

    Raises:
        UserError: the file is missing or no gzip file, or a line is not a JSON object, or holds half of a surrogate
            pair, which no UTF-8 file and no tokenizer can take.
    """
    return ((number, row) for number, (_, _, row) in enumerate(locate_lines(path), 1))


def locate_lines(path: Path) -> Iterator[tuple[int, int, dict]]:
    """Yield where each line starts and ends, in bytes of the unpacked file, and its object, as `read_lines` does."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    empty = 0  # number of the first of the empty lines read last
    end = 0
    with open_binary(path) as file:
        for number, line in enumerate(_lines(file, path), 1):
            start, end = end, end + len(line)
            if number == 1 and line.startswith(codecs.BOM_UTF8):
                line, start = line.removeprefix(codecs.BOM_UTF8), len(codecs.BOM_UTF8)
            if not line.strip():
                empty = empty or number
                continue
            if empty:
                raise UserError(f"{path} line {empty}: not a JSON object (the line is empty)")
            yield start, end, _parse(line, f"{path} line {number}")


def open_binary(path: Path) -> BinaryIO:
    """Open a file to read bytes, unpacked where its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def read_text(path: Path) -> str:
    """Return the text of a file that `open_binary` opens.

    Raises:
        UserError: the file is missing, not UTF-8 or no gzip file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open_binary(path) as file:
        try:
            return b"".join(_lines(file, path)).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8") from None


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({str(error)[:80]}); fetch it again") from None


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
