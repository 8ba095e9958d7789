"""Load a table of queries and the passages that answer them, in any language."""

from pathlib import Path

from rounds.artifacts import hashing
from rounds.data.cells import read_group, read_text
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.identical import find_identical
from rounds.data.loaders.tables import FILE_ENDINGS, Rows, read_table
from rounds.data.text import normalize_text
from rounds.errors import UserError

__all__ = ["FILE_ENDINGS", "load"]

GROUP_DIGITS = 16  # of the hexadecimal digest that names a query's group


def load(
    path: Path, query: str = "query", positive: str = "positive", group: str = "", ignore_identical: bool = True
) -> RetrievalDataset:
    """Read a CSV, JSONL or parquet file; the corpus is its distinct passages.

    Rows with the same query text are one query with several relevant passages.

    Args:
        query, positive: column names.
        group: column of groups (articles, authors) that a split must not divide; without one, each query text is a
            group of its own, named by its digest: rows that are put in or left out later change no other's name, so
            that a checkpoint's lineage still knows the queries that it was trained on.
        ignore_identical: neither rank nor mine a query's own text for it, as where both sides are paraphrases.

    Raises:
        UserError: the file or a column is missing, or a cell is empty, or is not a text (a group may be a whole
            number). The message names the row (the header of a CSV file is row 1).
    """
    rows = read_table(path)
    _check_columns(path, rows, (query, positive, *([group] if group else [])))
    queries: dict[str, Query] = {}  # by normalized text
    passage_ids: dict[str, str] = {}  # by text, normalized as well
    qrels: dict[str, list[str]] = {}
    for place, row in rows:
        question, answer = (read_text(row.get(column), place, column) for column in (query, positive))
        text = normalize_text(question)
        row_group = read_group(row.get(group), place, group) if group else hashing.sha256_texts([text])[:GROUP_DIGITS]
        row_query = queries.setdefault(text, Query(f"q{len(queries)}", row_group, {"question": question}))
        if group and row_query.group != row_group:
            raise UserError(f"{place}: its query is of {group} {row_query.group!r} in an earlier row")
        passage = passage_ids.setdefault(normalize_text(answer), f"p{len(passage_ids)}")
        relevant = qrels.setdefault(row_query.id, [])
        if passage not in relevant:
            relevant.append(passage)
    passages = {identifier: text for text, identifier in passage_ids.items()}
    identical = find_identical(queries.values(), passages.items(), qrels, ignore_identical)
    return RetrievalDataset(path.stem, list(queries.values()), passages, qrels, identical=identical)


def _check_columns(path: Path, rows: Rows, columns: tuple[str, ...]) -> None:
    """Refuse a table that has one of the columns in no row, and a column that is query and positive at once."""
    if columns[0] == columns[1]:
        raise UserError(f"{path}: column {columns[0]} cannot be query and positive at once; name two columns")
    present = dict.fromkeys(column for _, row in rows for column in row)
    for column in columns:
        if column not in present:
            raise UserError(
                f"{path}: column {column} is missing (found: {', '.join(list(present)[:20])}); "
                "name columns with --query_column, --positive_column, --group_column"
            )
