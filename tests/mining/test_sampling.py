"""Sampling: no false negative and no duplicate is drawn, and each query's sample depends on nothing else."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from rounds.config.recipe import Mining
from rounds.data.text import normalize_text
from rounds.mining.sampling import Negatives, is_complete, sample_negatives
from rounds.retrieval.run import Run


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


def recipe_of(ranks: str, number: int, margin: float | None = None) -> Mining:
    return Mining(ranks, number, margin)


def slow_range(run: Run, qrels: dict, passages: dict, first: int, last: int) -> dict[str, list[str]]:
    """FlagEmbedding's `hn_mine.py`: cut the ranking to the range, then leave the positives' texts out."""
    negatives = {}
    for row, query in enumerate(run.queries):
        positives = {passages[passage] for passage in qrels[query]}
        negatives[query] = [p for p in run.passages[row].tolist()[first:last] if passages[p] not in positives]
    return negatives


def slow_allowed(run: Run, row: int, qrels: dict, passages: dict, recipe: Mining) -> list[int]:
    """Ranks that may serve as negatives, one passage after the other."""
    positives, ranked = qrels[run.queries[row]], run.passages[row].tolist()
    scores = run.scores[row].tolist()
    taken = {normalize_text(passages[passage]) for passage in positives}
    limit = float("inf")
    if recipe.relative_margin is not None:
        negatives = [score for passage, score in zip(ranked, scores, strict=True) if passage in positives]
        best = max(negatives, default=scores[-1])
        limit = best - abs(best) * recipe.relative_margin
    labelled = {passage for each in qrels.values() for passage in each}
    allowed = []
    for rank, passage in enumerate(ranked):
        if passage not in passages or (recipe.candidates == "labelled" and passage not in labelled):
            continue
        if normalize_text(passages[passage]) in taken or scores[rank] > limit:
            continue
        taken.add(normalize_text(passages[passage]))
        allowed.append(rank)
    return allowed


@pytest.mark.parametrize("candidates", ["corpus", "labelled"])
@pytest.mark.parametrize("margin", [None, 0.0, 0.05, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_mining_equals_a_slow_loop(seed, margin, candidates):
    """On random rankings with twins, many positives and foreign passages, a loop over the ranks allows the same."""
    rng = np.random.default_rng(seed)
    passages = {str(number): f"text  {rng.integers(60)}"[: 6 + rng.integers(3)] for number in range(90)}
    ids = np.array([*passages, "foreign"], dtype=object)
    order = np.stack([rng.permutation(91)[:50] for _ in range(40)])
    scores = -np.sort(-rng.normal(size=(40, 50)).round(1).astype(np.float32), axis=1)
    run = Run([f"q{number}" for number in range(40)], ids[order], scores)
    qrels = {query: [str(rng.integers(30)) for _ in range(rng.integers(0, 4))] for query in run.queries}
    first, last, number = 3, 30, 6
    recipe = Mining(f"{first}-{last}", number, margin, candidates)
    negatives = sample_negatives(run, qrels, passages, recipe, seed)
    deepened, short = [], []
    for row, query in enumerate(run.queries):
        allowed = slow_allowed(run, row, qrels, passages, recipe)
        ranks = [run.passages[row].tolist().index(passage) for passage in negatives.ids[query]]
        inside = [rank for rank in allowed if first <= rank < last]
        deeper = [rank for rank in allowed if rank >= last][: max(0, number - len(inside))]
        assert ranks == sorted(set(ranks)) and set(ranks) <= set(inside + deeper)
        assert len(ranks) == min(number, len(inside) + len(deeper))
        assert ranks == inside + deeper or len(inside) > number
        assert negatives.scores[query] == run.scores[row, ranks].tolist()
        deepened += [query] * bool(deeper)
        short += [query] * (len(ranks) < number)
    assert (negatives.deepened, negatives.short) == (deepened, short)


@pytest.mark.parametrize(("first", "last"), [(0, 20), (2, 22), (10, 60), (0, 60)])
def test_a_range_that_holds_the_number_is_taken_whole(first, last):
    """Ranks count from 0, positives included, LAST excluded: FlagEmbedding's range, in rank order."""
    passages, run = texts(80), shuffled_run(15, 80, 60)
    rng = random.Random(1)
    qrels = {query: rng.sample(run.passages[row].tolist(), 2) for row, query in enumerate(run.queries)}
    expected = slow_range(run, qrels, passages, first, last)
    for row, query in enumerate(run.queries):
        alone = Run([query], run.passages[[row]], run.scores[[row]])
        recipe = recipe_of(f"{first}-{last}", len(expected[query]))
        negatives = sample_negatives(alone, {query: qrels[query]}, passages, recipe, seed=42)
        assert negatives.ids == {query: expected[query]}
        assert (negatives.deepened, negatives.short) == ([], [])


