"""Collect all templates, and number misconceptions, constructs and subjects."""

from __future__ import annotations

import random

from . import (
    algebra,
    angles,
    decimals,
    divisors,
    equations,
    fractions,
    geometry,
    graphs,
    measures,
    number,
    probability,
    proportion,
    rounding,
    sequences,
    solids,
    statistics,
)
from .question import Template

TOPICS = (
    number,
    rounding,
    divisors,
    fractions,
    decimals,
    proportion,
    algebra,
    equations,
    sequences,
    graphs,
    angles,
    geometry,
    solids,
    measures,
    statistics,
    probability,
)
TEMPLATES: tuple[Template, ...] = tuple(template for topic in TOPICS for template in topic.TEMPLATES)

# Each misconception's text once, in the order of the templates.
CORPUS: tuple[str, ...] = tuple(dict.fromkeys(slip.text for template in TEMPLATES for slip in template.slips))

# As in the original, a few texts have two ids, and differ in trailing line breaks only.
TWICE = CORPUS[:: len(CORPUS) // 4][1:4]


def _listed() -> tuple[str, ...]:
    """Return the misconceptions' texts by id, shuffled so that neighbouring ids share no topic."""
    texts = list(CORPUS) + [text + "\r\n" for text in TWICE]
    random.Random("misconception ids").shuffle(texts)
    return tuple(texts)


def _numbered(names: list[str], first: int, step: int) -> dict[str, int]:
    """Number the distinct names in order, with gaps."""
    return {name: first + step * place for place, name in enumerate(dict.fromkeys(names))}


LISTED = _listed()
CONSTRUCTS = _numbered([template.construct for template in TEMPLATES], 204, 17)
SUBJECTS = _numbered([template.subject for template in TEMPLATES], 33, 3)


def ids_by_text() -> dict[str, tuple[int, ...]]:
    """Return all ids of each text."""
    ids: dict[str, tuple[int, ...]] = {}
    for number_, listed in enumerate(LISTED):
        ids[listed.rstrip()] = (*ids.get(listed.rstrip(), ()), number_)
    return ids


IDS = ids_by_text()
