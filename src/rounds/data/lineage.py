"""Lineage: which questions a checkpoint and its ancestors were trained on, and the guard against leaks."""

import hashlib

from rounds.data.dataset import RetrievalDataset
from rounds.data.text import normalize_text
from rounds.errors import Refused

UNKNOWN = "lineage unknown"

CLEAN = "clean"

POLLUTED = "POLLUTED"


def questions(task: RetrievalDataset, groups: set[str]) -> dict[str, str]:
    """Group id -> short digest of its text, so that equal ids of two datasets are not taken for one question.

    >>> from rounds.data.dataset import Query, RetrievalDataset
    >>> task = RetrievalDataset("t", [Query("5_B", "5", {"question": "1 + 1?"})], {}, {})
    >>> list(questions(task, {"5"}))
    ['5']
    """
    texts = {query.group: query.fields.get("question", "") for query in task.queries if query.group in groups}
    return {group: digest(texts[group]) for group in sorted(texts, key=lambda g: (len(g), g))}


def digest(text: str) -> str:
    """First 8 hex digits of the SHA-256 of a question's text, white space collapsed."""
    return hashlib.sha256(normalize_text(text).encode()).hexdigest()[:8]


def union(*lineages: dict[str, str] | None) -> dict[str, str] | None:
    """What a checkpoint made from several (continued, merged, averaged, distilled) has seen; unknown if one is.

    Where two datasets use one id for two questions, both digests are kept, joined by `+`.

    >>> union({"1": "aa"}, {"2": "bb"}), union({"1": "aa"}, None)
    ({'1': 'aa', '2': 'bb'}, None)
    """
    if any(each is None for each in lineages):
        return None
    joined: dict[str, list[str]] = {}
    for each in lineages:
        for group, value in each.items():
            joined.setdefault(group, []).extend(value.split("+"))
    return {group: "+".join(dict.fromkeys(values)) for group, values in joined.items()}


def overlap(lineage: dict[str, str], validation: dict[str, str]) -> list[str]:
    """Validation groups that the lineage was trained on."""
    return [group for group, value in validation.items() if value in lineage.get(group, "").split("+")]


def guard(name: str, lineage: dict[str, str] | None, validation: dict[str, str], allow_leak: bool) -> str:
    """`clean`, `lineage unknown` or `POLLUTED`.

    Raises:
        Refused: the checkpoint was trained on validation questions and `allow_leak` is not set.
    """
    if lineage is None:
        return UNKNOWN
    leaked = len(overlap(lineage, validation))
    if not leaked:
        return CLEAN
    if not allow_leak:
        raise Refused(
            f"{name}: it or an ancestor was trained on {leaked} of the {len(validation)} validation questions; "
            "evaluate it on its own split, or pass --allow_leak to see numbers marked POLLUTED"
        )
    return POLLUTED
