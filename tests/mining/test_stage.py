import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.config.recipe import Mining
from rounds.data.text import normalize_text
from rounds.mining import sampling
from rounds.mining.sampling import Negatives
from rounds.mining.stage import mine_file
from rounds.models import checkpoint
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


def how(text: str, number: int, margin: float | None = None) -> Mining:
    return Mining(text, number, margin)


def slow_range(run: Run, qrels: dict, passages: dict, first: int, last: int) -> dict[str, list[str]]:
    """FlagEmbedding's `hn_mine.py`: cut the ranking to the range, then leave the positives' texts out."""
    found = {}
    for row, query in enumerate(run.queries):
        positives = {passages[passage] for passage in qrels[query]}
        found[query] = [p for p in run.passages[row].tolist()[first:last] if passages[p] not in positives]
    return found


def slow_allowed(run: Run, row: int, qrels: dict, passages: dict, asked: Mining) -> list[int]:
    """Ranks that may serve as negatives, one passage after the other."""
    positives, ranked = qrels[run.queries[row]], run.passages[row].tolist()
    scores = run.scores[row].tolist()
    taken = {normalize_text(passages[passage]) for passage in positives}
    limit = float("inf")
    if asked.relative_margin is not None:
        found = [score for passage, score in zip(ranked, scores, strict=True) if passage in positives]
        best = max(found, default=scores[-1])
        limit = best - abs(best) * asked.relative_margin
    labelled = {passage for each in qrels.values() for passage in each}
    allowed = []
    for rank, passage in enumerate(ranked):
        if passage not in passages or (asked.candidates == "labelled" and passage not in labelled):
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
    asked = Mining(f"{first}-{last}", number, margin, candidates)
    found = sampling.mine(run, qrels, passages, asked, seed)
    deepened, short = [], []
    for row, query in enumerate(run.queries):
        allowed = slow_allowed(run, row, qrels, passages, asked)
        ranks = [run.passages[row].tolist().index(passage) for passage in found.ids[query]]
        inside = [rank for rank in allowed if first <= rank < last]
        deeper = [rank for rank in allowed if rank >= last][: max(0, number - len(inside))]
        assert ranks == sorted(set(ranks)) and set(ranks) <= set(inside + deeper)
        assert len(ranks) == min(number, len(inside) + len(deeper))
        assert ranks == inside + deeper or len(inside) > number
        assert found.scores[query] == run.scores[row, ranks].tolist()
        deepened += [query] * bool(deeper)
        short += [query] * (len(ranks) < number)
    assert (found.deepened, found.short) == (deepened, short)


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
        found = sampling.mine(alone, {query: qrels[query]}, passages, asked, seed=42)
        assert found.ids == {query: expected[query]}
        assert (found.deepened, found.short) == ([], [])


def test_samples_come_from_the_range():
    """A sample is of the number asked for, distinct, from the range, best rank first, with the run's scores."""
    passages, run = texts(80), shuffled_run(20, 80, 60)
    qrels = {query: [run.passages[row, 5]] for row, query in enumerate(run.queries)}
    found = sampling.mine(run, qrels, passages, how("2-40", 7), seed=42)
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
    found = sampling.mine(run, dict.fromkeys(run.queries, ["29"]), passages, how("5-15", 3), seed=0)
    times = [sum(str(rank) in ids for ids in found.ids.values()) for rank in range(30)]
    assert set(times[:5] + times[15:]) == {0}
    assert all(120 < count < 240 for count in times[5:15])


def test_over_many_seeds_every_allowed_rank_is_drawn_equally():
    """Seeds draw each allowed rank, and each pair of neighbours, about as often as chance."""
    passages = texts(24)
    run = make_run({"q": list(passages)})
    drawn = [sampling.mine(run, {"q": ["9"]}, passages, how("4-20", 5), seed).ids["q"] for seed in range(3000)]
    allowed = [rank for rank in range(4, 20) if rank != 9]
    times = np.array([[str(rank) in ids for rank in allowed] for ids in drawn])
    assert set(times.sum(axis=1)) == {5}
    assert np.abs(times.mean(axis=0) - 5 / 15).max() < 0.04
    assert np.abs((times[:, 1:] & times[:, :-1]).mean(axis=0) - 5 / 15 * 4 / 14).max() < 0.03


def test_a_passage_that_is_not_allowed_leaves_the_others_draw_alone():
    """A draw depends on the allowed passages alone: neither their ranks nor what is left out between them count."""
    passages = texts(30)
    one = sampling.mine(make_run({"q": list(passages)[:28]}), {"q": ["28"]}, passages, how("0-28", 5), seed=3)
    mixed = list(passages)[:28][::-1] + ["28"]
    other = sampling.mine(make_run({"q": mixed}), {"q": ["28"]}, passages, how("0-29", 5), seed=3)
    assert other.ids["q"] == one.ids["q"][::-1]


