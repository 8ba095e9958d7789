"""Sources of negatives: each gives its share of its own run, and never a positive."""

import dataclasses
import json

import numpy as np
import pytest
from helpers.tiny_task import refused
from helpers.training import mine

from rounds.artifacts import store
from rounds.config import loader
from rounds.config import recipe as recipe_schema
from rounds.config.recipe import Mining
from rounds.evaluation import bm25_tuning
from rounds.mining.sampling import Negatives, sample_negatives
from rounds.mining.sources import SOURCES, MiningTask, drop_false_negatives, mine_negatives, shares
from rounds.retrieval.run import Run
from rounds.training.dataset import read_training_groups

PASSAGES = {str(n): f"passage {n} about {'fractions' if n % 2 else 'angles'}" for n in range(60)}
QUERIES = {f"q{n}": f"query {n} about {'fractions' if n % 2 else 'angles'}" for n in range(12)}
QRELS = {query: [str(5 * n)] for n, query in enumerate(QUERIES)}
GROUPS = {query: [f"construct {n % 3}", f"subject {n % 2}"] for n, query in enumerate(QUERIES)}
TASK = MiningTask(QUERIES, PASSAGES, QRELS, GROUPS)


def dense(depth: int) -> Run:
    """Each query's own order of the corpus."""
    rows = [np.random.default_rng(n).permutation(list(PASSAGES))[:depth] for n in range(len(QUERIES))]
    return Run(list(QUERIES), np.stack(rows), np.tile(-np.arange(len(rows[0]), dtype=np.float32), (len(QUERIES), 1)))


def recipe_of(number: int = 8, ranks: str = "2-30", **sources: float) -> Mining:
    return Mining(ranks, number, negatives=sources or {"dense": 1.0})


def mine_task(recipe: Mining, task: MiningTask = TASK, seed: int = 1) -> Negatives:
    return mine_negatives(task, dense, recipe, seed, 40)


def test_every_source_of_the_recipe_is_registered():
    """The names that a recipe may use are those of the registered sources; sources that read a file carry a path."""
    assert {name for name, source in SOURCES.items() if not source.reads_file} == set(recipe_schema.SOURCES)
    assert {name for name, source in SOURCES.items() if source.reads_file} == set(recipe_schema.FILE_SOURCES)


@pytest.mark.parametrize("sources", [{"dense": 1}, {"bm25": 1}, {"random": 1}, {"dense": 2, "bm25": 1, "random": 1}])
def test_each_source_gives_its_share(sources):
    """Every query has its number, of each source what the ratios say, none twice and no positive."""
    negatives = mine_task(recipe_of(**sources))
    expected = shares(sources, 8)
    for query, ids in negatives.ids.items():
        assert len(set(ids)) == 8 and not set(ids) & set(QRELS[query])
        assert {source: negatives.sources[query].count(source) for source in expected} == expected
        assert len(negatives.scores[query]) == 8
    assert not negatives.short


def test_one_source_is_plain_mining():
    """The default mines what mining alone does."""
    negatives, plain = mine_task(recipe_of()), sample_negatives(dense(40), QRELS, PASSAGES, recipe_of(), 1)
    assert (negatives.ids, negatives.scores, negatives.deepened) == (plain.ids, plain.scores, plain.deepened)


@pytest.mark.parametrize("number", range(1, 30))
def test_shares_add_up(number):
    """No negative is lost to rounding, and a share is off by less than one."""
    ratios = {"dense": 3.0, "bm25": 1.5, "random": 1.0, "same_group": 0.5}
    counts = shares(ratios, number)
    assert sum(counts.values()) == number
    assert all(abs(counts.get(name, 0) - number * ratio / 6) < 1 for name, ratio in ratios.items())


def test_negatives_of_the_group_are_of_the_group():
    """Construct first, then subject: what other queries of the group are about."""
    for query, ids in mine_task(recipe_of(3, same_group=1.0)).ids.items():
        near = {passage for other in QUERIES if GROUPS[other][0] == GROUPS[query][0] for passage in QRELS[other]}
        assert set(ids) == near - set(QRELS[query])


