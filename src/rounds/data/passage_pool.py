"""Passages: id -> text of a corpus, in memory where it is small, otherwise read from its file when asked for.

Any `Mapping[str, str]` may be a corpus. `ids_of`, `texts_of` and `rows_of` give its parts without a second copy.
"""

import itertools
import json
import os
import tempfile
from array import array
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rounds.artifacts import disk_space, jsonl
from rounds.data.cells import read_id
from rounds.data.passage_ids import PassageIds
from rounds.errors import UserError

IN_MEMORY_BYTES = 32 * 2**20  # of a file or of texts; a larger corpus stays on disk

READ_AT_ONCE = 2**20  # bytes

NameRepeat = Callable[[int, str], str]  # row and id -> message


class LazyTexts(Sequence[str]):
    """Texts that are read when asked for, in blocks where they are iterated.

    Args:
        count: number of texts.
        read: yields the texts from one row up to another.

    >>> texts = LazyTexts(3, lambda start, stop: map(str, range(start, stop)))
    >>> texts[-1], texts[:2], list(texts.map(lambda row, text: f"{text}!"))
    ('2', ['0', '1'], ['0!', '1!', '2!'])
    """

    def __init__(self, count: int, read: Callable[[int, int], Iterator[str]]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return self._read(0, self._count)

    def __getitem__(self, place):
        if isinstance(place, slice):
            start, stop, step = place.indices(self._count)
            return list(self._read(start, stop)) if step == 1 else [self[row] for row in range(start, stop, step)]
        row = range(self._count)[place]
        return next(iter(self._read(row, row + 1)))

    def map(self, convert: Callable[[int, str], str]) -> "LazyTexts":
        """Return the texts as `convert` makes them of a row's number and text."""

        def read(start: int, stop: int) -> Iterator[str]:
            return itertools.starmap(convert, enumerate(self._read(start, stop), start))

        return LazyTexts(self._count, read)


class PassagePool(Mapping[str, str]):
    """A corpus in a file of JSON lines, of which only the ids and the places of the lines are held.

    Attributes:
        ids: passage ids, in the file's order.
        texts: their texts.

    Args:
        file: the open file; it is read by position, so threads may share it.
        offsets: (passages + 1,) int64, where each line starts, and where the last one ends.
        ids: passage ids.
    """

    def __init__(self, file: BinaryIO, offsets: np.ndarray, ids: PassageIds) -> None:
        self._file, self._offsets, self.ids = file, offsets, ids
        self.texts = LazyTexts(len(ids), self._read)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self.ids.row_of(identifier) >= 0

    def __getitem__(self, identifier: str) -> str:
        row = self.ids.row_of(identifier)
        if row < 0:
            raise KeyError(identifier)
        return self.texts[row]

    def items(self) -> ItemsView[str, str]:
        """Return ids and texts, read in blocks."""
        return _Items(self)

    def values(self) -> ValuesView[str]:
        """Return the texts, read in blocks."""
        return _Values(self)

    def sorted_items(self) -> Iterator[tuple[str, str]]:
        """Yield ids and texts in the order of the ids."""
        return ((self.ids[row], self.texts[row]) for row in self.ids.sorted_rows().tolist())

    def _read(self, start: int, stop: int) -> Iterator[str]:
        while start < stop:
            limit = self._offsets[start] + READ_AT_ONCE
            last = min(max(int(np.searchsorted(self._offsets, limit, "right")) - 1, start + 1), stop)
            begin = int(self._offsets[start])
            block = os.pread(self._file.fileno(), int(self._offsets[last]) - begin, begin)
            for first, end in itertools.pairwise((self._offsets[start : last + 1] - begin).tolist()):
                yield json.loads(block[first:end])["text"]
            start = last


class _Items(ItemsView):
    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self._mapping.ids, self._mapping.texts, strict=True)


class _Values(ValuesView):
    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping.texts)


class Spool:
    """Passages that come one by one: kept in memory, and once they are too many, in a temporary file."""

    def __init__(self) -> None:
        self._passages: dict[str, str] = {}
        self._size = 0
        self._file: BinaryIO | None = None
        self._ids, self._offsets = PassageIds(), array("q", [0])

    @property
    def seen(self) -> Mapping[str, str]:
        """The passages in memory, to find ids that repeat; those in a file are compared at the end only."""
        return self._passages

    def __len__(self) -> int:
        return len(self._ids) + len(self._passages)

    def add(self, identifier: str, text: str) -> None:
        """Add a passage.

        Raises:
            UserError: the disk has no space for the temporary file.
        """
        if self._file is not None:
            self._write(identifier, text)
            return
        self._passages[identifier] = text
        self._size += len(text)
        if self._size > IN_MEMORY_BYTES:
            self._file = tempfile.TemporaryFile()
            for item in self._passages.items():
                self._write(*item)
            self._passages = {}

    def _write(self, identifier: str, text: str) -> None:
        line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
        with disk_space.required_for(Path(tempfile.gettempdir())):
            self._file.write(line)
        self._ids.append(identifier)
        self._offsets.append(self._offsets[-1] + len(line))

    def finish(self, name_repeat: NameRepeat) -> Mapping[str, str]:
        """Return the passages.

        Args:
            name_repeat: returns the message for a row whose id an earlier row has.

        Raises:
            UserError: an id repeats.
        """
        if self._file is None:
            return self._passages
        with disk_space.required_for(Path(tempfile.gettempdir())):
            self._file.flush()
        return _pool(self._file, self._offsets, self._ids, name_repeat)