def test_samples_come_from_the_range():
    """A sample is of the requested number, distinct, from the range, best rank first, with the run's scores."""
    passages, run = texts(80), shuffled_run(20, 80, 60)
    qrels = {query: [run.passages[row, 5]] for row, query in enumerate(run.queries)}
    negatives = sample_negatives(run, qrels, passages, recipe_of("2-40", 7), seed=42)
    inside = slow_range(run, qrels, passages, 2, 40)
    for row, query in enumerate(run.queries):
        ranks = [run.passages[row].tolist().index(passage) for passage in negatives.ids[query]]
        assert len(set(ranks)) == 7 and ranks == sorted(ranks)
        assert set(negatives.ids[query]) <= set(inside[query])
        assert negatives.scores[query] == run.scores[row, ranks].tolist()


def test_every_rank_of_the_range_can_be_drawn():
    """Over many queries each rank of the range, its first and last included, is drawn about equally often."""
    passages = texts(30)
    run = make_run({f"q{n}": list(passages) for n in range(600)})
    negatives = sample_negatives(run, dict.fromkeys(run.queries, ["29"]), passages, recipe_of("5-15", 3), seed=0)
    times = [sum(str(rank) in ids for ids in negatives.ids.values()) for rank in range(30)]
    assert set(times[:5] + times[15:]) == {0}
    assert all(120 < count < 240 for count in times[5:15])


def test_over_many_seeds_every_allowed_rank_is_drawn_equally():
    """Seeds draw each allowed rank, and each pair of neighbours, about as often as chance."""
    passages = texts(24)
    run = make_run({"q": list(passages)})
    drawn = [sample_negatives(run, {"q": ["9"]}, passages, recipe_of("4-20", 5), seed).ids["q"] for seed in range(3000)]
    allowed = [rank for rank in range(4, 20) if rank != 9]
    times = np.array([[str(rank) in ids for rank in allowed] for ids in drawn])
    assert set(times.sum(axis=1)) == {5}
    assert np.abs(times.mean(axis=0) - 5 / 15).max() < 0.04
    assert np.abs((times[:, 1:] & times[:, :-1]).mean(axis=0) - 5 / 15 * 4 / 14).max() < 0.03


def test_a_passage_that_is_not_allowed_leaves_the_others_draw_alone():
    """A draw depends on the allowed passages alone: neither their ranks nor what is left out between them count."""
    passages = texts(30)
    one = sample_negatives(make_run({"q": list(passages)[:28]}), {"q": ["28"]}, passages, recipe_of("0-28", 5), seed=3)
    mixed = list(passages)[:28][::-1] + ["28"]
    other = sample_negatives(make_run({"q": mixed}), {"q": ["28"]}, passages, recipe_of("0-29", 5), seed=3)
    assert other.ids["q"] == one.ids["q"][::-1]


