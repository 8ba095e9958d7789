"""Representation: what a kind of embedding has in common with the others, from its file to its ranking.

A model embeds a text as one vector of a few hundred numbers (dense), as a vector for each token (tokens), or as one
vector over the whole vocabulary of which most numbers are zero (sparse). Stages that store, select, compare and rank
embeddings do so by the methods here, and `representations.of` finds the kind.

To add a kind, subclass `Representation` and register it in `representations.KINDS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

BLOCK_SIZE = 2**24  # numbers held at once beside the vectors and the run: 64 MB of float32

VECTORS_FILE = "vectors.npy"  # dense vectors, or those of all tokens

Vectors = Any  # (texts, dim) ndarray, `token_vectors.TokenVectors` or a sparse matrix: as `representations.KINDS` says

Allocate = Callable[[tuple[int, int]], np.ndarray]  # returns a float array of a shape, in memory or in a file


def offset_blocks(offsets: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Yield the first text, and the one behind the last, of consecutive blocks of at most `most` vectors or entries.

    A text that has more is a block by itself.

    Args:
        offsets: (texts + 1,) where each text begins and the last one ends.

    >>> list(offset_blocks(np.array([0, 1, 3, 9, 10]), 3))
    [(0, 2), (2, 3), (3, 4)]
    """
    start, count = 0, len(offsets) - 1
    while start < count:
        stop = int(np.searchsorted(offsets, offsets[start] + most, side="right")) - 1
        stop = min(max(stop, start + 1), count)
        yield start, stop
        start = stop


class VectorsBuilder(Protocol):
    """Collects the vectors of batches, which come in any order; each text comes once."""

    def put(self, rows: Sequence[int], vectors: Vectors) -> None:
        """Take the vectors of some texts, given by their rows."""

    def finish(self) -> Vectors:
        """Return the vectors of all texts, in order."""


class Representation(ABC):
    """One kind of embedding.

    Attributes:
        name: the kind's name in messages.
        what: what a text's embedding is, in words, for messages.
    """

    name: ClassVar[str]
    what: ClassVar[str]

    @abstractmethod
    def matches(self, vectors: Vectors) -> bool:
        """Return whether vectors are of this kind."""

    @abstractmethod
    def count(self, vectors: Vectors) -> int:
        """Return the number of texts."""

    @abstractmethod
    def dim(self, vectors: Vectors) -> int:
        """Return the number of dimensions of a vector."""

    def lengths(self, vectors: Vectors) -> np.ndarray:
        """Return the number of vectors of each text, (texts,) int64; most kinds have one."""
        return np.ones(self.count(vectors), np.int64)

    @abstractmethod
    def select(self, vectors: Vectors, rows: np.ndarray | Sequence[int]) -> Vectors:
        """Return the vectors of some texts, in memory."""

    @abstractmethod
    def part(self, vectors: Vectors, start: int, stop: int) -> Vectors:
        """Return the vectors of consecutive texts, not copied where that can be."""

    @abstractmethod
    def blocks(self, vectors: Vectors, numbers: int) -> Iterator[tuple[int, int]]:
        """Yield the first text, and the one behind the last, of consecutive blocks of at most `numbers` numbers.

        A text that has more is a block by itself.
        """

    @abstractmethod
    def plain(self, vectors: Vectors) -> Vectors:
        """Return the same vectors in plain arrays in place of memory-mapped ones, as other machines can read them."""

    @abstractmethod
    def find_not_finite(self, vectors: Vectors, block_size: int = BLOCK_SIZE) -> np.ndarray:
        """Return the rows of texts whose vectors hold NaN or infinity; `block_size` numbers are read at once."""

    @abstractmethod
    def builder(self, lengths: Sequence[int], allocate: Allocate) -> VectorsBuilder:
        """Return what collects the vectors of texts while they are encoded.

        Args:
            lengths: the number of vectors of each text, where a text may have several.
            allocate: returns the array for dense vectors or those of tokens.
        """

    @abstractmethod
    def take(self, vectors: Vectors, rows: Sequence[int], allocate: Allocate) -> Vectors:
        """Return the vectors of texts that may repeat, in an array that `allocate` returns where there is one."""

    @abstractmethod
    def write_rest(self, vectors: Vectors, folder: Path) -> None:
        """Write the files of encoded vectors that do not exist yet: `allocate` may have made `VECTORS_FILE`."""

    @abstractmethod
    def is_in(self, folder: Path) -> bool:
        """Return whether a folder holds vectors of this kind."""

    @abstractmethod
    def load(self, folder: Path) -> Vectors:
        """Read the vectors of a folder, memory-mapped where they can be.

        Raises:
            UserError: files are missing or damaged.
        """

    @abstractmethod
    def search(
        self, queries: Vectors, passages: Vectors, depth: int, index: object | None, block_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best passages of each query; passages with equal rounded scores keep the corpus's order.

        Args:
            depth: passages per query, at most the corpus.
            index: an approximate index that proposes candidates (`build_index`); None searches exactly.
            block_size: numbers held at once beside the vectors and the result; it changes memory, never results.

        Returns:
            (queries, depth) float64 scores, falling along each row, and (queries, depth) rows of `passages`.
        """

    @abstractmethod
    def build_index(self, kind: str, folder: Path) -> object:
        """Build an approximate index of a folder's vectors, and keep the last one.

        Raises:
            UserError: there is no such index for this kind, or the corpus is too small for it.
        """

    @abstractmethod
    def build_part_index(self, kind: str, vectors: Vectors) -> object | None:
        """Build an approximate index of a part of a corpus; return None for a part that is too small for it.

        Raises:
            UserError: there is no such index for this kind.
        """

    @abstractmethod
    def training_scores(self, queries: Vectors, passages: Vectors) -> np.ndarray:
        """Return the similarities that the losses see, before the temperature: (queries, passages)."""

    @abstractmethod
    def pair_scores(self, queries: Vectors, passages: Vectors) -> np.ndarray:
        """Return the score of each query with the passage of the same row, as `search` ranks by it: (rows,)."""

    @abstractmethod
    def cosines(self, vectors: Vectors, others: Vectors) -> np.ndarray:
        """Return how similar the embeddings of the same row are, (rows,): 1 where both are the same, at most 1."""

    @abstractmethod
    def pooled(self, vectors: Vectors) -> np.ndarray:
        """Return one dense vector for each text, (texts, dim) floats, to compare texts of one corpus by."""

    def statistics(self, queries: Vectors, passages: Vectors) -> dict[str, float]:
        """Return further metrics of the two sides of a search, by name; most kinds have none."""
        return {}

    @abstractmethod
    def probe(self, vectors: Vectors, row: int) -> np.ndarray:
        """Return the numbers of a text's embedding in one row, for a run's fingerprint."""
