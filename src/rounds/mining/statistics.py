"""Statistics of a round's mined negatives: their sources, similarity to the positive, and share of false negatives."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.artifacts.manifests import MinedManifest
from rounds.data.source import MINED
from rounds.encoding import run_store
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.vectors import unit_vectors

PAIRS_AT_ONCE = 512  # of passages that are pooled and compared

BINS = np.linspace(-0.2, 1.0, 25)  # edges of cosine bins; hardly any pair is below -0.2


@dataclass(frozen=True)
class MinedStatistics:
    """Statistics of a round's negatives.

    Attributes:
        sources: number of negatives from each source (`dense`, `bm25`, ...).
        similarity: (24,) number of negatives whose cosine to their positive is in each of `BINS`; None without the
            miner's vectors.
        false: share of negatives that the miner scores above the positive of their query; None without its vectors.
        negatives: number of negatives.
    """

    sources: dict[str, int]
    similarity: np.ndarray | None
    false: float | None
    negatives: int


def read_mined(file: Path, passages: list[str]) -> MinedStatistics:
    """Read the statistics of a mined file.

    Args:
        passages: the corpus's passage ids, in the order of the miner's vectors.
    """
    rows = store.read_jsonl(file, ("neg",))
    sources = Counter(source for row in rows for source in row.get("neg_source", ["dense"] * len(row["neg"])))
    vectors = _read_miner_vectors(file)
    pairs = _negative_pairs(rows, passages)
    if vectors is None or not len(pairs) or _counts(vectors) != (len(rows), len(passages)):
        return MinedStatistics(dict(sources), None, None, sum(sources.values()))
    row, positive, negative = pairs.T
    if representations.is_dense(vectors[0]):
        queries, corpus = (unit_vectors(np.asarray(part, dtype=np.float32)) for part in vectors)
        cosine = np.einsum("ij,ij->i", corpus[positive], corpus[negative])
        is_false = np.einsum("ij,ij->i", queries[row], corpus[negative] - corpus[positive]) > 0
    else:
        cosine = _pooled_cosines(vectors[1], positive, negative)
        negative_scores, positive_scores = (_pair_scores(vectors, row, column) for column in (negative, positive))
        is_false = negative_scores > positive_scores
    similarity = np.histogram(np.clip(cosine, BINS[0], BINS[-1]), BINS)[0]
    return MinedStatistics(dict(sources), similarity, float(is_false.mean()), len(pairs))


def _counts(vectors: tuple[Vectors, Vectors]) -> tuple[int, ...]:
    """Return the number of queries and of passages."""
    return tuple(representations.of(part).count(part) for part in vectors)


def _pooled_cosines(corpus: Vectors, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosine of some pairs of passages, each pooled to one vector: (pairs,)."""
    representation, parts = representations.of(corpus), [np.empty(0)]
    for start in range(0, len(rows), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        pooled = representation.pooled(representation.select(corpus, np.concatenate([rows[part], others[part]])))
        one, other = np.split(unit_vectors(np.asarray(pooled, dtype=np.float32)), 2)
        parts.append(np.einsum("ij,ij->i", one, other))
    return np.concatenate(parts)


def _pair_scores(vectors: tuple[Vectors, Vectors], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the score of some pairs of a query and a passage, (pairs,)."""
    queries, corpus = vectors
    representation = representations.of(queries)
    return representation.pair_scores(representation.select(queries, rows), representation.select(corpus, columns))


def _read_miner_vectors(file: Path) -> tuple[Vectors, Vectors] | None:
    """Return the miner's vectors of the queries and of the corpus; None if they are gone."""
    manifest = store.read_file_manifest(file)
    if not isinstance(manifest, MinedManifest) or not manifest.run:
        return None
    return run_store.load_run_vectors(file.parent / manifest.run)


def _negative_pairs(rows: list[dict], passages: list[str]) -> np.ndarray:
    """Return (negatives, 3) int64: row, corpus position of its first positive, corpus position of the negative."""
    place = {passage: number for number, passage in enumerate(passages)}
    pairs = [
        (number, place[str(row["pos_id"][0])], place[str(negative)])
        for number, row in enumerate(rows)
        if row.get("pos_id") and str(row["pos_id"][0]) in place
        for negative in row.get("neg_id", ())
        if str(negative) in place
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 3)


def is_mined(round_folder: Path) -> bool:
    """Return whether a round's folder holds a finished mined file."""
    mined = round_folder / MINED
    return store.file_manifest(mined).is_file() and mined.is_file()
