"""Sparse vectors: one for each text, over the whole vocabulary, of which most numbers are zero (SPLADE)."""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from rounds.errors import UserError
from rounds.retrieval import sparse_search
from rounds.retrieval.representation import BLOCK_SIZE, VECTORS_FILE, Allocate, Representation, offset_blocks
from rounds.retrieval.vectors import MIN_NORM

ROWS_FILE = "sparse.npz"  # `indptr`: where each text's entries begin and the last one's end; `dim`

SPOOL_BYTES = 2**26  # entries of batches up to this size wait in memory, more of them in a file

ROWS_AT_ONCE = 4096  # texts that are copied at once

BUCKETS = 1024  # of the vectors that are written down to compare machines

FLOOR = 1e-3  # stands behind them, so that vectors of no word have a cosine, too

ENTRY = np.dtype([("weight", np.float32), ("word", np.int32)])


class SparseBuilder:
    """Collects sparse vectors: entries wait in a spooled file until all are known, and are then put in order.

    The array that `allocate` returns holds the weights in its first row, and in its second the words: int32, by their
    bits.
    """

    def __init__(self, count: int, allocate: Allocate) -> None:
        self.allocate, self.dim = allocate, 0
        self.counts, self.starts = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.spool, self.written = tempfile.SpooledTemporaryFile(SPOOL_BYTES), 0

    def put(self, rows: Sequence[int], vectors: sparse.csr_array) -> None:
        """Take the vectors of some texts."""
        self.dim = vectors.shape[1]
        entries = np.empty(vectors.nnz, ENTRY)
        entries["weight"], entries["word"] = vectors.data, vectors.indices
        self.counts[rows] = np.diff(vectors.indptr)
        self.starts[rows] = self.written + vectors.indptr[:-1]
        self.spool.seek(0, 2)
        self.spool.write(entries.tobytes())
        self.written += vectors.nnz

    def finish(self) -> sparse.csr_array:
        """Return the vectors of all texts."""
        indptr = np.concatenate([[0], np.cumsum(self.counts)])
        array = self.allocate((2, max(int(indptr[-1]), 1)))  # a file of no entry cannot be mapped
        array[:, indptr[-1] :] = 0
        for row in np.argsort(self.starts, kind="stable"):
            self.spool.seek(int(self.starts[row]) * ENTRY.itemsize)
            entries = np.frombuffer(self.spool.read(int(self.counts[row]) * ENTRY.itemsize), ENTRY)
            array[0, indptr[row] : indptr[row + 1]] = entries["weight"]
            array[1, indptr[row] : indptr[row + 1]] = entries["word"].view(np.float32)
        return _as_matrix(array, indptr, self.dim)


def _as_matrix(array: np.ndarray, indptr: np.ndarray, dim: int) -> sparse.csr_array:
    """Return the matrix of entries as `SparseBuilder` arranges them; they are not copied."""
    entries = int(indptr[-1])
    words = array[1].view(np.int32)[:entries]
    if entries < 2**31:
        indptr = indptr.astype(np.int32)  # scipy takes one type for both, and would copy the other
    return sparse.csr_array((array[0, :entries], words, indptr), shape=(len(indptr) - 1, dim), copy=False)


@dataclass(frozen=True)
class Sparsity:
    """How sparse two sides of a search are.

    Attributes:
        query, passage: mean number of entries of a vector that are not zero.
        flops: mean number of multiplications that comparing a query with a passage takes: the sum over the vocabulary
            of the share of queries times the share of passages that have the word (arXiv:2004.05665).
    """

    query: float
    passage: float
    flops: float


def sparsity(queries: sparse.csr_array, passages: sparse.csr_array) -> Sparsity:
    """Count entries that are not zero.

    >>> vectors = sparse.csr_array(np.array([[0.5, 0.0, 2.0], [0.0, 0.0, 1.0]], dtype="f4"))
    >>> sparsity(vectors, vectors)
    Sparsity(query=1.5, passage=1.5, flops=1.25)
    """
    shares = [
        np.bincount(side.indices, minlength=side.shape[1]) / max(side.shape[0], 1) for side in (queries, passages)
    ]
    return Sparsity(*(float(share.sum()) for share in shares), flops=float(shares[0] @ shares[1]))


