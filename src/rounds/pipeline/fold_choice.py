"""Fold choice: the split whose folds are taken, N_FOLDS, and which of them FOLD and FOLDS name.

Only the standard library and modules that keep to it are imported, so `make help` works before the set-up.
"""

import typing

from rounds.data.source import FOLDED, N_FOLDS, PROMPT_TASK
from rounds.errors import UserError

FOLDED_STAGES = ("rerank", "cv", "best", "distil")  # targets that learn from all folds of v5, or of SPLIT=v6
# Targets that work on folds of a split of their own, whatever SPLIT is.
FOLD_READERS = (*FOLDED_STAGES, "pseudo_label", "compare", "status", "report", "dashboard")


class Chosen(typing.Protocol):
    """The settings that choose folds."""

    task: str
    split: str
    fold: int
    folds: tuple[int, ...]
    n_folds: int
    fold_split: str
    given: frozenset[str]


def all_of(n_folds: int) -> tuple[int, ...]:
    """Return the numbers of all folds."""
    return tuple(range(n_folds))


def split_of(given: Chosen, target: str) -> str:
    """Return the split whose folds the second stages learn from: v5, or v6 where SPLIT names it.

    Raises:
        UserError: SPLIT was given, and is neither of them nor all of train, whose submission they make.
    """
    if target in FOLDED_STAGES and "split" in given.given and given.split not in (*FOLDED, "submission"):
        raise UserError(f"SPLIT={given.split}: make {target} works on the folds of v5 or v6; name one, or leave it out")
    return given.split if given.split in FOLDED else FOLDED[0]


def split_parts(given: Chosen) -> list[str]:
    """Return what the name of something made of FOLDS says of their split: nothing where it is the default."""
    return [] if given.fold_split == FOLDED[0] else [f"folds of {given.fold_split}"]


def parts(given: Chosen) -> list[str]:
    """Return what the name of something made of FOLDS says of their number: nothing where it is the default."""
    return [] if given.n_folds == N_FOLDS else [f"n_folds={given.n_folds}"]


def parts_of_split(given: Chosen) -> list[str]:
    """Return what the name of something made of SPLIT says of the number of its folds, as `parts` does."""
    return parts(given) if given.split in FOLDED else []


def flag(given: Chosen) -> int | None:
    """Return the number of folds as a script's flag: None where SPLIT has the default number or no folds."""
    return given.n_folds if parts_of_split(given) else None


def check(given: Chosen, target: str) -> None:
    """Refuse a fold that is none of N_FOLDS, and N_FOLDS where there are no folds or others.

    Args:
        given: The settings, with the defaults of the task and the target.
        target: The target that reads them.

    Raises:
        UserError: The line names the variable and the folds that there are.
    """
    for name, folds in (("FOLD", (given.fold,)), ("FOLDS", given.folds)):
        if max(folds) >= given.n_folds:
            shown = " ".join(map(str, folds))
            raise UserError(f"{name}={shown}: N_FOLDS={given.n_folds} has folds 0 to {given.n_folds - 1}")
    if given.n_folds == N_FOLDS:
        return
    if given.task == PROMPT_TASK:
        raise UserError(f"N_FOLDS={given.n_folds}: TASK={given.task} has {N_FOLDS} folds; leave it out")
    if given.split not in FOLDED and target not in FOLD_READERS:
        raise UserError(f"N_FOLDS={given.n_folds}: SPLIT={given.split} has no folds; choose v5 or v6, or leave it out")
