"""Turn pydantic's errors into messages of one line."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from rounds.config import schema
from rounds.errors import UserError


@contextmanager
def one_line_errors(root: type, source: str, values: dict, section: str = "") -> Iterator[None]:
    """Turn a `ValidationError` raised in the block into a `UserError` of one line.

    Args:
        root: the class whose keys the message names.
        source: file, manifest or flags that the values come from.
        values: what is validated, for the message.
        section: the section that is validated, if it is not `root` itself.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ((section,) if section else ()) + first["loc"]
        raise UserError(f"{source}: {_describe(root, first, path, values)}") from None


def _describe(root: type, error: dict, path: tuple, values: dict) -> str:
    """Return the message for one of pydantic's errors, raised at `path`."""
    kind, value = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind in ("unexpected_keyword_argument", "invalid_key"):
        prefix = "".join(f"{key}." for key in path[:-1])
        keys = schema.fields(schema.find_section(root, path[:-1]))
        nearest = difflib.get_close_matches(str(path[-1]), keys, n=1, cutoff=0.0)[0]
        return f"unknown key {prefix}{path[-1]}; did you mean {prefix}{nearest}?"
    if kind == "missing":
        return f"{'.'.join(path)} is missing"
    path, inside = schema.split_path(root, path)
    key = ".".join(path)
    field = schema.fields(schema.find_section(root, path[:-1]))[path[-1]]
    if kind == "dataclass_type":
        return f"{key} must be a mapping, not {value!r}"
    if kind == "literal_error":
        options = schema.choices(schema.value_field(field) if inside else field)
        return f"{key} {'has' if inside else 'is'} {value!r}, not one of {', '.join(options)}"
    limits = schema.bounds(schema.value_field(field) if inside else field)
    if limits and kind in ("greater_than", "greater_than_equal", "less_than_equal", "finite_number"):
        place = f".{inside[0]}" if inside and isinstance(inside[0], str) else ""
        return f"{key}{place} is {value}, must be {limits}"
    if kind == "finite_number":
        return f"{key} is {value}, must be a finite number"
    for name in path:
        values = values[name]
    return f"{key} must be of type {schema.type_name(field)}, not {values!r}"
