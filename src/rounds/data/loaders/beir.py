"""Load BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels/*.tsv."""

import json
from collections.abc import Iterator
from pathlib import Path

from rounds.data.dataset import Query, RetrievalDataset
from rounds.errors import UserError

HEADER = ("query-id", "corpus-id", "score")


def load(folder: Path) -> RetrievalDataset:
    """Read a folder in BEIR's layout.

    A query may have several relevant passages: those with a score above 0. All files of `qrels/` are read, because the
    split is made here, as for any dataset. A passage's text is its title and text.

    Raises:
        UserError: a file is missing, a line is broken, or a label names an unknown query or passage.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it must hold corpus.jsonl, queries.jsonl and qrels/")
    passages: dict[str, str] = {}
    for place, row in read_lines(folder / "corpus.jsonl", ("_id", "text")):
        _check_new_id(str(row["_id"]), passages, place)
        passages[str(row["_id"])] = f"{row.get('title') or ''} {row['text']}".strip()
    texts: dict[str, str] = {}
    for place, row in read_lines(folder / "queries.jsonl", ("_id", "text")):
        _check_new_id(str(row["_id"]), texts, place)
        texts[str(row["_id"])] = row["text"]
    qrels = _read_qrels(folder / "qrels", texts, passages)
    queries = [Query(identifier, identifier, {"question": text}) for identifier, text in texts.items()]
    return RetrievalDataset(folder.name, queries, passages, qrels)


def read_lines(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """Yield each row of a JSONL file after its place (`FILE line N`).

    Raises:
        UserError: the file is missing, or a line is not a JSON object with all of `keys`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} line {number}: not JSON ({error})") from None
        if missing := [key for key in keys if not isinstance(row, dict) or key not in row]:
            raise UserError(f"{path} line {number}: {missing[0]} is missing")
        yield f"{path} line {number}", row


def _check_new_id(identifier: str, texts: dict[str, str], place: str) -> None:
    if identifier in texts:
        raise UserError(f"{place}: _id {identifier!r} appears twice")
    if any(character.isspace() for character in identifier):
        raise UserError(f"{place}: _id {identifier!r} has a blank")


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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if number == 1 and tuple(parts) == HEADER:
            continue
        if len(parts) != 3 or not parts[2].lstrip("-").isdigit():
            raise UserError(f"{path} line {number}: not three columns ({', '.join(HEADER)})")
        query, passage, score = parts
        if query not in queries or passage not in passages:
            missing = f"query {query}" if query not in queries else f"passage {passage}"
            raise UserError(f"{path} line {number}: {missing} is not there")
        if int(score) > 0:
            yield query, passage
