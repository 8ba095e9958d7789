"""Target modules: which modules of a model a recipe's `targets` name, checked before anything is inserted."""

import difflib
import re
from collections.abc import Iterable, Sequence

from torch import nn

from rounds.errors import UserError

ALL_LINEAR = "all-linear"

PLAIN_NAME = re.compile(r"[\w.-]+")  # anything else is a regular expression


def for_peft(targets: Sequence[str], modules: Iterable[str], key: str) -> list[str] | str:
    """Return targets as peft takes them: names as a list, `all-linear` or a regular expression as a text.

    Args:
        targets: names or ends of names, or regular expressions for whole names, or `all-linear` alone.
        modules: names of the modules that can be adapted.
        key: the recipe's key, for messages.

    Raises:
        UserError: a target matches no module, or is no regular expression.
    """
    targets = list(targets)
    if targets == [ALL_LINEAR]:
        return ALL_LINEAR
    check(targets, modules, key)
    if all(map(PLAIN_NAME.fullmatch, targets)):
        return targets
    return "|".join(rf"(?:.*\.)?{re.escape(t)}" if PLAIN_NAME.fullmatch(t) else f"(?:{t})" for t in targets)


def check(targets: Sequence[str], modules: Iterable[str], key: str, separator: str = ".") -> None:
    """Refuse targets that match no module, by name and with the nearest name that the model has.

    Args:
        separator: as `matches` takes it.

    Raises:
        UserError: a target matches no module, or is no regular expression.
    """
    modules = list(modules)
    if ALL_LINEAR in targets:
        raise UserError(f"{key} {list(targets)}: {ALL_LINEAR} stands alone")
    for target in targets:
        if not any(matches(target, name, key, separator) for name in modules):
            raise UserError(f"{key}: {target} matches no module of the model{_suggest(target, modules)}")


def matches(target: str, name: str, key: str = "", separator: str = ".") -> bool:
    """Return whether a target names a module: by the end of its dotted name, or by a regular expression for all of it.

    Args:
        key: the recipe's key, for messages.
        separator: stands before the end; empty: `proj` is also the end of `q_proj`.

    >>> matches("output.dense", "layer.0.output.dense"), matches("dense", "layer.0.condense")
    (True, False)
    >>> matches(r".*[qk]_proj", "layers.0.k_proj")
    True
    """
    if PLAIN_NAME.fullmatch(target):
        return name == target or name.endswith(separator + target)
    try:
        return re.fullmatch(target, name) is not None
    except re.error as error:
        raise UserError(f"{key} {target!r}: is not a regular expression ({error})") from None


def adaptable(model: nn.Module, exclude: str = "") -> list[str]:
    """Return the names of the modules that have weights of their own, without those that contain `exclude`.

    Modules that other modules extend (embeddings, layer norms) count too: what cannot be adapted, peft refuses itself.
    """
    return [
        name
        for name, module in model.named_modules()
        if name and not (exclude and exclude in name) and next(module.parameters(recurse=False), None) is not None
    ]


def _suggest(target: str, modules: Sequence[str]) -> str:
    """Return the nearest names of modules, as the end of a message; nothing for a regular expression."""
    if not PLAIN_NAME.fullmatch(target):
        return ""
    parts = target.count(".") + 1
    ends = list(dict.fromkeys(".".join(name.split(".")[-parts:]) for name in modules))
    nearest = difflib.get_close_matches(target, ends, n=1, cutoff=0.0)
    return f"; the nearest is {nearest[0]}" if nearest else ""
