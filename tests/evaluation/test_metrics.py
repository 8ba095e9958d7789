import itertools
import math
import random
import re

import numpy as np
import pytest
import pytrec_eval
from helpers.tiny_task import refused

from rounds.data import splits
from rounds.data.dataset import relevant_passages
from rounds.evaluation import metrics, significance
from rounds.evaluation.metrics import (
    HEADLINE_METRICS,
    METRIC_DEPTH,
    METRICS,
    mean_cosine,
    per_query,
    random_run,
    retrieval_loss,
    summarize,
)
from rounds.retrieval.run import Run, write_trec

CORPUS = [f"p{number:03}" for number in range(130)]


def make_run(queries: int, seed: int, depth: int = 120) -> Run:
    rng = random.Random(seed)
    ids = [f"q{number:03}" for number in rng.sample(range(1000), queries)]
    passages = np.array([rng.sample(CORPUS, depth) for _ in ids], dtype=object)
    # All scores tie: only the order of the passages may count.
    return Run(ids, passages, np.zeros(passages.shape, dtype=np.float32))


def slow(name: str, ranked: list[str], relevant: list[str]) -> float:
    """One metric of one query by its definition (binary relevance; AP over all relevant passages)."""
    metric, k = name.split("@")
    hits = [passage in relevant for passage in ranked[: int(k)]]
    if metric == "MAP":
        return sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit) / len(relevant)
    if metric == "Recall":
        return sum(hits) / len(relevant)
    if metric == "MRR":
        return next((1 / (place + 1) for place, hit in enumerate(hits) if hit), 0.0)
    if metric == "P":
        return sum(hits) / int(k)
    if metric == "HitRate":
        return float(any(hits))
    assert metric == "NDCG"
    ideal = sum(1 / math.log2(place + 2) for place in range(min(len(relevant), int(k))))
    return sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit) / ideal


@pytest.fixture(scope="module")
def run() -> Run:
    return make_run(40, seed=1)


def relevants(run: Run, counts: tuple[int, ...]) -> dict[str, list[str]]:
    rng = random.Random(2)
    return {query: rng.sample(CORPUS, rng.choice(counts)) for query in run.queries}


@pytest.fixture(scope="module")
def several(run) -> dict[str, list[str]]:
    return relevants(run, (1, 2, 5, 30))


@pytest.fixture(scope="module")
def measured(run, several) -> dict[str, np.ndarray]:
    return per_query(run, several)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_equal_a_slow_loop(run, several, measured, name):
    """Each metric of each query equals its definition, several relevant passages and ties included."""
    expected = [slow(name, run.passages[row].tolist(), several[query]) for row, query in enumerate(run.queries)]
    assert 0 < sum(expected)
    assert measured[name] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["P@100", "Recall@100", "MAP@25", "NDCG@10"])
def test_a_short_run_counts_as_if_filled_with_irrelevant_passages(several, run, name):
    """Where a run holds fewer than k passages, precision is still over k."""
    short = run.top(8)
    expected = [slow(name, short.passages[row].tolist(), several[query]) for row, query in enumerate(short.queries)]
    assert per_query(short, several)[name] == pytest.approx(expected, abs=1e-9)


def trec_eval(run_file, qrels_file) -> dict[str, dict[str, float]]:
    """What trec_eval itself measures on two files, each of our metrics by its name; MRR's cutoffs cut the file."""
    parsed = pytrec_eval.parse_run(open(run_file, encoding="utf-8"))
    judged = pytrec_eval.parse_qrel(open(qrels_file, encoding="utf-8"))
    measures = {re.sub(r"_(\d+)$", r".\1", measure) for measure in METRICS.values()}
    found = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(parsed)
    return {
        query: {name: scores[METRICS[name]] for name in METRICS if "MRR" not in name} for query, scores in found.items()
    }


GRADED = {  # grades of each query's judged passages: plain, graded, none relevant, negative grades, unjudged ones only
    "q-1": {"p000": 1, "p003": 1},
    "4.0": {"p001": 3, "p002": 0, "p009": 1, "p011": 2},
    "ü/?#%": {"p004": 0, "p005": -1},
    "'q\"": {"p000": -2, "p120": 2, "p007": 1},
    "#": {"p129": 1},
}


