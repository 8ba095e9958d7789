"""Lineage: the questions that a checkpoint and its ancestors were trained on, and the guard against leaks.

A lineage maps question ids to digests of their texts, so that equal ids of two datasets are not taken for one question.
"""

import hashlib
import re
from collections import Counter

from rounds.artifacts import hashing
from rounds.data.dataset import RetrievalDataset
from rounds.data.text import normalize_text
from rounds.errors import Refused

UNKNOWN = "lineage unknown"

CLEAN = "clean"

POLLUTED = "POLLUTED"

NUMBERED, BY_TEXT = re.compile(r"q\d+"), re.compile(r"[0-9a-f]{16}")  # groups of pairs, by place and by digest

OUTSIDE = "outside:"  # begins the id of an outside question: `outside:SOURCE:DIGEST`


def question_digests(dataset: RetrievalDataset, groups: set[str]) -> dict[str, str]:
    """Return the lineage of training on `groups`: group id -> digest of its question, smaller ids first.

    A group of several questions (an article's, an author's) has the digests of all, joined by `+`.

    >>> from rounds.data.dataset import Query, RetrievalDataset
    >>> dataset = RetrievalDataset("t", [Query("5_B", "5", {"question": "1 + 1?"})], {}, {})
    >>> list(question_digests(dataset, {"5"}))
    ['5']
    """
    texts: dict[str, dict[str, None]] = {group: {} for group in sorted(groups, key=lambda group: (len(group), group))}
    for query in dataset.queries:
        if query.group in groups:
            texts[query.group][query.fields.get("question", "")] = None
    return {group: "+".join(dict.fromkeys(map(digest, questions))) for group, questions in texts.items() if questions}


def questions_digest(questions: dict[str, str]) -> str:
    """Return 12 hexadecimal digits that stand for a set of questions, as `question_digests` returns it."""
    return hashing.sha256_json(questions)[:12]


def digest(text: str) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256 of a question's text, with white space collapsed."""
    return hashlib.sha256(normalize_text(text).encode()).hexdigest()[:8]


def outside_id(source: str, question: str) -> str:
    """Return the id of an outside question; equal texts of one source are one question."""
    return f"{OUTSIDE}{source}:{digest(question)}"


def outside_sources(lineage: dict[str, str] | None) -> dict[str, int]:
    """Return source -> number of outside questions in a lineage; empty if it has none or is unknown.

    >>> outside_sources({"12": "aa", "outside:model A:2:bb": "bb", "outside:model A:2:cc": "cc"})
    {'model A:2': 2}
    """
    groups = [group for group in lineage or {} if group.startswith(OUTSIDE)]
    return dict(Counter(group.removeprefix(OUTSIDE).rpartition(":")[0] for group in groups))


def union(*lineages: dict[str, str] | None) -> dict[str, str] | None:
    """Return the lineage of a checkpoint made from several others (continued, merged, averaged or distilled).

    It is unknown (None) if one of them is. Where two datasets use one id for two questions, both digests are kept,
    joined by `+`.

    >>> union({"1": "aa"}, {"2": "bb"}), union({"1": "aa"}, None)
    ({'1': 'aa', '2': 'bb'}, None)
    """
    if any(lineage is None for lineage in lineages):
        return None
    joined: dict[str, dict[str, None]] = {}
    for lineage in lineages:
        for group, digests in lineage.items():
            joined.setdefault(group, {}).update(dict.fromkeys(digests.split("+")))
    return {group: "+".join(digests) for group, digests in joined.items()}


def overlap(lineage: dict[str, str], validation: dict[str, str]) -> list[str]:
    """Return the validation groups that the lineage was trained on.

    Checkpoints of pairs once named their groups by place (`q0`), which are known by their texts alone today.
    """
    numbered = {
        each for group, questions in lineage.items() if NUMBERED.fullmatch(group) for each in questions.split("+")
    }

    def trained(group: str) -> set[str]:
        by_text = numbered if group not in lineage and BY_TEXT.fullmatch(group) else set()
        return by_text | set(lineage.get(group, "").split("+"))

    return [group for group, questions in validation.items() if not trained(group).isdisjoint(questions.split("+"))]


def guard(
    name: str,
    lineage: dict[str, str] | None,
    validation: dict[str, str],
    allow_leak: bool | None,
    noun: str = "questions",
) -> str:
    """Return whether a checkpoint may be evaluated: `clean`, `lineage unknown` or, if leaks are allowed, `POLLUTED`.

    Args:
        name: the checkpoint's name, for the message.
        validation: validation group -> digest of its question.
        allow_leak: the flag's value; None where the script has no such flag, so that the message names none.
        noun: what the validation groups are, for the message.

    Raises:
        Refused: the checkpoint was trained on validation questions and `allow_leak` is not set.
    """
    if lineage is None:
        return UNKNOWN
    leaked = len(overlap(lineage, validation))
    if not leaked:
        return CLEAN
    if not allow_leak:
        otherwise = "" if allow_leak is None else ", or pass --allow_leak to see numbers marked POLLUTED"
        raise Refused(
            f"{name}: it or an ancestor was trained on {leaked} of the {len(validation)} validation {noun}; "
            f"evaluate it on its own split{otherwise}"
        )
    return POLLUTED
