"""Write the reference of all recipe keys: `python -m rounds.config.reference docs/recipes-reference.md`."""

import json
import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from rounds.artifacts import store
from rounds.config import schema
from rounds.config.recipe import Recipe

INTRODUCTION = """# Recipe keys

Generated from the recipe schema by `python -m rounds.config.reference docs/recipes-reference.md`; edit
`src/rounds/config/sections/` instead of this file.

A recipe is a YAML file with the sections below. Keys that it leaves out have their defaults. Next to the sections it
may set `name` (by default the file's name) and `extends: NAME`, which inherits all keys that the file does not set from
another recipe, which must not extend one itself.
"""


def build_reference() -> str:
    """Return the reference as Markdown: one table per section."""
    tables = [_table(path, section) for path, section in schema.walk_sections(Recipe) if path]
    return "\n".join([INTRODUCTION, *tables])


def _table(path: tuple[str, ...], section: type) -> str:
    descriptions = schema.descriptions(section)
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field)} | {_escape(descriptions[key])} |"
        for key, field in schema.fields(section).items()
        if not schema.is_section(field)
    ]
    about = "\n".join(line.strip() for line in section.__doc__.strip().splitlines())
    header = "| key | type or choices | default | description |\n|---|---|---|---|"
    return "\n".join([f"## `{'.'.join(path)}`\n", f"{about}\n", header, *rows, ""])


def _type(field: FieldInfo) -> str:
    """Return the closed choices of a key, or its type with bounds."""
    options = schema.choices(field)
    text = ", ".join(f"`{option}`" for option in options) or schema.type_name(field)
    if schema.is_collection(field):
        inside = schema.value_field(field)
        options, limits = schema.choices(inside), schema.bounds(inside)
        text += f" of {', '.join(f'`{option}`' for option in options)}" if options else ""
    else:
        limits = schema.bounds(field)
    text += f", {limits}" if limits else ""
    return f"{text} or null" if schema.is_optional(field) else text


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    store.write_text(Path(sys.argv[1]), build_reference())
