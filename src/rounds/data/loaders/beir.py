"""Load BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels/*.tsv."""

import math
from collections.abc import Iterator
from pathlib import Path

from rounds.artifacts import jsonl
from rounds.data.cells import is_empty, read_id, read_text
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.identical import find_identical
from rounds.errors import UserError

HEADER = ("query-id", "corpus-id", "score")


def load(folder: Path, ignore_identical: bool = True) -> RetrievalDataset:
    """Read a folder in BEIR's layout.

    A query may have several relevant passages: those with a score above 0. All files of `qrels/` are read, because the
    split is made here, as for any dataset. A passage's text is its title and text.

    Args:
        folder: the folder.
        ignore_identical: neither rank nor mine a query's own id or text for it, as BEIR does by default.

    Raises:
        UserError: a file is missing, a line is broken, an id or text is null, or a label names an unknown query or
            passage.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it must hold corpus.jsonl, queries.jsonl and qrels/")
    passages: dict[str, str] = {}
    bodies: list[tuple[str, str]] = []  # texts without titles, which is what ArguAna's queries are
    for place, row in read_lines(folder / "corpus.jsonl", ("_id", "text")):
        identifier = read_id(row["_id"], place, "_id", passages)
        passages[identifier] = _passage_text(row, place)
        bodies.append((identifier, row["text"]))
    texts: dict[str, str] = {}
    for place, row in read_lines(folder / "queries.jsonl", ("_id", "text")):
        texts[read_id(row["_id"], place, "_id", texts)] = read_text(row["text"], place, "text")
    qrels = _read_qrels(folder / "qrels", texts, passages)
    queries = [Query(identifier, identifier, {"question": text}) for identifier, text in texts.items()]
    identical = find_identical(queries, [*passages.items(), *bodies], qrels, ignore_identical)
    return RetrievalDataset(folder.name, queries, passages, qrels, identical=identical)


def read_lines(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """Yield each row of a JSONL file after its place (`FILE line N`).

    Raises:
        UserError: the file is missing, or a line is not a JSON object with all of `keys`.
    """
    for number, row in jsonl.read_lines(path):
        if missing := [key for key in keys if key not in row]:
            raise UserError(f"{path} line {number}: {missing[0]} is missing")
        yield f"{path} line {number}", row


def _passage_text(row: dict, place: str) -> str:
    """Return a passage's title and text; public corpora have passages without the one, the other or both."""
    title, text = row.get("title"), row["text"]
    parts = [
        "" if is_empty(title) else read_text(title, place, "title"),
        "" if text == "" else read_text(text, place, "text"),
    ]
    return " ".join(parts).strip()


def _read_qrels(folder: Path, queries: dict[str, str], passages: dict[str, str]) -> dict[str, list[str]]:
    files = sorted(folder.glob("*.tsv"))
    if not files:
        raise UserError(f"{folder}: holds no .tsv file")
    qrels: dict[str, list[str]] = {}
    for file in files:
        for query, passage in _read_labels(file, queries, passages):
            relevant = qrels.setdefault(query, [])
            if passage not in relevant:
                relevant.append(passage)
    return qrels


def _read_labels(path: Path, queries: dict[str, str], passages: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield query and passage of each label above 0."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None
    for number, line in enumerate(lines, 1):
        parts = line.split("\t")
        if number == 1 and tuple(parts) == HEADER:
            continue
        grade = _read_grade(parts[2]) if len(parts) == 3 else None
        if grade is None:
            raise UserError(f"{path} line {number}: not three columns ({', '.join(HEADER)}), the last a number")
        query, passage, _ = parts
        if query not in queries or passage not in passages:
            missing = f"query {query}" if query not in queries else f"passage {passage}"
            raise UserError(f"{path} line {number}: {missing} is not there")
        if grade > 0:
            yield query, passage


def _read_grade(text: str) -> float | None:
    """Return the number that a grade such as `1`, `-1` or `1.0` is, or None."""
    try:
        grade = float(text)
    except ValueError:
        return None
    return grade if math.isfinite(grade) else None