def test_what_a_source_lacks_comes_from_the_ranking_one():
    """Groups that hold seven passages cannot give eleven: the checkpoint's run does, and the row says so."""
    negatives = mine_task(recipe_of(12, dense=1.0, same_group=11.0))
    assert not negatives.short
    for query in QUERIES:
        count = negatives.sources[query].count("same_group")  # the dense negative may be one of the seven
        assert count in (6, 7) and negatives.sources[query].count("dense") == 12 - count


def slow_kinds(run: Run, row: int, share: float, number: int, first: int, last: int) -> dict[str, tuple[int, set[str]]]:
    """How many of each kind a query gets, and the passages that they are drawn from, one after the other."""
    labelled = {passage for positives in QRELS.values() for passage in positives}
    unlabelled = int(number * share + 0.5)
    ranked = [passage for passage in run.passages[row].tolist() if passage not in QRELS[run.queries[row]]]
    allowed = {"unlabelled": [p for p in ranked if p not in labelled], "labelled": [p for p in ranked if p in labelled]}
    ranks = {passage: rank for rank, passage in enumerate(run.passages[row].tolist())}
    kinds, wanted = {}, {"unlabelled": unlabelled, "labelled": number - unlabelled}
    for kind, passages in allowed.items():
        inside = [passage for passage in passages if first <= ranks[passage] < last]
        behind = [passage for passage in passages if ranks[passage] >= last]
        kinds[kind] = wanted[kind], {*inside, *behind[: max(0, wanted[kind] - len(inside))]}
    return kinds


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_of_unlabelled_negatives_equals_a_slow_loop(share):
    """Each query has the share exactly, drawn from the range, else from the next ranks of that kind alone."""
    negatives, run = mine_task(dataclasses.replace(recipe_of(9), unlabelled_share=share)), dense(60)
    labelled = {passage for positives in QRELS.values() for passage in positives}
    for row, query in enumerate(QUERIES):
        ids = negatives.ids[query]
        drawn = {"unlabelled": [p for p in ids if p not in labelled], "labelled": [p for p in ids if p in labelled]}
        for kind, (count, allowed) in slow_kinds(run, row, share, 9, 2, 30).items():
            assert len(set(drawn[kind])) == len(drawn[kind]) == count and set(drawn[kind]) <= allowed
    assert (negatives.short, negatives.refilled) == ([], [])


def test_the_share_holds_for_all_sources_together():
    """Sources share both kinds; what the group's positives, all labelled, cannot give comes from the checkpoint."""
    recipe = dataclasses.replace(recipe_of(7, dense=1.0, random=1.0, same_group=1.0), unlabelled_share=0.5)
    negatives = mine_task(recipe)
    labelled = {passage for positives in QRELS.values() for passage in positives}
    for query, ids in negatives.ids.items():
        assert sum(passage not in labelled for passage in ids) == 4 and len(set(ids)) == 7
        assert "same_group" in negatives.sources[query]
    assert negatives.refilled == []


def test_queries_for_which_one_kind_runs_out_take_the_other():
    """Of 12 labelled passages, a query has 11 that are not its positive: 15 at a share of 0 take 4 unlabelled."""
    negatives = mine_task(dataclasses.replace(recipe_of(15, "0-30"), unlabelled_share=0.0))
    labelled = {passage for positives in QRELS.values() for passage in positives}
    assert {sum(passage in labelled for passage in ids) for ids in negatives.ids.values()} == {11}
    assert {len(ids) for ids in negatives.ids.values()} == {15}
    assert (negatives.refilled, negatives.short) == (list(QUERIES), [])