@pytest.mark.parametrize(
    "twin", ["adds instead of multiplying\r\n", "  adds\tinstead of  multiplying", "adds instead of multiplying"]
)
def test_no_negative_has_a_positive_s_text(twin):
    """A passage with a positive's text under another id, white space apart, is no negative."""
    passages = texts(10) | {"7": "adds instead of multiplying", "3": twin}
    run = make_run({"q": list(passages)})
    negatives = sample_negatives(run, {"q": ["7"]}, passages, recipe_of("0-10", 8), seed=1)
    assert negatives.ids["q"] == ["0", "1", "2", "4", "5", "6", "8", "9"]


def test_no_positive_is_a_negative():
    """None of several positives is drawn, wherever it ranks."""
    passages = texts(12)
    run = make_run({"q": list(passages)})
    negatives = sample_negatives(run, {"q": ["0", "5", "11"]}, passages, recipe_of("0-12", 9), seed=1)
    assert negatives.ids["q"] == [p for p in passages if p not in ("0", "5", "11")]


def test_a_positive_that_is_not_in_the_run_is_excluded_by_text():
    """The text of a positive that ranks below the run's depth is excluded all the same."""
    passages = texts(10) | {"2": "the same", "9": "the  same"}
    run = make_run({"q": list(passages)[:8]})
    negatives = sample_negatives(run, {"q": ["9"]}, passages, recipe_of("0-8", 7), seed=1)
    assert negatives.ids["q"] == ["0", "1", "3", "4", "5", "6", "7"]


def test_no_text_comes_twice():
    """Of passages with one text the best ranked stands for all."""
    passages = texts(10) | {"1": "same", "4": "same ", "8": " same"}
    run = make_run({"q": list(passages)})
    negatives = sample_negatives(run, {"q": ["0"]}, passages, recipe_of("0-10", 9), seed=1)
    assert negatives.ids["q"] == ["1", "2", "3", "5", "6", "7", "9"]
    assert len({normalize_text(passages[p]) for p in negatives.ids["q"]}) == 7


@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.77, 0.765, 0.75, 0.3], [0.1, -0.2, -0.205, -0.212, -0.22, -0.5]])
def test_the_margin_holds_for_either_sign(scores):
    """No negative scores above `positive - abs(positive) * margin`, be the positive's score above or below 0."""
    passages = texts(6)
    run = make_run({"q": list(passages)}, scores)
    negatives = sample_negatives(run, {"q": ["1"]}, passages, recipe_of("0-6", 5, 0.05), seed=1)
    limit = scores[1] - abs(scores[1]) * 0.05
    expected = [p for p, score in zip(passages, scores, strict=True) if p != "1" and score <= limit]
    assert 0 < len(expected) < 5
    assert negatives.ids["q"] == expected


def test_the_margin_is_of_the_best_positive():
    """With several positives the best ranked sets the limit."""
    passages, scores = texts(5), [0.8, 0.7, 0.5, 0.3, 0.2]
    run = make_run({"q": list(passages)}, scores)
    assert sample_negatives(run, {"q": ["1", "3"]}, passages, recipe_of("0-5", 3, 0.1), seed=1).ids["q"] == ["2", "4"]


def test_the_margin_of_an_unranked_positive_lets_nothing_above_it_in():
    """A positive below the run's depth scores less than all that is ranked: nothing is certain to be within."""
    passages = texts(6)
    run = make_run({"q": list(passages)[:4]}, [0.8, 0.7, 0.6, 0.5])
    negatives = sample_negatives(run, {"q": ["5"]}, passages, recipe_of("0-4", 3, 0.05), seed=1)
    assert (negatives.ids["q"], negatives.short) == ([], ["q"])


def test_what_the_range_lacks_comes_from_the_next_ranks():
    """A range that holds too few is kept whole and filled up with the next allowed ranks behind it."""
    passages = texts(12)
    run = make_run({"q": list(passages)})
    negatives = sample_negatives(run, {"q": ["3", "6"]}, passages, recipe_of("2-5", 5), seed=1)
    assert negatives.ids["q"] == ["2", "4", "5", "7", "8"]
    assert (negatives.deepened, negatives.short) == (["q"], [])