@pytest.mark.parametrize(
    "twin", ["adds instead of multiplying\r\n", "  adds\tinstead of  multiplying", "adds instead of multiplying"]
)
def test_no_negative_has_a_positive_s_text(twin):
    """A passage with a positive's text under another id, white space apart, is no negative."""
    passages = texts(10) | {"7": "adds instead of multiplying", "3": twin}
    run = make_run({"q": list(passages)})
    found = sampling.mine(run, {"q": ["7"]}, passages, how("0-10", 8), seed=1)
    assert found.ids["q"] == ["0", "1", "2", "4", "5", "6", "8", "9"]


def test_no_positive_is_a_negative():
    """None of several positives is drawn, wherever it ranks."""
    passages = texts(12)
    run = make_run({"q": list(passages)})
    found = sampling.mine(run, {"q": ["0", "5", "11"]}, passages, how("0-12", 9), seed=1)
    assert found.ids["q"] == [p for p in passages if p not in ("0", "5", "11")]


def test_a_positive_that_is_not_in_the_run_is_excluded_by_text():
    """The text of a positive that ranks below the run's depth is excluded all the same."""
    passages = texts(10) | {"2": "the same", "9": "the  same"}
    run = make_run({"q": list(passages)[:8]})
    found = sampling.mine(run, {"q": ["9"]}, passages, how("0-8", 7), seed=1)
    assert found.ids["q"] == ["0", "1", "3", "4", "5", "6", "7"]


def test_no_text_comes_twice():
    """Of passages with one text the best ranked stands for all."""
    passages = texts(10) | {"1": "same", "4": "same ", "8": " same"}
    run = make_run({"q": list(passages)})
    found = sampling.mine(run, {"q": ["0"]}, passages, how("0-10", 9), seed=1)
    assert found.ids["q"] == ["1", "2", "3", "5", "6", "7", "9"]
    assert len({normalize_text(passages[p]) for p in found.ids["q"]}) == 7


@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.77, 0.765, 0.75, 0.3], [0.1, -0.2, -0.205, -0.212, -0.22, -0.5]])
def test_the_margin_holds_for_either_sign(scores):
    """No negative scores above `positive - abs(positive) * margin`, be the positive's score above or below 0."""
    passages = texts(6)
    run = make_run({"q": list(passages)}, scores)
    found = sampling.mine(run, {"q": ["1"]}, passages, how("0-6", 5, 0.05), seed=1)
    limit = scores[1] - abs(scores[1]) * 0.05
    expected = [p for p, score in zip(passages, scores, strict=True) if p != "1" and score <= limit]
    assert 0 < len(expected) < 5
    assert found.ids["q"] == expected


def test_the_margin_is_of_the_best_positive():
    """With several positives the best ranked sets the limit."""
    passages, scores = texts(5), [0.8, 0.7, 0.5, 0.3, 0.2]
    run = make_run({"q": list(passages)}, scores)
    assert sampling.mine(run, {"q": ["1", "3"]}, passages, how("0-5", 3, 0.1), seed=1).ids["q"] == ["2", "4"]


def test_the_margin_of_an_unranked_positive_lets_nothing_above_it_in():
    """A positive below the run's depth scores less than all that is ranked: nothing is certain to be within."""
    passages = texts(6)
    run = make_run({"q": list(passages)[:4]}, [0.8, 0.7, 0.6, 0.5])
    found = sampling.mine(run, {"q": ["5"]}, passages, how("0-4", 3, 0.05), seed=1)
    assert (found.ids["q"], found.short) == ([], ["q"])


def test_what_the_range_lacks_comes_from_the_next_ranks():
    """A range that holds too few is kept whole and filled up with the next allowed ranks behind it."""
    passages = texts(12)
    run = make_run({"q": list(passages)})
    found = sampling.mine(run, {"q": ["3", "6"]}, passages, how("2-5", 5), seed=1)
    assert found.ids["q"] == ["2", "4", "5", "7", "8"]
    assert (found.deepened, found.short) == (["q"], [])


def test_what_even_the_run_lacks_is_reported():
    """A query that ends with too few is named in `short`, and has what there is."""
    passages = texts(8)
    run = make_run({"full": list(passages)[:6], "poor": list(passages)[:6]})
    qrels = {"full": ["7"], "poor": ["0", "1", "2", "3"]}
    found = sampling.mine(run, qrels, passages, how("0-4", 4), seed=1)
    assert found.ids == {"full": ["0", "1", "2", "3"], "poor": ["4", "5"]}
    assert (found.deepened, found.short) == (["poor"], ["poor"])


@pytest.mark.parametrize(
    ("short", "depth", "expected"), [([], 5, True), (["q"], 5, False), (["q"], 8, True), ([], 8, True)]
)
def test_enough(short, depth, expected):
    """A deeper run is wanted where somebody fell short and the corpus holds more than the run."""
    run = make_run({"q": list(texts(8))[:depth]})
    assert sampling.enough(Negatives({}, {}, [], short), run, corpus=8) is expected


def test_neither_order_nor_company_changes_a_query_s_negatives():
    """A query has the same negatives in any order of the queries and without the others."""
    passages, run = texts(60), shuffled_run(12, 60, 50)
    qrels = {query: ["0"] for query in run.queries}
    whole = sampling.mine(run, qrels, passages, how("2-40", 5), seed=42)
    for rows in ([*range(11, -1, -1)], [4], [7, 2]):
        part = Run([run.queries[row] for row in rows], run.passages[rows], run.scores[rows])
        found = sampling.mine(part, qrels, passages, how("2-40", 5), seed=42)
        assert found.ids == {query: whole.ids[query] for query in part.queries}


