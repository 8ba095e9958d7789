"""Baselines: predictions of prompts that no generator makes."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rounds.generation.metrics import Embed, sharpen
from rounds.generation.rows import PromptRow
from rounds.retrieval import search

BLOCK = 1024  # prompts that are compared with all others at once

TITLES = {
    "copy": "copy the original",
    "fixed": "one fixed prompt (mean prompt)",
    "nearest": "prompt of the nearest training pair",
    "joined": "fixed + nearest, joined",
}


def predict(train: list[PromptRow], rows: list[PromptRow], embed: Embed) -> dict[str, list[str]]:
    """Return the predictions of each baseline of `TITLES`, in the order of the rows.

    Args:
        train: rows with prompts.
        rows: rows to predict; their prompts are not read.
        embed: the embedder of the metric.
    """
    fixed = [fixed_prompt([row.rewrite_prompt for row in train], embed)] * len(rows)
    nearest = nearest_prompts(train, rows, embed)
    copied = [row.original_text for row in rows]
    return {"copy": copied, "fixed": fixed, "nearest": nearest, "joined": join([fixed, nearest])}


def fixed_prompt(prompts: Sequence[str], embed: Embed) -> str:
    """Return the prompt that scores best as the prediction of all of them; of equals, the first.

    A prompt counts as often as it comes. Prompts are compared in blocks, so that memory grows with their number, not
    with its square.
    """
    counts = Counter(prompts)
    distinct = list(counts)
    vectors = embed(distinct)
    weights = np.array([counts[prompt] for prompt in distinct], np.float64)
    scores = np.empty(len(distinct))
    for start in range(0, len(distinct), BLOCK):
        scores[start : start + BLOCK] = sharpen(vectors[start : start + BLOCK] @ vectors.T) @ weights
    return distinct[int(scores.argmax())]


def nearest_prompts(train: list[PromptRow], rows: list[PromptRow], embed: Embed) -> list[str]:
    """Return for each row the prompt of the training row whose original and rewriting together are most similar.

    The vector of a row is those of its two texts side by side, so a similarity is the mean of two cosines.
    """
    prompts = {row.id: row.rewrite_prompt for row in train}
    run = search.rank(
        [row.id for row in rows], _pair_vectors(rows, embed), list(prompts), _pair_vectors(train, embed), 1
    )
    nearest = dict(zip(run.queries, run.passages[:, 0].tolist(), strict=True))
    return [prompts[nearest[row.id]] for row in rows]


def _pair_vectors(rows: list[PromptRow], embed: Embed) -> np.ndarray:
    sides = [embed([row.original_text for row in rows]), embed([row.rewritten_text for row in rows])]
    return np.concatenate(sides, axis=1) / np.sqrt(np.float32(2))


def join(predictions: Sequence[Sequence[str]]) -> list[str]:
    """Return each row's predictions, joined by a blank; one that repeats an earlier one is left out.

    >>> join([["Shout.", "Shout."], ["Shout.", "Sing."]])
    ['Shout.', 'Shout. Sing.']
    """
    return [" ".join(dict.fromkeys(texts)) for texts in zip(*predictions, strict=True)]
