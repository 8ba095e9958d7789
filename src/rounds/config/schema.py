"""Look up keys of a recipe's schema, and describe their types and bounds in words."""

import ast
import inspect
import itertools
import types
import typing
from collections.abc import Iterator

from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo


def fields(section: type) -> dict[str, FieldInfo]:
    """Return the keys of a section, in order."""
    return section.__pydantic_fields__


def descriptions(section: type) -> dict[str, str]:
    """Return the description of each key: the string below it in the section's source, on one line."""
    body = ast.parse(inspect.getsource(section)).body[0].body
    return {
        key.target.id: " ".join(text.value.value.split())
        for key, text in itertools.pairwise(body)
        if isinstance(key, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def is_section(field: FieldInfo) -> bool:
    """Return whether the key holds a section of its own."""
    return isinstance(field.annotation, type) and is_pydantic_dataclass(field.annotation)


def find_section(root: type, path: tuple) -> type:
    """Return the section at `path`, such as `("tuning", "lora")`."""
    for key in path:
        root = fields(root)[key].annotation
    return root


def split_path(root: type, path: tuple) -> tuple[tuple, tuple]:
    """Split a path into the part that names a key of the schema, and the place inside that key's value.

    >>> from rounds.config.recipe import Recipe
    >>> split_path(Recipe, ("tuning", "lora", "targets", 0))
    (('tuning', 'lora', 'targets'), (0,))
    """
    for length, key in enumerate(path, 1):
        field = fields(root)[key]
        if not is_section(field):
            return path[:length], path[length:]
        root = field.annotation
    return path, ()


def walk_sections(root: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Yield each section with its path, parents before children."""
    yield path, root
    for key, field in fields(root).items():
        if is_section(field):
            yield from walk_sections(field.annotation, (*path, key))


def is_collection(field: FieldInfo) -> bool:
    """Return whether a key holds a list or a mapping."""
    return typing.get_origin(_without_none(field.annotation)) in (list, dict)


def value_field(field: FieldInfo) -> FieldInfo:
    """Return a description of the values inside a list, a mapping or an optional value."""
    return FieldInfo.from_annotation(typing.get_args(_without_none(field.annotation))[-1])


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the texts that a key takes, or () if it is not a closed choice."""
    annotation = _without_none(field.annotation)
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def bounds(field: FieldInfo) -> str:
    """Describe the bounds of a number, such as `at least 1` or `from 0 to 1`; empty if it has none."""
    limits = {
        name: getattr(constraint, name)
        for constraint in field.metadata
        for name in ("ge", "gt", "le")
        if getattr(constraint, name, None) is not None
    }
    if "le" in limits:
        return f"from {limits['ge']} to {limits['le']}"
    if "ge" in limits:
        return f"at least {limits['ge']}"
    return f"above {limits['gt']}" if "gt" in limits else ""


def type_name(field: FieldInfo) -> str:
    """Return the Python type of a key, such as `int` or `list[str]`, without its bounds."""
    annotation = _without_none(field.annotation)
    if is_collection(field):
        kind = typing.get_origin(annotation).__name__
        inner = type_name(value_field(field))
        return f"{kind}[{inner}]" if kind == "list" else f"{kind}[str, {inner}]"
    return "str" if choices(field) else annotation.__name__


def is_optional(field: FieldInfo) -> bool:
    """Return whether a key takes null."""
    return type(None) in typing.get_args(field.annotation)


def _without_none(annotation: object) -> object:
    """Return the annotation without `| None` and without `Annotated[...]` around it."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is typing.Annotated:
        return typing.get_args(annotation)[0]
    return annotation
