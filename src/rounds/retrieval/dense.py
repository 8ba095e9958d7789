"""Dense vectors: one for each text, in a (texts, dim) array."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rounds.errors import UserError
from rounds.estimate import estimate_search
from rounds.retrieval import ann_index, exact_search
from rounds.retrieval import vectors as dense_vectors
from rounds.retrieval.representation import BLOCK_SIZE, VECTORS_FILE, Allocate, Representation


class DenseBuilder:
    """Collects vectors in the array that `allocate` returns once their dimension is known."""

    def __init__(self, count: int, allocate: Allocate) -> None:
        self.count, self.allocate, self.vectors = count, allocate, None

    def put(self, rows: Sequence[int], vectors: np.ndarray) -> None:
        """Take the vectors (rows, dim) of some texts."""
        if self.vectors is None:
            self.vectors = self.allocate((self.count, vectors.shape[1]))
        self.vectors[rows] = vectors

    def finish(self) -> np.ndarray:
        """Return the vectors of all texts."""
        return self.vectors


class Dense(Representation):
    """One vector for each text, compared by inner product."""

    name, what = "dense", "one vector"

    def matches(self, vectors: np.ndarray) -> bool:
        return isinstance(vectors, np.ndarray)

    def count(self, vectors: np.ndarray) -> int:
        return len(vectors)

    def dim(self, vectors: np.ndarray) -> int:
        return vectors.shape[1]

    def select(self, vectors: np.ndarray, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        return dense_vectors.widen(vectors[rows])

    def part(self, vectors: np.ndarray, start: int, stop: int) -> np.ndarray:
        return vectors[start:stop]

    def blocks(self, vectors: np.ndarray, numbers: int) -> Iterator[tuple[int, int]]:
        rows = max(1, numbers // vectors.shape[1])
        return ((start, min(start + rows, len(vectors))) for start in range(0, len(vectors), rows))

    def plain(self, vectors: np.ndarray) -> np.ndarray:
        return np.asarray(vectors)

    def find_not_finite(self, vectors: np.ndarray, block_size: int = BLOCK_SIZE) -> np.ndarray:
        return np.array(exact_search.not_finite_rows(vectors, block_size), dtype=np.int64)

    def builder(self, lengths: Sequence[int], allocate: Allocate) -> DenseBuilder:
        return DenseBuilder(len(lengths), allocate)

    def take(self, vectors: np.ndarray, rows: Sequence[int], allocate: Allocate) -> np.ndarray:
        result = allocate((len(rows), vectors.shape[1]))
        return np.take(vectors, rows, axis=0, out=result, mode="clip")

    def write_rest(self, vectors: np.ndarray, folder: Path) -> None:
        """Write nothing: the array is the file."""

    def is_in(self, folder: Path) -> bool:
        return (folder / VECTORS_FILE).is_file()

    def load(self, folder: Path) -> np.ndarray:
        try:
            return np.load(folder / VECTORS_FILE, mmap_mode="r")
        except (ValueError, EOFError):
            raise UserError(f"{folder}: its vectors cannot be read; delete it to encode anew") from None

    def search(
        self, queries: np.ndarray, passages: np.ndarray, depth: int, index: object | None, block_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = np.empty((len(queries), depth))
        rows = np.empty((len(queries), depth), np.int64)
        queries_at_once = max(1, block_size // (depth + exact_search.EXTRA_CANDIDATES + queries.shape[1]))
        estimate = estimate_search(len(passages), len(queries))
        for start in range(0, len(queries), queries_at_once):
            part = slice(start, start + queries_at_once)
            block = exact_search.to_float32(queries[part])
            with np.errstate(over="ignore"):  # the caller checks the scores
                if index is None:
                    on_passages = estimate.of_part(start, len(block), len(queries))
                    scores[part], rows[part] = exact_search.search(block, passages, depth, block_size, on_passages)
                else:
                    scores[part], rows[part] = ann_index.search(block, passages, depth, index)
                    estimate.update(start + len(block), len(queries))
        return scores, rows

    def build_index(self, kind: str, folder: Path) -> object:
        return ann_index.build_from_file(kind, folder / VECTORS_FILE)

    def build_part_index(self, kind: str, vectors: np.ndarray) -> object | None:
        return ann_index.build_part(kind, vectors)

    def training_scores(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        return np.asarray(queries, dtype=np.float64) @ np.asarray(passages, dtype=np.float64).T

    def pair_scores(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->i", dense_vectors.widen(queries), dense_vectors.widen(passages))

    def cosines(self, vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
        return dense_vectors.cosines(dense_vectors.widen(vectors), dense_vectors.widen(others))

    def pooled(self, vectors: np.ndarray) -> np.ndarray:
        return dense_vectors.widen(vectors)

    def probe(self, vectors: np.ndarray, row: int) -> np.ndarray:
        return dense_vectors.widen(vectors[row])
