"""Robustness: how much small changes of a query's text move its vector and its ranking."""

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rounds.data.images import map_words
from rounds.encoding.encoder import encode
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval import representations, search
from rounds.retrieval.representation import Vectors
from rounds.retrieval.run import NOTHING, rank_without

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
    source: Checkpoint,
    queries: dict[str, str],
    passages: dict[str, str],
    examples: list[list[str]] | None = None,
    identical: Mapping[str, list[str]] = NOTHING,
) -> list[Brittle]:
    """Embed queries before and after each of `CHANGES` and compare vectors and rankings.

    Args:
        source: the checkpoint.
        queries: id -> text; only words outside image references are changed.
        passages: the corpus, id -> text.
        examples: each query's few-shot examples; None for recipes without examples.
        identical: query id -> passages that are the query itself, which its ranking leaves out.
    """
    embedder, recipe = source.load(), source.recipe

    def embed(texts: list[str], kind: str, examples: list[list[str]] | None = None) -> Vectors:
        return encode(embedder, texts, recipe.prompts, kind, source.precision, examples=examples)

    def top_passages(vectors: Vectors) -> list[set[str]]:
        rank = functools.partial(search.rank, list(queries), vectors, list(passages), corpus)
        run = rank_without(rank, queries, identical, TOP, len(passages))
        return [set(row) for row in run.passages.tolist()]

    texts = list(queries.values())
    corpus, original = embed(list(passages.values()), "passage"), embed(texts, "query", examples)
    original_tops = top_passages(original)
    effects = []
    for name, change in CHANGES.items():
        changed = embed([map_words(text, change) for text in texts], "query", examples)
        similarity = representations.of(original).cosines(original, changed)
        changed_tops = top_passages(changed)
        shares = [len(top & other) / len(top) for top, other in zip(original_tops, changed_tops, strict=True)]
        effects.append(Brittle(name, float(similarity.mean()), float(similarity.min()), float(np.mean(shares))))
    return effects
