"""Frames behind the report's charts."""

import dataclasses

import numpy as np

from rounds.data import collection
from rounds.report import frames
from rounds.report.ranked_runs import RankedRun
from rounds.retrieval.run import Run


def test_truncated_vectors_do_not_rank_a_query_s_own_passage(tiny_collection):
    """Queries are nearest to their own passages, then to their relevant ones: at every dimension, MAP is 1."""
    data = collection.read(tiny_collection)
    ids = list(data.passages)[:4]
    data = dataclasses.replace(
        data,
        passages={passage: data.passages[passage] for passage in ids},
        validation={"q": "first", "r": "second"},
        qrels={"q": [ids[2]], "r": [ids[3]]},
        identical={"q": [ids[0]], "r": [ids[1]]},
    )
    half = np.array([[3, 0, 0], [0, 3, 0], [2, 0, 1], [0, 2, 1]], np.float32)
    corpus = np.tile(half, (1, 22))[:, :64]
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    none = Run(["q", "r"], np.empty((2, 0), object), np.empty((2, 0), np.float32))
    ranked = [RankedRun(label, none, np.zeros(2), (corpus[:2], corpus)) for label in ("zero-shot", "round 1")]
    scores = frames.truncation_scores(ranked, data)
    assert set(scores["dimensions"]) == {64, 32} and (scores["value"] == 1).all()
    assert list(dict.fromkeys(scores["when"])) == ["zero-shot", "round 1"]
    rounds = [dataclasses.replace(run, label=label) for run, label in zip(ranked, ("round 1", "round 2"), strict=True)]
    assert frames.truncation_scores(rounds, data).empty  # the vectors of zero-shot are gone
    start = [dataclasses.replace(ranked[0], label="start"), ranked[1]]
    assert set(frames.truncation_scores(start, data)["when"]) == {"start", "round 1"}