def test_what_even_the_run_lacks_is_reported():
    """A query that ends with too few is named in `short`, and has what there is."""
    passages = texts(8)
    run = make_run({"full": list(passages)[:6], "poor": list(passages)[:6]})
    qrels = {"full": ["7"], "poor": ["0", "1", "2", "3"]}
    negatives = sample_negatives(run, qrels, passages, recipe_of("0-4", 4), seed=1)
    assert negatives.ids == {"full": ["0", "1", "2", "3"], "poor": ["4", "5"]}
    assert (negatives.deepened, negatives.short) == (["poor"], ["poor"])


@pytest.mark.parametrize(
    ("short", "depth", "expected"), [([], 5, True), (["q"], 5, False), (["q"], 8, True), ([], 8, True)]
)
def test_complete_mining_ends_the_deepening(short, depth, expected):
    """Mining is complete if no query is short, or if the run holds the whole corpus."""
    run = make_run({"q": list(texts(8))[:depth]})
    assert is_complete(Negatives({}, {}, [], short), run, corpus_size=8) is expected


def test_neither_order_nor_company_changes_a_query_s_negatives():
    """A query has the same negatives in any order of the queries and without the others."""
    passages, run = texts(60), shuffled_run(12, 60, 50)
    qrels = {query: ["0"] for query in run.queries}
    whole = sample_negatives(run, qrels, passages, recipe_of("2-40", 5), seed=42)
    for rows in ([*range(11, -1, -1)], [4], [7, 2]):
        part = Run([run.queries[row] for row in rows], run.passages[rows], run.scores[rows])
        negatives = sample_negatives(part, qrels, passages, recipe_of("2-40", 5), seed=42)
        assert negatives.ids == {query: whole.ids[query] for query in part.queries}


def test_another_seed_is_another_sample():
    """The seed draws: equal seeds agree, others differ."""
    passages, run = texts(60), shuffled_run(12, 60, 50)
    qrels = {query: ["0"] for query in run.queries}
    one, same, other = (
        sample_negatives(run, qrels, passages, recipe_of("2-40", 5), seed=seed).ids for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_two_queries_with_one_ranking_draw_apart():
    """Queries that rank alike do not get one and the same sample."""
    passages = texts(60)
    run = make_run({f"q{n}": list(passages) for n in range(5)})
    negatives = sample_negatives(run, dict.fromkeys(run.queries, ["0"]), passages, recipe_of("2-50", 5), seed=42)
    assert len({tuple(ids) for ids in negatives.ids.values()}) == 5


SCRIPT = """
import json, numpy as np
from rounds.mining.sampling import sample_negatives
from rounds.retrieval.run import Run
from rounds.config.recipe import Mining
passages = {str(n): f"text {n}" for n in range(50)}
run = Run(["a", "b"], np.array([list(passages)] * 2, dtype=object), np.ones((2, 50), dtype=np.float32))
print(json.dumps(sample_negatives(run, {"a": ["0"], "b": ["1"]}, passages, Mining("2-40", 5), 42).ids))
"""


def test_python_s_hash_seed_changes_nothing():
    """Processes with different PYTHONHASHSEED mine the same negatives."""
    negatives = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True)
        negatives.append(json.loads(result.stdout))
    assert negatives[0] == negatives[1]


def test_labelled_candidates_only():
    """With `candidates: labelled` no passage is a negative that is nobody's positive, however deep it has to go."""
    passages, run = texts(60), shuffled_run(12, 60, 60)
    qrels = {query: [run.passages[row][0]] for row, query in enumerate(run.queries)}
    labelled = {passage for positives in qrels.values() for passage in positives}
    recipe = Mining("2-20", 5, candidates="labelled")
    negatives = sample_negatives(run, qrels, passages, recipe, seed=42)
    for query, ids in negatives.ids.items():
        assert set(ids) <= labelled - set(qrels[query])
    assert negatives.deepened and all(len(ids) == min(5, len(labelled) - 1) for ids in negatives.ids.values())