def test_a_mined_file_counts_both_kinds(tiny, tiny_collection, tmp_path):
    """The line and the manifest say how many negatives no row labels; without a share, neither does."""
    output, plain = tmp_path / "mined.jsonl", tmp_path / "plain.jsonl"
    line = mine(tiny.replace("mining", candidates="corpus", unlabelled_share=0.4), tiny_collection, output)
    kinds = store.read_json(store.file_manifest(output))["kinds"]
    rows = store.read_jsonl(output, ("neg_id", "pos_id"))
    labelled = {passage for row in rows for passage in row["pos_id"]}
    unlabelled = sum(passage not in labelled for row in rows for passage in row["neg_id"])
    assert kinds["unlabelled"] == unlabelled and kinds["labelled"] == 5 * len(rows) - unlabelled
    assert f"unlabelled {unlabelled}, labelled {kinds['labelled']}; {kinds['refilled']} queries" in line
    assert "unlabelled" not in mine(tiny, tiny_collection, plain)
    manifest = store.read_json(store.file_manifest(plain))
    assert "kinds" not in manifest and "unlabelled_share" not in manifest["config"]["mining"]


def test_without_groups_the_source_is_refused():
    """Rows with neither construct nor subject have no groups."""
    with refused("same_group", "neither construct nor subject"):
        mine_task(recipe_of(same_group=1.0), dataclasses.replace(TASK, groups={query: [] for query in QUERIES}))


@pytest.mark.parametrize("source", ["random", "same_group"])
def test_other_queries_change_no_draw(source):
    """A query alone is given what it is given among others."""
    whole = mine_task(recipe_of(3, **{source: 1.0}))
    for query in list(QUERIES)[:3]:
        task = dataclasses.replace(TASK, queries={query: QUERIES[query]})
        assert mine_task(recipe_of(3, **{source: 1.0}), task).ids[query] == whole.ids[query]


def test_a_second_encoder_s_vectors_are_a_source(tmp_path):
    """The nearest by its vectors, by id whatever their order in the file."""
    generator = np.random.default_rng(0)
    queries, passages = generator.normal(size=(12, 4)), generator.normal(size=(60, 4))
    order = generator.permutation(60)
    path = tmp_path / "images.npz"
    passage_ids = np.array(list(PASSAGES))[order]
    np.savez(path, query_ids=list(QUERIES), queries=queries, passage_ids=passage_ids, passages=passages[order])
    negatives = mine_task(recipe_of(5, "0-5", **{f"vectors:{path}": 1.0}))
    for row, query in enumerate(QUERIES):
        nearest = np.argsort(-(passages @ queries[row]))[:6].astype(str).tolist()
        assert set(negatives.ids[query]) >= set(nearest[:5]) - set(QRELS[query])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("missing", ["passage", "59 has none"]),
        ("dimensions", ["4 dimensions and passages 3"]),
        ("words", ["passage", "type <U"]),
        ("text", ["not a .npz"]),
        ("empty", ["not a .npz"]),
        ("truncated", ["not a .npz"]),
        ("npy", ["not a .npz"]),
    ],
)
def test_vectors_that_do_not_fit_are_refused(change, parts, tmp_path):
    """A missing id, vectors that cannot be compared or another file is one line with the file's name."""
    path = tmp_path / "images.npz"
    rows, dim = 59 if change == "missing" else 60, 3 if change == "dimensions" else 4
    queries, passages = np.ones((12, 4)), np.ones((rows, dim)).astype(str if change == "words" else float)
    np.savez(path, query_ids=list(QUERIES), queries=queries, passage_ids=list(PASSAGES)[:rows], passages=passages)
    if change == "npy":
        with open(path, "wb") as file:
            np.save(file, queries)
    elif change in ("text", "empty", "truncated"):
        path.write_bytes({"text": b"no arrays", "empty": b"", "truncated": path.read_bytes()[:200]}[change])
    with refused(path, *parts):
        mine_task(recipe_of(**{f"vectors:{path}": 1.0}))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_second_encoder_s_vectors_that_are_not_numbers_are_refused(value, tmp_path):
    """A passage whose vector cannot be ranked is named with the file; it does not vanish from the rankings."""
    path = tmp_path / "images.npz"
    queries, passages = np.ones((12, 4)), np.ones((60, 4))
    passages[7, 1] = value
    np.savez(path, query_ids=list(QUERIES), queries=queries, passage_ids=list(PASSAGES), passages=passages)
    with refused(path, "passage", list(PASSAGES)[7], "not numbers"):
        mine_task(recipe_of(**{f"vectors:{path}": 1.0}))