@pytest.mark.parametrize("ties", ["none", "some", "all"])
def test_metrics_equal_trec_eval_s_on_the_written_files(ties, tmp_path):
    """The run file and the qrels, read by trec_eval, give each query's metrics to the last digit, ties included."""
    rng = np.random.default_rng(3)
    passages = np.array([rng.permutation(CORPUS)[:120] for _ in GRADED], dtype=object)
    scores = {"none": np.arange(120), "some": np.arange(120) // 7, "all": np.zeros(120)}[ties]
    run = Run(list(GRADED), passages, np.tile(0.9 - scores / 500, (len(GRADED), 1)).astype(np.float32))
    write_trec(run, tmp_path / "run.trec", "tag")
    lines = [f"{query} 0 {passage} {grade}\n" for query, judged in GRADED.items() for passage, grade in judged.items()]
    (tmp_path / "qrels").write_text("".join(lines), encoding="utf-8")
    expected = trec_eval(tmp_path / "run.trec", tmp_path / "qrels")
    ours = per_query(run, {query: relevant_passages(judged) for query, judged in GRADED.items()}, grades=GRADED)
    for row, query in enumerate(run.queries):
        for name in expected[query]:
            assert ours[name][row] == expected[query][name], (query, name)


def test_grades_are_the_gain_of_ndcg_and_no_more():
    """NDCG@10 takes grades as gains; MAP and recall count grades of 1 and above alike."""
    run = Run(["q"], np.array([["a", "b", "c"]], dtype=object), np.zeros((1, 3), dtype=np.float32))
    grades = {"q": {"a": 1, "b": 3, "c": 0, "d": -1}}
    scores = per_query(run, {"q": ["a", "b"]}, grades=grades)
    ideal = 3 + 1 / math.log2(3)
    assert scores["NDCG@10"][0] == pytest.approx((1 + 3 / math.log2(3)) / ideal)
    assert scores["MAP@25"][0] == scores["Recall@25"][0] == 1


def test_one_metric_alone_is_the_same(run, several, measured):
    """Asking for one metric gives what asking for all gives."""
    alone = per_query(run, several, ("MAP@25",))
    assert list(alone) == ["MAP@25"]
    assert alone["MAP@25"].tolist() == measured["MAP@25"].tolist()


def test_with_one_relevant_map_is_mrr_and_recall_is_hit_rate(run):
    """With one relevant passage AP is the reciprocal rank up to the cut-off, and recall is hit rate."""
    scores = per_query(run, relevants(run, (1,)))
    cut = np.where(scores["Recall@25"] > 0, scores["MRR@100"], 0.0)
    assert scores["MAP@25"] == pytest.approx(cut)
    assert scores["Recall@100"].tolist() == scores["HitRate@100"].tolist()


def test_a_relevant_passage_behind_the_cut_off_counts_nothing():
    """MAP@25 gives 1/25 for rank 25 and 0 for rank 26."""
    run = Run(["q_in", "qout"], np.array([CORPUS[:30]] * 2, dtype=object), np.zeros((2, 30), dtype=np.float32))
    scores = per_query(run, {"q_in": ["p024"], "qout": ["p025"]}, ("MAP@25",))
    assert scores["MAP@25"].tolist() == [1 / 25, 0.0]


@pytest.mark.parametrize("change", [lambda qrels: qrels.popitem(), lambda qrels: qrels.update(more=["p001"])])
def test_other_queries_are_refused(run, several, change):
    """A run without a judged query, or with one that nobody judged, is not measured in silence."""
    qrels = dict(several)
    change(qrels)
    with refused("same queries", len(run.queries), len(qrels)):
        per_query(run, qrels)


def test_the_order_of_the_judgements_changes_nothing(run, several, measured):
    """Scores follow the run's order of queries, whatever the order of the qrels."""
    turned = dict(reversed(several.items()))
    assert per_query(run, turned)["MAP@25"].tolist() == measured["MAP@25"].tolist()


def test_summary_means_equal_a_slow_loop(run, measured):
    """Means over all, seen and unseen queries are those of a loop, rounded to 6 decimals."""
    unseen = set(run.queries[::3])
    table = summarize(measured, run.queries, unseen)
    for name, values in measured.items():
        assert table[name] == pytest.approx(sum(values) / len(values), abs=1e-6)
    for name in HEADLINE_METRICS:
        for part, wanted in (("seen", False), ("unseen", True)):
            chosen = [v for query, v in zip(run.queries, measured[name], strict=True) if (query in unseen) is wanted]
            assert table[f"{name} {part}"] == pytest.approx(sum(chosen) / len(chosen), abs=1e-6)
    assert (table["queries"], table["unseen_queries"]) == (40, 14)


def test_queries_without_a_relevant_passage_are_neither_seen_nor_unseen():
    """Labels of grade 0 alone say nothing about the training set; over all queries they score 0, as in trec_eval."""
    scores = {"MAP@25": np.array([1.0, 0.5, 0.0])}
    qrels = {"a": ["1"], "b": ["2"], "c": []}
    unseen = splits.unseen_queries({"t": ["1"], **qrels}, ["t"], list(qrels))
    table = summarize(scores, list(qrels), unseen, qrels)
    assert unseen == {"b"} and table["MAP@25"] == 0.5
    assert (table["MAP@25 seen"], table["MAP@25 unseen"]) == (1.0, 0.5)


@pytest.mark.parametrize(("part", "empty"), [("all", "seen"), ("none", "unseen")])
def test_a_part_without_queries_has_no_mean(run, measured, part, empty):
    """Where no query is seen (or unseen) its mean is None, not a number."""
    table = summarize(measured, run.queries, set(run.queries) if part == "all" else set())
    other = {"seen": "unseen", "unseen": "seen"}[empty]
    assert table[f"MAP@25 {empty}"] is None
    assert table[f"MAP@25 {other}"] == table["MAP@25"]


def exact_p(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p over all sign flips of the differences: how many are at least as far from 0 as what was seen."""
    differences = [x - y for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    seen = abs(sum(differences))
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    far = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen - 1e-9 for signs in flips)
    return far / len(flips)


@pytest.mark.parametrize("queries", [8, 9, 10])
@pytest.mark.parametrize("seed", range(4))
def test_fisher_equals_the_enumeration_of_all_sign_flips(queries, seed):
    """On few queries the test's p is the exact one."""
    rng = np.random.default_rng(seed)
    a = rng.random(queries)
    b = np.clip(a - rng.normal(0.1 * seed, 0.2, queries), 0, 1)
    assert significance.fisher_p_value(a, b) == pytest.approx(exact_p(a, b), abs=0.01)


def test_fisher_on_tied_differences_equals_the_enumeration():
    """Reciprocal ranks tie often; ties count as at least as extreme."""
    a = np.array([1, 1 / 2, 1 / 3, 1, 0, 1 / 2, 1, 1 / 5])
    b = np.array([1 / 2, 1 / 2, 1 / 3, 1 / 2, 0, 1, 1 / 2, 0])
    assert significance.fisher_p_value(a, b) == pytest.approx(exact_p(a, b), abs=0.01)


def pair(queries: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    a = rng.choice([1, 1 / 2, 1 / 3, 0], size=queries)
    return a, np.where(rng.random(queries) < 0.8, a, rng.choice([1, 1 / 4], size=queries))


@pytest.mark.parametrize("queries", [10, 300])
def test_fisher_is_symmetric(queries):
    """Exchanging the two runs does not change p."""
    a, b = pair(queries)
    assert significance.fisher_p_value(a, b) == significance.fisher_p_value(b, a)


def test_fisher_is_deterministic():
    """The same scores give the same p, though the permutations are drawn."""
    a, b = pair(300)
    assert significance.fisher_p_value(a, b) == significance.fisher_p_value(a.copy(), b.copy())


def test_fisher_tells_a_clear_difference():
    """A run that is better on every query has a small p, and one that is equal on all has 1.0."""
    a = np.linspace(0.1, 0.8, 200)
    assert significance.fisher_p_value(a + 0.1, a) < 0.001
    assert significance.fisher_p_value(a, a.copy()) == 1.0


def test_fisher_on_a_single_query():
    """One query can show nothing: p is 1, not an error."""
    assert significance.fisher_p_value(np.array([1.0]), np.array([0.5])) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_fisher_is_scipy_s_permutation_test(seed):
    """Drawn sign flips give scipy's p on as many queries as a split has."""
    from scipy.stats import permutation_test

    generator = np.random.default_rng(seed)
    a = 1 / generator.integers(1, 30, 400)
    b = np.where(generator.random(400) < 0.7, a, 1 / generator.integers(1, 26, 400))
    expected = permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    assert significance.fisher_p_value(a, b) == pytest.approx(expected.pvalue, abs=0.02)


def test_many_tests_at_once_are_each_one_s():
    """p does not depend on what else is tested."""
    generator = np.random.default_rng(1)
    differences = generator.normal(0.02, 0.3, (5, 300))
    together = significance.fisher_p_values(differences)
    assert together.tolist() == [significance.fisher_p_values(each[None])[0] for each in differences]


def test_a_random_run_has_the_recall_of_chance():
    """Recall of a random ranking is its share of the corpus, and a seed's ranking is one."""
    queries, passages = [f"q{n}" for n in range(2000)], [f"p{n}" for n in range(200)]
    run = random_run(queries, passages)
    scores = per_query(run, {query: ["p7"] for query in queries}, ("Recall@25",))
    assert scores["Recall@25"].mean() == pytest.approx(25 / 200, abs=0.03)
    assert all(len(set(row)) == METRIC_DEPTH for row in run.passages[:20])
    assert (random_run(queries, passages).passages == run.passages).all()


def test_the_mean_cosine_is_that_of_all_pairs():
    """Of different passages, against a slow loop; 1 where all point one way."""
    vectors = np.random.default_rng(0).normal(size=(20, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    slow = [float(unit[i] @ unit[j]) for i in range(20) for j in range(20) if i != j]
    assert mean_cosine(vectors) == pytest.approx(np.mean(slow))
    assert mean_cosine(np.ones((9, 4)) * np.arange(1, 10)[:, None]) == pytest.approx(1)


def test_blocks_of_the_corpus_change_no_loss(monkeypatch):
    """Positives and passages that are left out may be in any block; one of a single passage is a block too."""
    generator = np.random.default_rng(0)
    queries, passages = generator.normal(size=(6, 4)), generator.normal(size=(9, 4))
    relevant, left_out = [[0], [3, 8], [5], [8, 0], [2], []], [[1], [], [0, 8], [4], [], [2]]
    whole = retrieval_loss(queries, passages, relevant, 0.5, left_out=left_out)
    for size in (1, 2, 4, 8):
        monkeypatch.setattr(metrics, "LOSS_BLOCK", size)
        assert retrieval_loss(queries, passages, relevant, 0.5, left_out=left_out) == pytest.approx(whole, abs=1e-12)


def test_the_retrieval_loss_is_a_slow_loop_s():
    """The best of several relevants is the positive, the others are left out."""
    generator = np.random.default_rng(0)
    queries, passages = generator.normal(size=(6, 4)), generator.normal(size=(9, 4))
    relevant = [[n] if n % 2 else [n, n + 1] for n in range(6)]
    losses = []
    for query, own in zip(queries, relevant, strict=True):
        scores = passages @ query / 0.5
        best = max(scores[n] for n in own)
        others = [scores[n] for n in range(9) if n not in own]
        losses.append(np.log(np.exp(best) + np.exp(others).sum()) - best)
    assert retrieval_loss(queries, passages, relevant, 0.5) == pytest.approx(np.mean(losses))
    unanswered = [*relevant, []]
    assert retrieval_loss(np.vstack([queries, queries[:1]]), passages, unanswered, 0.5) == pytest.approx(
        np.mean(losses)
    )
