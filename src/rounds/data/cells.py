"""Cells: what ids, names and texts of a data file may be, and the refusal of anything else, which names the row."""

import math
import re

from rounds.data.text import normalize_text
from rounds.errors import UserError

# Run files are columns between blanks, in trec_eval as here, so ids hold neither white space nor control characters.
NOT_IN_IDS = re.compile("[\\s\x00-\x1f\x7f-\x9f\ufeff]")

MAX_WHOLE_FLOAT = 2**53


def read_text(value: object, place: str, column: str) -> str:
    """Return a cell that must be a text with more than white space.

    Args:
        value: the cell.
        place: file and row, for messages.
        column: name of the column, for messages.

    Raises:
        UserError: the cell is empty, null or not a text.
    """
    if is_empty(value):
        raise UserError(f"{place}: column {column} is empty")
    if not isinstance(value, str):
        raise UserError(f"{place}: column {column} is not a text ({_short(value)})")
    return value


def read_name(value: object, place: str, column: str) -> str:
    """Return a cell that must be a text or a whole number, as a text: 12 and 12.0 are `12`, and `"007"` stays `007`.

    Raises:
        UserError: the cell is empty, null, or neither a text nor a whole number.
    """
    # Some writers of parquet and JSON know only floats. From 2**53 on, a float stands for several whole numbers.
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_WHOLE_FLOAT:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) and not is_empty(value):
        raise UserError(f"{place}: column {column} is neither a text nor a whole number ({_short(value)})")
    return read_text(value, place, column)


def read_group(value: object, place: str, column: str) -> str:
    """Return the name of a group or article, normalized: no split divides what differs in white space or accents' form.

    Raises:
        UserError: the cell is empty, null, or neither a text nor a whole number.
    """
    return normalize_text(read_name(value, place, column))


def read_id(value: object, place: str, column: str, seen: dict | set = frozenset()) -> str:
    """Return the id of a query or passage: a name without blanks that no earlier row has.

    Args:
        seen: the ids of earlier rows.

    Raises:
        UserError: the cell is no name, holds white space or a control character, or is in `seen`.
    """
    identifier = read_name(value, place, column)
    if NOT_IN_IDS.search(identifier):
        raise UserError(
            f"{place}: {column} {identifier!r} has a blank, which would end it in a run file; join its words"
        )
    if identifier in seen:
        raise UserError(f"{place}: {column} {identifier!r} appears twice")
    return identifier


def read_names(value: object, place: str, column: str) -> list[str]:
    """Return a cell that must be a list of texts or whole numbers, as texts; null is an empty list.

    Raises:
        UserError: the cell is not a list, or an item is null or neither a text nor a whole number.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if not isinstance(value, list):
        raise UserError(f"{place}: {column} must be a list")
    return [item if isinstance(item, str) else read_name(item, place, column) for item in value]


def is_empty(value: object) -> bool:
    """Return whether a cell is null, not a number, or a text of white space.

    >>> [is_empty(value) for value in (None, float("nan"), " ", 0, "0")]
    [True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_missing(value: object) -> bool:
    """Return whether a cell is empty, or the text that libraries write for a cell without a value.

    >>> [is_missing(value) for value in (None, " ", "nan", " NaN ", "Nan bread")]
    [True, True, True, True, False]
    """
    return is_empty(value) or (isinstance(value, str) and value.strip() in ("nan", "NaN"))


def _short(value: object) -> str:
    return repr(value)[:40]
