"""Probes: how a checkpoint takes small changes of a text, what its tokenizer makes of the data, how much fits."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rounds.data.images import map_words
from rounds.encoding.encoder import encode
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval.vectors import cosines

TOP = 25

LEAST_TOKENS, MOST_TOKENS = 1024, 131_072

ROOM = 0.8  # of the memory there is, to be used


def _other_case(text: str) -> str:
    """One word, the same for a text each time, in the other case."""
    words = text.split(" ")
    rng = random.Random(text)
    places = [n for n, word in enumerate(words) if word.lower() != word.upper()]
    if places:
        place = rng.choice(places)
        words[place] = words[place].lower() if words[place] != words[place].lower() else words[place].upper()
    return " ".join(words)


CHANGES: dict[str, Callable[[str], str]] = {
    "a space added": lambda text: f"{text} ",
    "a trailing newline": lambda text: f"{text}\n",
    "a word in other case": _other_case,
}


@dataclass(frozen=True)
class Brittle:
    """What one change does to the queries' vectors.

    Attributes:
        mean, least: cosine of a query's vector before and after.
        overlap: mean share of the top 25 that stays.
    """

    change: str
    mean: float
    least: float
    overlap: float


def brittleness(
    source: Checkpoint, queries: list[str], passages: list[str], before: list[list[str]] | None = None
) -> list[Brittle]:
    """Encode the queries once more after each of `CHANGES`."""
    embedder, recipe = source.load(), source.recipe

    def embed(texts: list[str], kind: str, examples: list[list[str]] | None = None) -> np.ndarray:
        return encode(embedder, texts, recipe.prompts, kind, source.precision, examples=examples)

    corpus, plain = embed(passages, "passage"), embed(queries, "query", before)
    tops = _tops(plain, corpus)
    found = []
    for name, change in CHANGES.items():
        vectors = embed([map_words(query, change) for query in queries], "query", before)
        similarity = cosines(plain, vectors)
        kept = [len(one & other) / len(one) for one, other in zip(tops, _tops(vectors, corpus), strict=True)]
        found.append(Brittle(name, float(similarity.mean()), float(similarity.min()), float(np.mean(kept))))
    return found


def _tops(queries: np.ndarray, corpus: np.ndarray) -> list[set[int]]:
    depth = min(TOP, len(corpus))
    return [set(np.argpartition(-(corpus @ query), depth - 1)[:depth].tolist()) for query in queries]
