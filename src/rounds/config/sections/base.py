"""Types and settings that all sections of a recipe share."""

import re
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Boolean = StrictBool

Integer = StrictInt

Text = StrictStr


def _read_number(value: object) -> object:
    """Turn a text such as `1e-4`, which YAML does not read as a number, into a float."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_read_number), Field(strict=True, allow_inf_nan=False)]


def _read_targets(value: object) -> object:
    """Turn `all-linear` and regular expressions, which peft takes as a text, into a list; a name belongs in one."""
    is_pattern = isinstance(value, str) and (value == "all-linear" or re.search(r"[^\w.-]", value))
    return [value] if is_pattern else value


Targets = Annotated[list[Text], BeforeValidator(_read_targets)]

# Schemas are built when first used, so that importing the sections stays fast.
SECTION = ConfigDict(extra="forbid", defer_build=True)
