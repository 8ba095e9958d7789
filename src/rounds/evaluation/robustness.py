"""Robustness: how much small changes of a query's text move its vector and its ranking."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rounds.data.images import map_words
from rounds.encoding.encoder import encode
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval.vectors import cosines

TOP = 25


def _swap_case_of_a_word(text: str) -> str:
    """Change the case of one word, which is the same word each time for a text."""
    words = text.split(" ")
    rng = random.Random(text)
    cased = [position for position, word in enumerate(words) if word.lower() != word.upper()]
    if cased:
        position = rng.choice(cased)
        word = words[position]
        words[position] = word.lower() if word != word.lower() else word.upper()
    return " ".join(words)


CHANGES: dict[str, Callable[[str], str]] = {
    "a space added": lambda text: f"{text} ",
    "a trailing newline": lambda text: f"{text}\n",
    "a word in other case": _swap_case_of_a_word,
}


@dataclass(frozen=True)
class Brittle:
    """The effect of one change on the queries.

    Attributes:
        change: the name of the change, a key of `CHANGES`.
        mean: mean cosine of a query's vector before and after the change.
        least: the lowest of these cosines.
        overlap: mean share of a query's top 25 passages that stays in its top 25.
    """

    change: str
    mean: float
    least: float
    overlap: float


def brittleness(
    source: Checkpoint, queries: list[str], passages: list[str], examples: list[list[str]] | None = None
) -> list[Brittle]:
    """Embed queries before and after each of `CHANGES` and compare vectors and rankings.

    Args:
        source: the checkpoint.
        queries: texts; only words outside image references are changed.
        passages: texts of the corpus.
        examples: each query's few-shot examples; None for recipes without examples.
    """
    embedder, recipe = source.load(), source.recipe

    def embed(texts: list[str], kind: str, examples: list[list[str]] | None = None) -> np.ndarray:
        return encode(embedder, texts, recipe.prompts, kind, source.precision, examples=examples)

    corpus, original = embed(passages, "passage"), embed(queries, "query", examples)
    original_tops = _top_passages(original, corpus)
    effects = []
    for name, change in CHANGES.items():
        changed = embed([map_words(query, change) for query in queries], "query", examples)
        similarity = cosines(original, changed)
        changed_tops = _top_passages(changed, corpus)
        shares = [len(top & other) / len(top) for top, other in zip(original_tops, changed_tops, strict=True)]
        effects.append(Brittle(name, float(similarity.mean()), float(similarity.min()), float(np.mean(shares))))
    return effects


def _top_passages(queries: np.ndarray, corpus: np.ndarray) -> list[set[int]]:
    """Return the rows of each query's best `TOP` passages."""
    depth = min(TOP, len(corpus))
    return [set(np.argpartition(-(corpus @ query), depth - 1)[:depth].tolist()) for query in queries]
