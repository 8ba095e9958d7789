"""Near-duplicates: the cosine of texts over their character 4-grams, by products of sparse matrices."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

GRAM = 4  # characters

FEATURES = 2**20  # numbers that 4-grams are hashed to

CELLS_AT_ONCE = 2**22  # cosines that are held in memory, 16 MiB


class Vectorizer:
    """Turns texts into sparse vectors of unit length: counts of character 4-grams, weighted by tf-idf.

    What many texts share (LaTeX commands, "Calculate") weighs little. Case and white space do not count.

    Args:
        background: texts that say how common each 4-gram is. Others do not change a text's vector, so a cosine does
            not depend on what else is compared.
    """

    def __init__(self, background: Sequence[str]) -> None:
        self.counter = HashingVectorizer(
            analyzer="char",
            ngram_range=(GRAM, GRAM),
            n_features=FEATURES,
            alternate_sign=False,
            norm=None,
            dtype=np.float32,
        )
        self.weights = TfidfTransformer().fit(self.counter.transform(background))

    def vectors(self, texts: Sequence[str]) -> csr_matrix:
        """Return (texts, FEATURES) float32; a text shorter than four characters has a vector of zeros."""
        if not texts:
            return csr_matrix((0, FEATURES), dtype=np.float32)
        return self.weights.transform(self.counter.transform(texts)).astype(np.float32, copy=False)


def find_nearest(vectors: csr_matrix, references: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the greatest cosine of each row to a reference, (rows,) float32, and that reference's row, (rows,) int64.

    Of equal cosines the first reference counts. Without references, cosines are 0 and rows -1.
    """
    cosines, nearest = np.zeros(vectors.shape[0], np.float32), np.full(vectors.shape[0], -1, np.int64)
    if not references.shape[0]:
        return cosines, nearest
    columns = references.T.tocsr()
    step = max(1, CELLS_AT_ONCE // references.shape[0])
    for start in range(0, vectors.shape[0], step):
        part = slice(start, start + step)
        block = _cosines(vectors[part], columns)
        nearest[part] = block.argmax(axis=1)
        cosines[part] = block.max(axis=1)
    return cosines, nearest


def find_duplicates(vectors: csr_matrix, groups: Sequence[str], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Find rows that have a cosine above the threshold to an earlier row of their group that is no duplicate itself.

    Returns:
        The cosine of each duplicate to the row that it repeats, (rows,) float32, and that row, (rows,) int64; 0 and -1
        for rows that are no duplicates.
    """
    cosines, original = np.zeros(len(groups), np.float32), np.full(len(groups), -1, np.int64)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    for rows in members.values():
        if len(rows) > 1:
            _find_in_group(vectors, np.array(rows), threshold, cosines, original)
    return cosines, original


def _find_in_group(
    vectors: csr_matrix, rows: np.ndarray, threshold: float, cosines: np.ndarray, original: np.ndarray
) -> None:
    """Fill in `cosines` and `original` for the rows of one group."""
    columns = vectors[rows].T.tocsr()
    step = max(1, CELLS_AT_ONCE // len(rows))
    for start in range(0, len(rows), step):
        block = _cosines(vectors[rows[start : start + step]], columns)
        for place, similarity in enumerate(block, start):
            if not place or similarity[:place].max() <= threshold:
                continue
            earlier = np.where(original[rows[:place]] < 0, similarity[:place], -1)
            nearest = int(earlier.argmax())
            if earlier[nearest] > threshold:
                cosines[rows[place]], original[rows[place]] = earlier[nearest], rows[nearest]


def _cosines(vectors: csr_matrix, columns: csr_matrix) -> np.ndarray:
    """Return the cosines (rows, columns), without the excess over 1 that rounding leaves."""
    return np.minimum((vectors @ columns).toarray(), 1)
