import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from rounds import mining
from rounds.prompts import normalize_text
from rounds.ranking import Run
from rounds.recipe import Mining


def make_run(rankings: dict[str, list[str]], scores: list[float] | None = None) -> Run:
    depth = len(next(iter(rankings.values())))
    row = scores or [1.0 - step / depth for step in range(depth)]
    values = np.array([row] * len(rankings), dtype=np.float32)
    return Run(list(rankings), np.array(list(rankings.values()), dtype=object), values)


def texts(count: int) -> dict[str, str]:
    return {str(number): f"misconception {number}" for number in range(count)}


def shuffled_run(queries: int, corpus: int, depth: int, seed: int = 0) -> Run:
    rng = random.Random(seed)
    return make_run({f"q{n}": rng.sample(list(texts(corpus)), depth) for n in range(queries)})


def how(text: str, number: int, margin: float | None = None) -> Mining:
    return Mining(text, number, margin)


def slow_range(run: Run, qrels: dict, passages: dict, first: int, last: int) -> dict[str, list[str]]:
    """FlagEmbedding's `hn_mine.py`: cut the ranking to the range, then leave the positives' texts out."""
    found = {}
    for row, query in enumerate(run.queries):
        positives = {passages[passage] for passage in qrels[query]}
        found[query] = [p for p in run.passages[row].tolist()[first:last] if passages[p] not in positives]
    return found


@pytest.mark.parametrize(("first", "last"), [(0, 20), (2, 22), (10, 60), (0, 60)])
def test_a_range_that_holds_what_is_asked_is_taken_whole(first, last):
    """Ranks count from 0, positives included, LAST excluded: FlagEmbedding's range, in rank order."""
    passages, run = texts(80), shuffled_run(15, 80, 60)
    rng = random.Random(1)
    qrels = {query: rng.sample(run.passages[row].tolist(), 2) for row, query in enumerate(run.queries)}
    expected = slow_range(run, qrels, passages, first, last)
    for row, query in enumerate(run.queries):
        alone = Run([query], run.passages[[row]], run.scores[[row]])
        asked = how(f"{first}-{last}", len(expected[query]))
        found = mining.mine(alone, {query: qrels[query]}, passages, asked, seed=42)
        assert found.ids == {query: expected[query]}
        assert (found.deepened, found.short) == ([], [])


def test_samples_come_from_the_range():
    """A sample is of the number asked for, distinct, from the range, best rank first, with the run's scores."""
    passages, run = texts(80), shuffled_run(20, 80, 60)
    qrels = {query: [run.passages[row, 5]] for row, query in enumerate(run.queries)}
    found = mining.mine(run, qrels, passages, how("2-40", 7), seed=42)
    inside = slow_range(run, qrels, passages, 2, 40)
    for row, query in enumerate(run.queries):
        ranks = [run.passages[row].tolist().index(passage) for passage in found.ids[query]]
        assert len(set(ranks)) == 7 and ranks == sorted(ranks)
        assert set(found.ids[query]) <= set(inside[query])
        assert found.scores[query] == run.scores[row, ranks].tolist()


def test_every_rank_of_the_range_can_be_drawn():
    """Over many queries each rank of the range, its first and last included, is drawn about equally often."""
    passages = texts(30)
    run = make_run({f"q{n}": list(passages) for n in range(600)})
    found = mining.mine(run, dict.fromkeys(run.queries, ["29"]), passages, how("5-15", 3), seed=0)
    times = [sum(str(rank) in ids for ids in found.ids.values()) for rank in range(30)]
    assert set(times[:5] + times[15:]) == {0}
    assert all(120 < count < 240 for count in times[5:15])


@pytest.mark.parametrize(
    "twin", ["adds instead of multiplying\r\n", "  adds\tinstead of  multiplying", "adds instead of multiplying"]
)
def test_no_negative_has_a_positive_s_text(twin):
    """A passage with a positive's text under another id, white space apart, is no negative."""
    passages = texts(10) | {"7": "adds instead of multiplying", "3": twin}
    run = make_run({"q": list(passages)})
    found = mining.mine(run, {"q": ["7"]}, passages, how("0-10", 8), seed=1)
    assert found.ids["q"] == ["0", "1", "2", "4", "5", "6", "8", "9"]


def test_no_positive_is_a_negative():
    """None of several positives is drawn, wherever it ranks."""
    passages = texts(12)
    run = make_run({"q": list(passages)})
    found = mining.mine(run, {"q": ["0", "5", "11"]}, passages, how("0-12", 9), seed=1)
    assert found.ids["q"] == [p for p in passages if p not in ("0", "5", "11")]


def test_a_positive_that_is_not_in_the_run_is_excluded_by_text():
    """The text of a positive that ranks below the run's depth is excluded all the same."""
    passages = texts(10) | {"2": "the same", "9": "the  same"}
    run = make_run({"q": list(passages)[:8]})
    found = mining.mine(run, {"q": ["9"]}, passages, how("0-8", 7), seed=1)
    assert found.ids["q"] == ["0", "1", "3", "4", "5", "6", "7"]


def test_no_text_comes_twice():
    """Of passages with one text the best ranked stands for all."""
    passages = texts(10) | {"1": "same", "4": "same ", "8": " same"}
    run = make_run({"q": list(passages)})
    found = mining.mine(run, {"q": ["0"]}, passages, how("0-10", 9), seed=1)
    assert found.ids["q"] == ["1", "2", "3", "5", "6", "7", "9"]
    assert len({normalize_text(passages[p]) for p in found.ids["q"]}) == 7