def test_probable_false_negatives_are_left_out():
    """What the reranker scores above the positive goes; the rest keep their order and the reranker's scores."""
    negatives = mine_task(recipe_of(8))
    value = {
        (QUERIES[query], PASSAGES[passage]): (hash(passage) % 97) / 97 for query in QUERIES for passage in PASSAGES
    }
    score = lambda pairs: np.array([value[pair] for pair in pairs])  # noqa: E731
    kept = drop_false_negatives(negatives, TASK, score, 4)
    for query, ids in kept.ids.items():
        best = value[QUERIES[query], PASSAGES[QRELS[query][0]]]
        expected = [passage for passage in negatives.ids[query] if value[QUERIES[query], PASSAGES[passage]] <= best][:4]
        assert ids == expected and kept.positive_scores[query] == [pytest.approx(best)]
        assert kept.scores[query] == [pytest.approx(value[QUERIES[query], PASSAGES[passage]]) for passage in ids]
        assert (query in kept.short) == (len(ids) < 4)


def test_a_mined_file_says_each_negative_s_source(tiny, tiny_collection, tmp_path):
    """Mixed by ratio, the rows hold sources beside ids, and train as any."""
    recipe = tiny.replace("mining", negatives={"dense": 2.0, "bm25": 1.0, "random": 1.0, "same_group": 1.0})
    output = tmp_path / "mined.jsonl"
    line = mine(recipe, tiny_collection, output)
    rows = store.read_jsonl(output, ("neg", "neg_id", "neg_source"))
    assert all(len(row["neg_source"]) == len(row["neg"]) == 5 for row in rows)
    assert {source for row in rows for source in row["neg_source"]} == {"dense", "bm25", "random", "same_group"}
    assert "from dense" in line and read_training_groups(output, 42, recipe).negatives


@pytest.mark.slow
def test_a_cross_encoder_filters_and_scores(tiny, tiny_collection, tmp_path):
    """A CrossEncoder folder works as mining.reranker, its scores stand where FlagEmbedding looks for a teacher's."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from rounds.models.weights import locate_model

    bert = dataclasses.replace(tiny.model, name_or_path="random:bert")
    tokenizer = AutoTokenizer.from_pretrained(locate_model(bert))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "reranker")
    tokenizer.save_pretrained(tmp_path / "reranker")
    recipe = tiny.replace("mining", reranker=str(tmp_path / "reranker"), negative_number=3)
    output = tmp_path / "mined.jsonl"
    mine(recipe, tiny_collection, output)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    model = CrossEncoder(str(tmp_path / "reranker"), device="cpu")
    for row in rows[:10]:
        assert all(score <= max(row["pos_scores"]) for score in row["neg_scores"])
        expected = model.predict([(row["query"], text) for text in [*row["pos"], *row["neg"]]])
        np.testing.assert_allclose([*row["pos_scores"], *row["neg_scores"]], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("negatives_", "parts"),
    [
        ({"dens": 1.0}, ["dens", "not one of dense"]),
        ({"dense": 0.0}, ["mining.negatives.dense", "above 0"]),
        ({"vectors:": 1.0}, ["vectors:"]),
        ({}, ["empty"]),
    ],
)
def test_sources_that_are_not_there_are_refused(negatives_, parts):
    """A typo, a ratio of nothing, a path that is missing and no source at all."""
    with refused(*parts):
        loader.load("minilm").replace("mining", negatives=negatives_)


def test_a_recipe_s_sources_take_the_place_of_those_it_extends(tmp_path):
    """A mapping of sources is a value, not a section: nothing of the extended recipe's is left in it."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: minilm\nmining: {negatives: {bm25: 1}}\n", encoding="utf-8")
    assert loader.load(str(path)).mining.negatives == {"bm25": 1.0}


def test_bm25_is_tuned_by_its_grid():
    """Every point is measured, and the first is the best."""
    points = bm25_tuning.tune(QUERIES, PASSAGES, QRELS)
    assert len(points) == len(bm25_tuning.GRID["k1"]) * len(bm25_tuning.GRID["b"])
    assert points[0][2] == max(point[2] for point in points)
