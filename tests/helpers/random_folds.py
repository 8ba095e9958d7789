"""Folds of random candidates for second stages: one feature tells the relevant candidate, the others are noise."""

from pathlib import Path

import numpy as np

from rounds.data.collection import Collection
from rounds.evaluation.metrics import HEADLINE_METRICS
from rounds.reranking.candidates import Candidates
from rounds.reranking.folds import Cost, Fold
from rounds.reranking.unseen_prior import LABELLED

DEPTH = 30


def table(generator: np.random.Generator, prefix: str, queries: int = 40) -> Candidates:
    """Candidates whose first feature tells the relevant one; the second is noise."""
    query = np.repeat(np.arange(queries), DEPTH)
    passage = np.array([f"p{number}" for number in range(DEPTH)] * queries, dtype=object)
    relevant = np.zeros(queries * DEPTH, dtype=bool)
    relevant[np.arange(queries) * DEPTH + generator.integers(0, DEPTH, queries)] = True
    noise = generator.standard_normal((2, len(query))).astype(np.float32)
    zeros = np.zeros_like(noise[0])
    features = {
        "m: signal": 4 * relevant + noise[0],
        "votes m: noise": noise[1],
        "labels: noise": zeros,
        "words: noise": zeros,
        "siblings: noise": zeros,
    }
    return Candidates([f"{prefix}{n}" for n in range(queries)], query, passage, relevant, features)


def labelled_fold(seed: int) -> Fold:
    """A fold like `fold`, every other of whose candidates is labelled in training."""
    found = fold(seed)
    found.table.features[LABELLED] = np.float32(np.arange(len(found.table.query_rows)) % 2 == 0)
    return found


def fold(seed: int, rounds: tuple[str, ...] = ("BM25", "zero-shot")) -> Fold:
    """A fold of 40 queries, the first 25 unseen, with random scores of the rounds; its name is `fold` and the seed."""
    generator = np.random.default_rng(seed)
    found = table(generator, f"{seed}-")
    pairs = np.flatnonzero(found.relevant)
    qrels = {found.queries[found.query_rows[pair]]: [found.passage_ids[pair]] for pair in pairs}
    unseen = set(found.queries[:25])
    questions = {"train": {}, "validation": {query: "digest" for query in qrels}}
    data = Collection(Path(f"fold{seed}"), "tiny", "v5", {}, dict.fromkeys(qrels, ""), {}, {}, qrels, unseen, questions)
    scores = {label: {name: generator.random(40) for name in HEADLINE_METRICS} for label in rounds}
    return Fold(data, scores, {label: Cost(seed + 1.0, None) for label in rounds}, found, ["m"])
