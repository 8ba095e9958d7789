"""Mined: what a round's negatives are like: where they came from, how near to the positive, how many probably false."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.encoding import run_store
from rounds.retrieval.vectors import unit_vectors

MINED = "finetune_data_minedHN.jsonl"

BINS = np.linspace(-0.2, 1.0, 25)  # of a cosine; below -0.2 there is next to nothing


@dataclass(frozen=True)
class MinedStatistics:
    """A round's negatives.

    Attributes:
        sources: how many came from where (`dense`, `bm25`, ...).
        similarity: (24,) how many have a cosine to their positive in each of `BINS`; None without the miner's vectors.
        false: share that the miner scores above the positive of their query; None without its vectors.
        negatives: how many there are.
    """

    sources: dict[str, int]
    similarity: np.ndarray | None
    false: float | None
    negatives: int


def read_mined(file: Path, passages: list[str]) -> MinedStatistics:
    """A round's mined file.

    Args:
        passages: the corpus's ids in its order, in which the miner's vectors stand.
    """
    rows = store.read_jsonl(file, ("neg",))
    sources = Counter(source for row in rows for source in row.get("neg_source", ["dense"] * len(row["neg"])))
    vectors = _miner(file)
    pairs = _pairs(rows, passages)
    if vectors is None or len(vectors[0]) != len(rows) or len(vectors[1]) != len(passages) or not len(pairs):
        return MinedStatistics(dict(sources), None, None, sum(sources.values()))
    queries, corpus = (unit_vectors(np.asarray(each, dtype=np.float32)) for each in vectors)
    row, positive, negative = pairs.T
    cosine = np.einsum("ij,ij->i", corpus[positive], corpus[negative])
    above = np.einsum("ij,ij->i", queries[row], corpus[negative] - corpus[positive]) > 0
    similarity = np.histogram(np.clip(cosine, BINS[0], BINS[-1]), BINS)[0]
    return MinedStatistics(dict(sources), similarity, float(above.mean()), len(pairs))


def _miner(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Vectors of the checkpoint that mined: of the rows' queries, and of the corpus."""
    run = store.read_json(file.with_name(f"{file.stem}.manifest.json")).get("run")
    return run_store.load_run_vectors(file.parent / run) if run else None


def _pairs(rows: list[dict], passages: list[str]) -> np.ndarray:
    """(negatives, 3): row, place of its first positive, place of the negative in the corpus."""
    place = {passage: number for number, passage in enumerate(passages)}
    found = [
        (number, place[str(row["pos_id"][0])], place[str(negative)])
        for number, row in enumerate(rows)
        if row.get("pos_id") and str(row["pos_id"][0]) in place
        for negative in row.get("neg_id", ())
        if str(negative) in place
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def is_mined(round_folder: Path) -> bool:
    """Whether a round's folder holds a finished mined file."""
    return mined_manifest(round_folder).is_file() and (round_folder / MINED).is_file()


def mined_manifest(round_folder: Path) -> Path:
    """Its stamp."""
    return round_folder / f"{Path(MINED).stem}.manifest.json"
