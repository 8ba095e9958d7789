"""Minimum Bayes risk: of several drawn texts, the one that scores best if the others were the truth."""

from collections.abc import Sequence

import numpy as np

from rounds.generation.metrics import Embed, sharpen


def choose(texts: Sequence[str], embed: Embed) -> str:
    """Return the text with the highest mean cube of the cosine (negative: 0) to the others; of equals, the first.

    A text that was drawn more than once counts as often.

    Args:
        texts: at least one.
        embed: the embedder of the metric.

    >>> axes = {"a": [1.0, 0.0], "b": [0.8, 0.6], "c": [0.0, 1.0]}
    >>> choose(["a", "b", "c"], lambda texts: np.array([axes[text] for text in texts]))
    'b'
    """
    if len(set(texts)) == 1:
        return texts[0]
    vectors = np.asarray(embed(texts))
    gains = sharpen(vectors @ vectors.T)
    np.fill_diagonal(gains, 0.0)
    return texts[int(gains.sum(axis=1).argmax())]