def _pool(file: BinaryIO, offsets: array, ids: PassageIds, name_repeat: NameRepeat) -> PassagePool:
    if (row := ids.first_repeat()) is not None:
        raise UserError(name_repeat(row, ids[row]))
    return PassagePool(file, np.array(offsets), ids)


def read_pool(path: Path) -> Mapping[str, str]:
    """Read a candidate pool as passage id -> text; lines without `_id` (FlagEmbedding's) are numbered from 0.

    The lines of a pool of more than `IN_MEMORY_BYTES` are checked now, and its texts are read when they are asked for.

    Raises:
        UserError: the file is missing or broken, a text is not a string, or an id repeats.
    """

    def name_repeat(row: int, identifier: str) -> str:
        return f"{path} line {row + 1}: _id {identifier!r} repeats that of an earlier line"

    if path.is_file() and path.suffix != ".gz" and path.stat().st_size > IN_MEMORY_BYTES:
        ids, offsets = PassageIds(), array("q")
        for start, end, identifier, _ in _read_rows(path):
            offsets.extend([end] if offsets else [start, end])
            ids.append(identifier)
        return _pool(open(path, "rb"), offsets, ids, name_repeat)
    spool = Spool()
    for row, (_, _, identifier, text) in enumerate(_read_rows(path)):
        if identifier in spool.seen:
            raise UserError(name_repeat(row, identifier))
        spool.add(identifier, text)
    return spool.finish(name_repeat)


def _read_rows(path: Path) -> Iterator[tuple[int, int, str, str]]:
    """Yield where each line starts and ends, its id and its text.

    Raises:
        UserError: as `read_pool` does, except for ids that repeat.
    """
    number = 0
    for number, (start, end, row) in enumerate(jsonl.locate_lines(path), 1):
        place = f"{path} line {number}"
        if "text" not in row:
            raise UserError(f"{place}: key 'text' is missing")
        if not isinstance(row["text"], str):
            raise UserError(f"{place}: text is not a string")
        yield start, end, read_id(row.get("_id", number - 1), place, "_id"), row["text"]
    if not number:
        raise UserError(f"{path}: the file is empty")


def ids_of(passages: Mapping[str, str]) -> Sequence[str]:
    """Return the ids of a corpus in its order."""
    return passages.ids if isinstance(passages, PassagePool) else list(passages)


def texts_of(passages: Mapping[str, str]) -> Sequence[str]:
    """Return the texts of a corpus in its order."""
    return passages.texts if isinstance(passages, PassagePool) else list(passages.values())


def sorted_rows(passages: Mapping[str, str]) -> Sequence[int]:
    """Return the rows of a corpus in the order of its ids."""
    if isinstance(passages, PassagePool):
        return passages.ids.sorted_rows()
    ids = list(passages)
    return sorted(range(len(ids)), key=ids.__getitem__)


def convert_texts(texts: Sequence[str], convert: Callable[[int, str], str]) -> Sequence[str]:
    """Return texts as `convert` makes them of a row's number and text: a list, unless they are read when asked for."""
    if isinstance(texts, LazyTexts):
        return texts.map(convert)
    return [convert(row, text) for row, text in enumerate(texts)]


def rows_of(passages: Mapping[str, str], ids: Iterable[str]) -> dict[str, int]:
    """Return id -> row in the corpus of those ids that it holds.

    >>> rows_of({"a": "A", "b": "B", "c": "C"}, ["c", "x", "a"])
    {'c': 2, 'a': 0}
    """
    distinct = list(dict.fromkeys(ids))
    if isinstance(passages, PassagePool):
        rows = passages.ids.rows_of(distinct).tolist()
        return {identifier: row for identifier, row in zip(distinct, rows, strict=True) if row >= 0}
    places = {identifier: row for row, identifier in enumerate(passages)}
    return {identifier: places[identifier] for identifier in distinct if identifier in places}


def read_texts(passages: Mapping[str, str], rows: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Yield the row and text of some passages, in any order.

    Args:
        rows: id -> row of the passages, as `rows_of` returns it.
    """
    if isinstance(passages, PassagePool):
        return ((row, passages.texts[row]) for row in sorted(rows.values()))  # the file's order
    return ((row, passages[identifier]) for identifier, row in rows.items())


def take_ids(ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Return the ids of rows of the corpus, of the same shape, as an array of objects.

    >>> take_ids(["a", "b", "c"], np.array([[2, 0], [2, 2]])).tolist()
    [['c', 'a'], ['c', 'c']]
    """
    distinct, places = np.unique(rows, return_inverse=True)
    return np.array([ids[row] for row in distinct.tolist()], dtype=object)[places].reshape(rows.shape)
