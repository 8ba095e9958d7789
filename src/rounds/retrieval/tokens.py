"""Late interaction as a representation: a vector for each token, compared by MaxSim (ColBERT, arXiv:2004.12832)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rounds.errors import UserError
from rounds.retrieval import ann_index, token_index, token_search
from rounds.retrieval.exact_search import not_finite_rows
from rounds.retrieval.representation import BLOCK_SIZE, VECTORS_FILE, Allocate, Representation, offset_blocks
from rounds.retrieval.token_vectors import TokenVectors, to_offsets
from rounds.retrieval.vectors import unit_vectors

OFFSETS_FILE = "offsets.npy"

ROWS_AT_ONCE = 4096  # texts that are copied at once


class TokensBuilder:
    """Collects token vectors in one array, in the order of the texts; their number is known before they are."""

    def __init__(self, lengths: Sequence[int], allocate: Allocate) -> None:
        self.offsets, self.allocate, self.values = to_offsets(lengths), allocate, None

    def put(self, rows: Sequence[int], vectors: TokenVectors) -> None:
        """Take the vectors of some texts."""
        if self.values is None:
            self.values = self.allocate((int(self.offsets[-1]), vectors.values.shape[1]))
        for place, row in enumerate(rows):
            self.values[self.offsets[row] : self.offsets[row + 1]] = vectors[place]

    def finish(self) -> TokenVectors:
        """Return the vectors of all texts."""
        return TokenVectors(self.values, self.offsets)


class Tokens(Representation):
    """A vector for each token, compared by MaxSim: the sum of each query token's best match in the passage."""

    name, what = "tokens", "a vector for each token"

    def matches(self, vectors: TokenVectors) -> bool:
        return isinstance(vectors, TokenVectors)

    def count(self, vectors: TokenVectors) -> int:
        return len(vectors)

    def dim(self, vectors: TokenVectors) -> int:
        return vectors.values.shape[1]

    def lengths(self, vectors: TokenVectors) -> np.ndarray:
        return vectors.counts

    def select(self, vectors: TokenVectors, rows: np.ndarray | Sequence[int]) -> TokenVectors:
        return vectors.select(rows)

    def part(self, vectors: TokenVectors, start: int, stop: int) -> TokenVectors:
        return vectors.part(start, stop)

    def blocks(self, vectors: TokenVectors, numbers: int) -> Iterator[tuple[int, int]]:
        return offset_blocks(vectors.offsets, numbers // self.dim(vectors))

    def plain(self, vectors: TokenVectors) -> TokenVectors:
        return TokenVectors(np.asarray(vectors.values), vectors.offsets)

    def find_not_finite(self, vectors: TokenVectors, block_size: int = BLOCK_SIZE) -> np.ndarray:
        tokens = not_finite_rows(vectors.values, block_size)
        return np.unique(np.searchsorted(vectors.offsets, tokens, side="right") - 1).astype(np.int64)

    def builder(self, lengths: Sequence[int], allocate: Allocate) -> TokensBuilder:
        return TokensBuilder(lengths, allocate)

    def take(self, vectors: TokenVectors, rows: Sequence[int], allocate: Allocate) -> TokenVectors:
        counts = vectors.counts
        builder = self.builder([counts[row] for row in rows], allocate)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            builder.put(range(start, start + len(part)), vectors.select(part))
        return builder.finish()

    def write_rest(self, vectors: TokenVectors, folder: Path) -> None:
        np.save(folder / OFFSETS_FILE, vectors.offsets)

    def is_in(self, folder: Path) -> bool:
        return (folder / OFFSETS_FILE).is_file() and (folder / VECTORS_FILE).is_file()

    def load(self, folder: Path) -> TokenVectors:
        try:
            values, offsets = np.load(folder / VECTORS_FILE, mmap_mode="r"), np.load(folder / OFFSETS_FILE)
        except (OSError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{folder}: token vectors cannot be read ({reason}); delete it to encode anew") from None
        is_whole = values.ndim == 2 and offsets.ndim == 1 and len(offsets) and offsets[-1] == len(values)
        if not (is_whole and offsets[0] == 0 and (np.diff(offsets) > 0).all()):
            raise UserError(
                f"{folder}: {OFFSETS_FILE} does not fit the vectors of {VECTORS_FILE}; delete it to encode anew"
            )
        return TokenVectors(values, offsets)

    def search(
        self, queries: TokenVectors, passages: TokenVectors, depth: int, index: object | None, block_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if index is None:
            return token_search.search(queries, passages, depth, block_size)
        return token_index.search(queries, passages, depth, index, block_size)

    def build_index(self, kind: str, folder: Path) -> object:
        return token_index.build_from_folder(kind, folder)

    def build_part_index(self, kind: str, vectors: TokenVectors) -> object | None:
        return ann_index.build_part(kind, vectors.values)

    def training_scores(self, queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
        return token_search.all_scores(queries, passages) / queries.counts[:, None]

    def pair_scores(self, queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
        return token_search.pair_scores(queries, passages)

    def cosines(self, vectors: TokenVectors, others: TokenVectors) -> np.ndarray:
        """Return the mean cosine of each text's tokens with their best matches in the other, by both texts' tokens."""
        units, other_units = (TokenVectors(unit_vectors(side.values), side.offsets) for side in (vectors, others))
        forward = token_search.pair_scores(units, other_units) / units.counts
        backward = token_search.pair_scores(other_units, units) / other_units.counts
        return (forward + backward) / 2

    def pooled(self, vectors: TokenVectors) -> np.ndarray:
        """Return the mean of each text's token vectors."""
        if not len(vectors):
            return np.zeros((0, vectors.values.shape[1]))
        sums = np.add.reduceat(np.asarray(vectors.values, dtype=np.float32), vectors.offsets[:-1], axis=0)
        return sums / vectors.counts[:, None]

    def probe(self, vectors: TokenVectors, row: int) -> np.ndarray:
        return vectors[row].reshape(-1)
