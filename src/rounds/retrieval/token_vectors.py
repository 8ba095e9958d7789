"""Token vectors: one for each token of a text, in one array."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenVectors:
    """The vectors of all tokens of some texts, one text behind the other.

    Attributes:
        values: (tokens, dim) floats; may be memory-mapped.
        offsets: (texts + 1,) int64: the vectors of text i are `values[offsets[i] : offsets[i + 1]]`, at least one.

    >>> vectors = TokenVectors(np.eye(3), np.array([0, 2, 3]))
    >>> len(vectors), vectors[1].tolist()
    (2, [[0.0, 0.0, 1.0]])
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the vectors (tokens, dim) of one text."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def counts(self) -> np.ndarray:
        """The number of vectors of each text."""
        return np.diff(self.offsets)

    def part(self, start: int, stop: int) -> "TokenVectors":
        """Return the vectors of consecutive texts; values are not copied."""
        offsets = self.offsets[start : stop + 1]
        return TokenVectors(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def select(self, rows: np.ndarray | Sequence[int]) -> "TokenVectors":
        """Return the vectors of some texts, in memory; a text may come more than once."""
        rows = np.asarray(rows, dtype=np.int64)
        offsets = to_offsets(self.counts[rows])
        # Within each text, the places in `values` go up by one from its first.
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], np.diff(offsets))
        return TokenVectors(self.values[places], offsets)

    @classmethod
    def join(cls, texts: Sequence[np.ndarray]) -> "TokenVectors":
        """Return the vectors of texts that are given one by one, (tokens, dim) each."""
        return cls(np.concatenate(texts), to_offsets([len(vectors) for vectors in texts]))


def to_offsets(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return where each text begins and the last one ends.

    >>> to_offsets([2, 1]).tolist()
    [0, 2, 3]
    """
    return np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))])
