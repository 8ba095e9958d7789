"""Pairs: a table of queries and the passages that answer them, in any language -> `Task`."""

from pathlib import Path

import pandas as pd

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.text import normalize_text
from rounds.errors import UserError

ENDINGS = (".csv", ".jsonl", ".parquet")


def load(path: Path, query: str = "query", positive: str = "positive", group: str = "") -> RetrievalDataset:
    """Read a CSV, JSONL or parquet file; the corpus is its distinct passages.

    Rows of one query text are one query with several relevant passages.

    Args:
        query, positive: column names.
        group: column of what must never stand on both sides of a split (an article, an author); without one, each
            query text is a group of its own.

    Raises:
        UserError: no such file or column, or a row with an empty text; the line names the row (the header is row 1).
    """
    table = read(path)
    for column in (query, positive, *([group] if group else [])):
        if column not in table.columns:
            raise UserError(
                f"{path}: column {column} is missing (found: {', '.join(map(str, table.columns[:20]))}); "
                "name columns with --query_column, --positive_column, --group_column"
            )
    passages: dict[str, str] = {}
    queries: dict[str, Query] = {}
    qrels: dict[str, list[str]] = {}
    for row, record in enumerate(table.to_dict("records"), 2):
        for column in (query, positive):
            if not isinstance(record[column], str) or not record[column].strip():
                raise UserError(f"{path} row {row}: {column} is empty")
        own = queries.setdefault(
            normalize_text(record[query]),
            Query(f"q{len(queries)}", str(record[group]) if group else f"q{len(queries)}", {"question": record[query]}),
        )
        if group and own.group != str(record[group]):
            raise UserError(f"{path} row {row}: its query is of {group} {own.group!r} in an earlier row")
        passage = passages.setdefault(normalize_text(record[positive]), f"p{len(passages)}")
        relevant = qrels.setdefault(own.id, [])
        if passage not in relevant:
            relevant.append(passage)
    texts = {identifier: text for text, identifier in passages.items()}
    return RetrievalDataset(path.stem, list(queries.values()), texts, qrels)


def read(path: Path) -> pd.DataFrame:
    """A CSV, JSONL or parquet file as a table, cells of a CSV as strings."""
    if path.suffix not in ENDINGS:
        raise UserError(f"{path}: not one of {', '.join(ENDINGS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        elif path.suffix == ".jsonl":
            table = pd.read_json(path, lines=True, dtype=False)
        else:
            table = pd.read_parquet(path)
    except (ValueError, OSError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({reason})") from None
    if table.empty:
        raise UserError(f"{path}: has no rows")
    return table
