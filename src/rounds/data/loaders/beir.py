"""BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels/*.tsv -> `Task`."""

import json
from collections.abc import Iterator
from pathlib import Path

from rounds.data.dataset import Query, RetrievalDataset
from rounds.errors import UserError

HEADER = ("query-id", "corpus-id", "score")


def load(folder: Path) -> RetrievalDataset:
    """Read a folder; a query may have several relevant passages, those of a score above 0.

    All files of `qrels/` count: the split is made by the project, as for any task. A passage is its title and text.

    Raises:
        UserError: a missing file, a broken line, or a label of a query or passage that is not there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it must hold corpus.jsonl, queries.jsonl and qrels/")
    passages = {}
    for place, row in lines(folder / "corpus.jsonl", ("_id", "text")):
        _new(str(row["_id"]), passages, place)
        passages[str(row["_id"])] = f"{row.get('title') or ''} {row['text']}".strip()
    texts = {}
    for place, row in lines(folder / "queries.jsonl", ("_id", "text")):
        _new(str(row["_id"]), texts, place)
        texts[str(row["_id"])] = row["text"]
    qrels: dict[str, list[str]] = {}
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise UserError(f"{folder / 'qrels'}: holds no .tsv file")
    for file in files:
        for query, passage in _labels(file, texts, passages):
            if passage not in qrels.setdefault(query, []):
                qrels[query].append(passage)
    queries = [Query(identifier, identifier, {"question": text}) for identifier, text in texts.items()]
    return RetrievalDataset(folder.name, queries, passages, qrels)


def lines(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """Each row of a JSONL file with where it stands, checked for `keys`."""
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


def _new(identifier: str, there: dict[str, str], place: str) -> None:
    if identifier in there or any(blank.isspace() for blank in identifier):
        what = "appears twice" if identifier in there else "has a blank"
        raise UserError(f"{place}: _id {identifier!r} {what}")


def _labels(path: Path, queries: dict[str, str], passages: dict[str, str]) -> Iterator[tuple[str, str]]:
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