def test_another_seed_is_another_sample():
    """The seed draws: equal seeds agree, others differ."""
    passages, run = texts(60), shuffled_run(12, 60, 50)
    qrels = {query: ["0"] for query in run.queries}
    one, same, other = (sampling.mine(run, qrels, passages, how("2-40", 5), seed=seed).ids for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_two_queries_with_one_ranking_draw_apart():
    """Queries that rank alike do not get one and the same sample."""
    passages = texts(60)
    run = make_run({f"q{n}": list(passages) for n in range(5)})
    found = sampling.mine(run, dict.fromkeys(run.queries, ["0"]), passages, how("2-50", 5), seed=42)
    assert len({tuple(ids) for ids in found.ids.values()}) == 5


SCRIPT = """
import json, numpy as np
from rounds.mining import sampling
from rounds.retrieval.run import Run
from rounds.config.recipe import Mining
passages = {str(n): f"text {n}" for n in range(50)}
run = Run(["a", "b"], np.array([list(passages)] * 2, dtype=object), np.ones((2, 50), dtype=np.float32))
print(json.dumps(sampling.mine(run, {"a": ["0"], "b": ["1"]}, passages, Mining("2-40", 5), 42).ids))
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
    found = sampling.mine(run, qrels, passages, asked, seed=42)
    for query, ids in found.ids.items():
        assert set(ids) <= labelled - set(qrels[query])
    assert found.deepened and all(len(ids) == min(5, len(labelled) - 1) for ids in found.ids.values())


@pytest.fixture(scope="module")
def mined(tiny, tiny_collection, tmp_path_factory):
    """Mine the tiny collection by an index, into one folder; returns lines, rows, manifest and file."""
    folder = tmp_path_factory.mktemp("mined")

    def mine(kind: str, seed: int = 42) -> tuple[str, list[dict], dict, Path]:
        source, asked = checkpoint.resolve(None, tiny, "cpu"), dataclasses.replace(tiny.mining, index=kind)
        rows, pool = tiny_collection / "finetune_data.jsonl", tiny_collection / "candidate_pool.jsonl"
        output = folder / f"{kind}-{seed}.jsonl"
        lines = mine_file(source, asked, rows, pool, output, seed, folder, True)
        return lines, store.read_jsonl(output), store.read_json(store.file_manifest(output)), output

    return mine


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_approximate_index_mines_and_tells_its_recall(mined, kind):
    """Mining by an index gives each query its negatives, and prints and stores the recall against exact search."""
    exact_lines, exact_rows, exact, _ = mined("exact")
    lines, rows, manifest, _ = mined(kind)
    recall = manifest["recall"]
    assert all(len(row["neg"]) == 5 and not set(row["neg"]) & set(row["pos"]) for row in rows)
    assert recall["queries"] == len(rows) and 0.8 < recall["recall@200"] <= 1 and 0.8 < recall["recall@25"] <= 1
    assert lines.splitlines()[1] == (
        f"index {kind}: recall@25 {recall['recall@25']:.4f}, recall@200 {recall['recall@200']:.4f} "
        f"against exact search on {len(rows)} queries"
    )
    assert (exact["recall"], exact_lines.count("\n"), len(exact_rows)) == ({}, 0, len(rows))


def test_runs_of_each_index_stand_apart(mined):
    """Exact search never reads an approximate run, nor the other way; the same index reads its own again."""
    paths = {kind: mined(kind)[2]["run"] for kind in ("hnsw", "ivfpq", "exact")}
    assert len(set(paths.values())) == 3
    again = mined("hnsw", seed=7)[2]
    assert again["run"] == paths["hnsw"]


def test_threads_change_no_negative(mined):
    """One thread and several rank and mine the same rows."""
    before, found = faiss.omp_get_max_threads(), []
    for threads in (1, 4):
        _, _, manifest, output = mined("exact")
        (output.parent / manifest["run"]).unlink()
        faiss.omp_set_num_threads(threads)
        found.append(mined("exact")[1])
    faiss.omp_set_num_threads(before)
    assert found[0] == found[1]


def test_a_pool_too_small_for_an_index_is_refused_before_encoding(tiny, tiny_collection, tmp_path):
    """IVF-PQ over too few passages names the key, and nothing is written."""
    source, asked = checkpoint.resolve(None, tiny, "cpu"), dataclasses.replace(tiny.mining, index="ivfpq")
    pool, output = tmp_path / "pool.jsonl", tmp_path / "mined" / "rows.jsonl"
    store.write_jsonl(pool, store.read_jsonl(tiny_collection / "candidate_pool.jsonl")[:600])
    with refused("mining.index ivfpq", "624", "600"):
        mine_file(source, asked, tiny_collection / "finetune_data.jsonl", pool, output, 42, tmp_path, False)
    assert list(tmp_path.iterdir()) == [pool]
