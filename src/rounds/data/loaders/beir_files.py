"""Find and read the files of BEIR's layout: as published, as on the hub (`BeIR/*`, `mteb/*`), or saved by `datasets`.

| what | where |
|---|---|
| corpus, queries | `corpus.jsonl`, or `corpus/` with one or several files |
| labels | `qrels/test.tsv`, `qrels/test-00000-of-00001.parquet`, `qrels/test/`; or in `default/`, `data/` or beside |

Files end in .jsonl, .parquet, .arrow or, for labels, .tsv; .jsonl and .tsv may be gzipped (.gz).
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow
from pyarrow import parquet

from rounds.artifacts import jsonl
from rounds.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".arrow")

LABEL_ENDINGS = (".tsv", ".tsv.gz", *ENDINGS)

LABEL_FOLDERS = ("qrels", "default", "data")

PARTS = {"train": "train", "dev": "dev", "validation": "dev", "test": "test"}  # names of label files beside the corpus

SHARD = re.compile(r"-\d+-of-\d+$")

LABEL_KEYS = ("query-id", "corpus-id", "score")

Rows = Iterator[tuple[str, dict]]


def find(folder: Path, name: str) -> list[Path]:
    """Return the files of `corpus` or `queries`, shards in order.

    Raises:
        UserError: there is none, or several that each hold the whole.
    """
    singles = [path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file()]
    shards = _sorted(path for path in folder.glob(f"{name}-*") if SHARD.search(_stem(path, ENDINGS)))
    inside = _sorted(path for path in (folder / name).rglob("*") if _has(path, ENDINGS))
    choices = [*([path] for path in singles), *_by_ending([*shards, *inside], ENDINGS)]
    if not choices:
        raise UserError(f"{folder / name}.jsonl: no such file, nor another of the kind ({', '.join(ENDINGS)})")
    if len(choices) > 1:
        raise UserError(f"{choices[0][0]} and {choices[1][0]}: each may hold all of the {name}; leave one of them")
    return choices[0]


def find_labels(folder: Path) -> dict[str, list[Path]]:
    """Return the files of labels by the part that they are of: `train`, `dev`, `test` or another name.

    Raises:
        UserError: there is none, or a part has files of two kinds.
    """
    parts: dict[str, list[Path]] = {}
    place = next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), folder)
    files = place.glob("*") if place == folder else place.rglob("*")
    for path in _sorted(path for path in files if _has(path, LABEL_ENDINGS)):
        name = SHARD.sub("", _stem(path, LABEL_ENDINGS))
        if path.parent != place:  # shards that `datasets` calls data-00000-of-00001.arrow
            name = path.relative_to(place).parts[0]
        if place != folder or name in PARTS:
            parts.setdefault(PARTS.get(name, name), []).append(path)
    if not parts:
        raise UserError(f"{folder / LABEL_FOLDERS[0]}: holds no labels ({', '.join(LABEL_ENDINGS)})")
    for paths in parts.values():
        if len(kinds := _by_ending(paths, LABEL_ENDINGS)) > 1:
            raise UserError(f"{kinds[0][0]} and {kinds[1][0]}: each may hold the same labels; leave one of them")
    return parts


def read(paths: Iterable[Path], keys: tuple[str, ...]) -> Rows:
    """Yield each row of some files after its place (`FILE line N`, or `FILE row N` of tables).

    Args:
        paths: the files.
        keys: keys that each row must have; `_id` may be called `id`.

    Raises:
        UserError: a file is broken, or a row lacks a key.
    """
    for path in paths:
        for place, row in _read_file(path):
            if "_id" in keys and "_id" not in row and "id" in row:
                row["_id"] = row["id"]
            if missing := [key for key in keys if key not in row]:
                raise UserError(f"{place}: {missing[0]} is missing")
            yield place, row


def _read_file(path: Path) -> Rows:
    if _has(path, (".tsv", ".tsv.gz")):
        yield from _read_tsv(path)
    elif _has(path, (".jsonl", ".jsonl.gz")):
        for number, row in jsonl.read_lines(path):
            yield f"{path} line {number}", row
    else:
        yield from _read_arrow(path)


def _read_tsv(path: Path) -> Rows:
    """Yield the labels of a file of three columns, whose first line may name them."""
    lines = jsonl.read_text(path).replace("\r\n", "\n").rstrip("\n").split("\n")
    for number, line in enumerate(lines, 1):
        parts = line.split("\t")
        if number == 1 and tuple(parts) == LABEL_KEYS:
            continue
        if len(parts) != 3:
            raise UserError(f"{path} line {number}: not three columns ({', '.join(LABEL_KEYS)})")
        yield f"{path} line {number}", dict(zip(LABEL_KEYS, parts, strict=True))


def _read_arrow(path: Path) -> Rows:
    """Yield the rows of a parquet file, or of an Arrow stream as `datasets` saves it, batch by batch."""
    number = 0
    try:
        if path.suffix == ".parquet":
            batches = parquet.ParquetFile(path).iter_batches()
        else:
            batches = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path)))
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({reason})") from None


def _has(path: Path, endings: tuple[str, ...]) -> bool:
    return path.name.endswith(endings) and not path.name.startswith(".") and path.is_file()


def _stem(path: Path, endings: tuple[str, ...]) -> str:
    ending = max((ending for ending in endings if path.name.endswith(ending)), key=len, default="")
    return path.name.removesuffix(ending)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=str)


def _by_ending(paths: list[Path], endings: tuple[str, ...]) -> list[list[Path]]:
    """Group files by their ending: those of one ending are shards of one whole."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.name.removeprefix(_stem(path, endings)), []).append(path)
    return list(groups.values())