@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.77, 0.765, 0.75, 0.3], [0.1, -0.2, -0.205, -0.212, -0.22, -0.5]])
def test_the_margin_holds_for_either_sign(scores):
    """No negative scores above `positive - abs(positive) * margin`, be the positive's score above or below 0."""
    passages = texts(6)
    run = make_run({"q": list(passages)}, scores)
    found = mining.mine(run, {"q": ["1"]}, passages, how("0-6", 5, 0.05), seed=1)
    limit = scores[1] - abs(scores[1]) * 0.05
    expected = [p for p, score in zip(passages, scores, strict=True) if p != "1" and score <= limit]
    assert 0 < len(expected) < 5
    assert found.ids["q"] == expected


def test_the_margin_is_of_the_best_positive():
    """With several positives the best ranked sets the limit."""
    passages, scores = texts(5), [0.8, 0.7, 0.5, 0.3, 0.2]
    run = make_run({"q": list(passages)}, scores)
    assert mining.mine(run, {"q": ["1", "3"]}, passages, how("0-5", 3, 0.1), seed=1).ids["q"] == ["2", "4"]


def test_the_margin_of_an_unranked_positive_lets_nothing_above_it_in():
    """A positive below the run's depth scores less than all that is ranked: nothing is certain to be within."""
    passages = texts(6)
    run = make_run({"q": list(passages)[:4]}, [0.8, 0.7, 0.6, 0.5])
    found = mining.mine(run, {"q": ["5"]}, passages, how("0-4", 3, 0.05), seed=1)
    assert (found.ids["q"], found.short) == ([], ["q"])


def test_what_the_range_lacks_comes_from_the_next_ranks():
    """A range that holds too few is kept whole and filled up with the next allowed ranks behind it."""
    passages = texts(12)
    run = make_run({"q": list(passages)})
    found = mining.mine(run, {"q": ["3", "6"]}, passages, how("2-5", 5), seed=1)
    assert found.ids["q"] == ["2", "4", "5", "7", "8"]
    assert (found.deepened, found.short) == (["q"], [])


def test_what_even_the_run_lacks_is_reported():
    """A query that ends with too few is named in `short`, and has what there is."""
    passages = texts(8)
    run = make_run({"full": list(passages)[:6], "poor": list(passages)[:6]})
    qrels = {"full": ["7"], "poor": ["0", "1", "2", "3"]}
    found = mining.mine(run, qrels, passages, how("0-4", 4), seed=1)
    assert found.ids == {"full": ["0", "1", "2", "3"], "poor": ["4", "5"]}
    assert (found.deepened, found.short) == (["poor"], ["poor"])


@pytest.mark.parametrize(
    ("short", "depth", "expected"), [([], 5, True), (["q"], 5, False), (["q"], 8, True), ([], 8, True)]
)
def test_enough(short, depth, expected):
    """A deeper run is wanted where somebody fell short and the corpus holds more than the run."""
    run = make_run({"q": list(texts(8))[:depth]})
    assert mining.enough(mining.Negatives({}, {}, [], short), run, corpus=8) is expected


def test_neither_order_nor_company_changes_a_query_s_negatives():
    """A query has the same negatives in any order of the queries and without the others."""
    passages, run = texts(60), shuffled_run(12, 60, 50)
    qrels = {query: ["0"] for query in run.queries}
    whole = mining.mine(run, qrels, passages, how("2-40", 5), seed=42)
    for rows in ([*range(11, -1, -1)], [4], [7, 2]):
        part = Run([run.queries[row] for row in rows], run.passages[rows], run.scores[rows])
        found = mining.mine(part, qrels, passages, how("2-40", 5), seed=42)
        assert found.ids == {query: whole.ids[query] for query in part.queries}


def test_another_seed_is_another_sample():
    """The seed draws: equal seeds agree, others differ."""
    passages, run = texts(60), shuffled_run(12, 60, 50)
    qrels = {query: ["0"] for query in run.queries}
    one, same, other = (mining.mine(run, qrels, passages, how("2-40", 5), seed=seed).ids for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_two_queries_with_one_ranking_draw_apart():
    """Queries that rank alike do not get one and the same sample."""
    passages = texts(60)
    run = make_run({f"q{n}": list(passages) for n in range(5)})
    found = mining.mine(run, dict.fromkeys(run.queries, ["0"]), passages, how("2-50", 5), seed=42)
    assert len({tuple(ids) for ids in found.ids.values()}) == 5


SCRIPT = """
import json, numpy as np
from rounds import mining
from rounds.ranking import Run
from rounds.recipe import Mining
passages = {str(n): f"text {n}" for n in range(50)}
run = Run(["a", "b"], np.array([list(passages)] * 2, dtype=object), np.ones((2, 50), dtype=np.float32))
print(json.dumps(mining.mine(run, {"a": ["0"], "b": ["1"]}, passages, Mining("2-40", 5), 42).ids))
"""


def test_python_s_hash_seed_changes_nothing():
    """Processes with different PYTHONHASHSEED mine the same negatives."""
    found = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True)
        found.append(json.loads(result.stdout))
    assert found[0] == found[1]


def test_labelled_candidates_only():
    """With `candidates: labelled` no passage is a negative that is nobody's positive, however deep it has to go."""
    passages, run = texts(60), shuffled_run(12, 60, 60)
    qrels = {query: [run.passages[row][0]] for row, query in enumerate(run.queries)}
    labelled = {passage for positives in qrels.values() for passage in positives}
    asked = Mining("2-20", 5, candidates="labelled")
    found = mining.mine(run, qrels, passages, asked, seed=42)
    for query, ids in found.ids.items():
        assert set(ids) <= labelled - set(qrels[query])
    assert found.deepened and all(len(ids) == min(5, len(labelled) - 1) for ids in found.ids.values())
