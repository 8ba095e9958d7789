"""Freshness: whether a stage's output is what its command would make now, judged by content alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.pipeline import keys
from rounds.pipeline.stages import Stage

FRESH, STALE, MISSING = "fresh", "stale", "missing"
MOST_REASONS = 3


@dataclass(frozen=True)
class State:
    """What stands where a stage's output belongs.

    Attributes:
        kind: `FRESH`, `STALE` or `MISSING`.
        reasons: of a stale output, `key: old -> new` for each key that changed.
        digest: of the key that a fresh output has; stages that read it depend on that.
    """

    kind: str
    reasons: tuple[str, ...]
    digest: str

    @property
    def is_fresh(self) -> bool:
        """Whether nothing is to be done."""
        return self.kind == FRESH


def in_order(targets: Iterable[Stage]) -> list[Stage]:
    """The stages that some targets need, and these, each after its inputs and only once."""
    ordered: dict[Path, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.output not in ordered:
            for earlier in stage.inputs:
                visit(earlier)
            ordered[stage.output] = stage

    for target in targets:
        visit(target)
    return list(ordered.values())


def state(stage: Stage, planned: Mapping[str, str] | None = None) -> State:
    """Compare the key in the output's manifest with the one that the stage's command has now.

    Args:
        planned: digests of inputs that are to be made first, by path.
    """
    made_from = keys.made_from(stage.command, planned)
    digest = hashing.made_from_digest(made_from)
    if store.is_made_from(stage.output, made_from):
        return State(FRESH, (), digest)
    record = store.read_made_from(stage.output)
    if record is None:
        return State(MISSING, (), digest)
    if not record:
        return State(STALE, ("its manifest does not say what it was made from",), digest)
    changes = store.differences(record, made_from)
    return State(STALE, tuple(changes) or (f"{stage.output.name}: was changed after it was made",), digest)


def states(targets: Iterable[Stage]) -> list[tuple[Stage, State]]:
    """All stages of some targets with their states, as if each stale one were made anew in turn."""
    planned: dict[str, str] = {}
    judged = []
    for stage in in_order(targets):
        judged.append((stage, state(stage, planned)))
        planned[stage.output.as_posix()] = judged[-1][1].digest
    return judged


def are_fresh(targets: Iterable[Stage]) -> bool:
    """Whether nothing is to be done for some targets, nor for any stage that they need."""
    return all(state.is_fresh for _, state in states(targets))


def summary(reasons: Sequence[str]) -> str:
    """The first reasons of a stale stage, in one line.

    >>> summary(["a: 1 -> 2", "b: 1 -> 2", "c: 1 -> 2", "d: 1 -> 2"])
    'a: 1 -> 2; b: 1 -> 2; c: 1 -> 2; and 1 more'
    """
    more = len(reasons) - MOST_REASONS
    return "; ".join([*reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else [])])
