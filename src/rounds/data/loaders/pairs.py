"""Load a table of queries and the passages that answer them, in any language."""

from collections.abc import Hashable
from pathlib import Path

import pandas as pd

from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.text import normalize_text
from rounds.errors import UserError

FILE_ENDINGS = (".csv", ".jsonl", ".parquet")


def load(path: Path, query: str = "query", positive: str = "positive", group: str = "") -> RetrievalDataset:
    """Read a CSV, JSONL or parquet file; the corpus is its distinct passages.

    Rows with the same query text are one query with several relevant passages.

    Args:
        query, positive: column names.
        group: column of groups (articles, authors) that a split must not divide; without one, each query text is a
            group of its own.

    Raises:
        UserError: the file or a column is missing, or a row has an empty text. The message names the row (the header is
            row 1).
    """
    table = read_table(path)
    for column in (query, positive, *([group] if group else [])):
        if column not in table.columns:
            raise UserError(
                f"{path}: column {column} is missing (found: {', '.join(map(str, table.columns[:20]))}); "
                "name columns with --query_column, --positive_column, --group_column"
            )
    queries: dict[str, Query] = {}  # by normalized text
    passage_ids: dict[str, str] = {}  # by text, normalized as well
    qrels: dict[str, list[str]] = {}
    for row, record in enumerate(table.to_dict("records"), 2):
        _check_texts(record, (query, positive), f"{path} row {row}")
        new_id = f"q{len(queries)}"
        new_query = Query(new_id, str(record[group]) if group else new_id, {"question": record[query]})
        row_query = queries.setdefault(normalize_text(record[query]), new_query)
        if group and row_query.group != str(record[group]):
            raise UserError(f"{path} row {row}: its query is of {group} {row_query.group!r} in an earlier row")
        passage = passage_ids.setdefault(normalize_text(record[positive]), f"p{len(passage_ids)}")
        relevant = qrels.setdefault(row_query.id, [])
        if passage not in relevant:
            relevant.append(passage)
    passages = {identifier: text for text, identifier in passage_ids.items()}
    return RetrievalDataset(path.stem, list(queries.values()), passages, qrels)


def _check_texts(record: dict[Hashable, object], columns: tuple[str, ...], place: str) -> None:
    for column in columns:
        if not isinstance(record[column], str) or not record[column].strip():
            raise UserError(f"{place}: {column} is empty")


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV, JSONL or parquet file; cells of a CSV file are strings.

    Raises:
        UserError: the file is missing, of another type, broken or empty.
    """
    if path.suffix not in FILE_ENDINGS:
        raise UserError(f"{path}: not one of {', '.join(FILE_ENDINGS)}")
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