class Sparse(Representation):
    """One vector over the vocabulary for each text, compared by inner product: scipy's `csr_array`."""

    name, what = "sparse", "one sparse vector"

    def matches(self, vectors: sparse.csr_array) -> bool:
        return sparse.issparse(vectors)

    def count(self, vectors: sparse.csr_array) -> int:
        return vectors.shape[0]

    def dim(self, vectors: sparse.csr_array) -> int:
        return vectors.shape[1]

    def select(self, vectors: sparse.csr_array, rows: np.ndarray | Sequence[int]) -> sparse.csr_array:
        return vectors[np.asarray(rows, dtype=np.int64)]

    def part(self, vectors: sparse.csr_array, start: int, stop: int) -> sparse.csr_array:
        return vectors[start:stop]

    def blocks(self, vectors: sparse.csr_array, numbers: int) -> Iterator[tuple[int, int]]:
        return offset_blocks(vectors.indptr, numbers // 2)  # an entry is a weight and a word

    def plain(self, vectors: sparse.csr_array) -> sparse.csr_array:
        arrays = map(np.asarray, (vectors.data, vectors.indices, vectors.indptr))
        return sparse.csr_array(tuple(arrays), shape=vectors.shape, copy=False)

    def find_not_finite(self, vectors: sparse.csr_array, block_size: int = BLOCK_SIZE) -> np.ndarray:
        places = [
            start + np.flatnonzero(~np.isfinite(vectors.data[start : start + block_size]))
            for start in range(0, vectors.nnz, block_size)
        ]
        entries = np.concatenate([np.empty(0, np.int64), *places])
        return np.unique(np.searchsorted(vectors.indptr, entries, side="right") - 1)

    def builder(self, lengths: Sequence[int], allocate: Allocate) -> SparseBuilder:
        return SparseBuilder(len(lengths), allocate)

    def take(self, vectors: sparse.csr_array, rows: Sequence[int], allocate: Allocate) -> sparse.csr_array:
        builder = SparseBuilder(len(rows), allocate)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            builder.put(range(start, start + len(part)), self.select(vectors, part))
        return builder.finish()

    def write_rest(self, vectors: sparse.csr_array, folder: Path) -> None:
        np.savez(folder / ROWS_FILE, indptr=vectors.indptr, dim=vectors.shape[1])

    def is_in(self, folder: Path) -> bool:
        return (folder / ROWS_FILE).is_file() and (folder / VECTORS_FILE).is_file()

    def load(self, folder: Path) -> sparse.csr_array:
        try:
            array = np.load(folder / VECTORS_FILE, mmap_mode="r")
            with np.load(folder / ROWS_FILE) as rows:
                indptr, dim = rows["indptr"].astype(np.int64), int(rows["dim"])
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{folder}: sparse vectors cannot be read ({reason}); delete it to encode anew") from None
        is_whole = array.ndim == 2 and len(array) == 2 and len(indptr) and array.shape[1] == max(indptr[-1], 1)
        if not (is_whole and indptr[0] == 0 and (np.diff(indptr) >= 0).all()):
            raise UserError(f"{folder}: {ROWS_FILE} does not fit {VECTORS_FILE}; delete it to encode anew")
        return _as_matrix(array, indptr, dim)

    def search(
        self,
        queries: sparse.csr_array,
        passages: sparse.csr_array,
        depth: int,
        index: object | None,
        block_size: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        return sparse_search.search(queries, passages, depth, block_size)

    def build_index(self, kind: str, folder: Path) -> object:
        return self.build_part_index(kind, None)

    def build_part_index(self, kind: str, vectors: sparse.csr_array | None) -> None:
        raise UserError(f"index {kind}: indexes dense vectors, and these are sparse; set mining.index: exact")

    def training_scores(self, queries: sparse.csr_array, passages: sparse.csr_array) -> np.ndarray:
        return sparse_search.all_scores(queries, passages)

    def pair_scores(self, queries: sparse.csr_array, passages: sparse.csr_array) -> np.ndarray:
        return sparse_search.pair_scores(queries, passages)

    def cosines(self, vectors: sparse.csr_array, others: sparse.csr_array) -> np.ndarray:
        norms, other_norms = (linalg.norm(side, axis=1) for side in (vectors, others))
        similarity = sparse_search.pair_scores(vectors, others) / np.maximum(norms * other_norms, MIN_NORM)
        return np.where((norms == 0) & (other_norms == 0), 1.0, similarity)  # texts without a word are the same

    def pooled(self, vectors: sparse.csr_array) -> np.ndarray:
        """Return the columns of the words that occur: the others are 0 in every text."""
        return vectors[:, np.unique(vectors.indices)].toarray()

    def statistics(self, queries: sparse.csr_array, passages: sparse.csr_array) -> dict[str, float]:
        counted = sparsity(queries, passages)
        figures = {"query words": counted.query, "passage words": counted.passage, "FLOPS": counted.flops}
        return {name: round(figure, 4) for name, figure in figures.items()}

    def probe(self, vectors: sparse.csr_array, row: int) -> np.ndarray:
        """Return a vector folded to `BUCKETS` numbers, the sums over the words of equal remainder, and `FLOOR`."""
        start, stop = vectors.indptr[row], vectors.indptr[row + 1]
        words, weights = vectors.indices[start:stop], vectors.data[start:stop]
        return np.append(np.bincount(words % BUCKETS, weights=weights, minlength=BUCKETS), FLOOR)
