"""A query's own id or text is neither ranked for it nor its negative, unless a key says so (BEIR's identical ids)."""

import json

import numpy as np
import pytest
from helpers.tiny_task import refused
from helpers.training import mine

from rounds.artifacts import store
from rounds.data import collection, splits
from rounds.data.collection import Collection
from rounds.data.loaders import registry
from rounds.data.loaders.registry import Columns
from rounds.data.text import normalize_text
from rounds.evaluation import stage
from rounds.evaluation.metrics import per_query, random_run, retrieval_loss
from rounds.models import checkpoint
from rounds.retrieval import bm25
from rounds.retrieval.run import Run, rank_without
from rounds.training.dataset import read_training_groups

PARAPHRASES = [(f"How old is tree no{n:03d}?", f"What is the age of tree no{n:03d}?") for n in range(12)]


@pytest.fixture
def paraphrases(tmp_path):
    """A table that holds each pair in both directions, so that every query is a passage as well."""
    path = tmp_path / "pairs.jsonl"
    rows = [row for a, b in PARAPHRASES for row in ({"query": a, "positive": b}, {"query": f"{b} ", "positive": a})]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def collect(path, tiny, folder, identical: str = "ignore", split: str = "v3") -> Collection:
    """Write and read the collection of a file of pairs."""
    dataset, _ = registry.load_dataset("pairs", path, Columns(identical=identical))
    collection.write(dataset, splits.make_split(dataset, split), tiny.prompts, folder, {})
    return collection.read(folder)


def test_own_text_in_pairs_is_found_whatever_its_white_space(paraphrases):
    """Every query is one passage of the corpus; a label overrules it."""
    dataset, _ = registry.load_dataset("pairs", paraphrases, Columns())
    for query in dataset.queries:
        (own,) = dataset.identical[query.id]
        assert dataset.passages[own] == normalize_text(query.fields["question"])
    with open(paraphrases, "a", encoding="utf-8") as file:
        file.write(json.dumps({"query": PARAPHRASES[0][0], "positive": PARAPHRASES[0][0]}) + "\n")
    labelled, _ = registry.load_dataset("pairs", paraphrases, Columns())
    assert set(dataset.identical) - set(labelled.identical) == {"q0"}


def test_own_text_is_found_whatever_its_accents_are_made_of(tmp_path):
    """A composed letter and a letter with a combining accent are one text, as a tokenizer reads them."""
    path = tmp_path / "pairs.csv"
    path.write_text("query,positive\ncaf\u00e9,coffee\ncoffee,cafe\u0301\n", encoding="utf-8")
    dataset, _ = registry.load_dataset("pairs", path, Columns())
    assert dataset.identical == {"q0": ["p1"], "q1": ["p0"]}


def test_own_id_and_text_without_title_are_found_in_beir(tmp_path):
    """As in ArguAna, a query may be a document's text without its title, under the document's id or another."""
    (tmp_path / "qrels").mkdir()
    corpus = [
        {"_id": "a", "title": "Title", "text": "Cats are better."},
        {"_id": "b", "title": "Title", "text": "Dogs are better."},
        {"_id": "c", "text": "Neither is."},
    ]
    queries = [{"_id": "x", "text": "Cats are better."}, {"_id": "b", "text": "of another text"}]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "qrels" / "test.tsv").write_text("x\tb\t1\nb\ta\t1\n", encoding="utf-8")
    assert registry.load_dataset("beir", tmp_path, Columns())[0].identical == {"x": ["a"], "b": ["b"]}
    assert registry.load_dataset("beir", tmp_path, Columns(identical="rank"))[0].identical == {"x": [], "b": []}
    with refused("identical 'keep'", "ignore, rank"):
        registry.load_dataset("beir", tmp_path, Columns(identical="keep"))


def test_own_text_is_ranked_by_nothing_that_is_measured(paraphrases, tiny, tmp_path):
    """Neither the checkpoint's run nor those of BM25 and chance hold it, and the paraphrase can rank first."""
    data = collect(paraphrases, tiny, tmp_path / "c")
    row = stage.evaluate_checkpoint(checkpoint.resolve(None, tiny, "cpu"), data, tmp_path, False)
    stored = stage.run_store.read_trec(tmp_path / row.run / "run.trec")
    own = data.identical
    lexical = bm25.rank(data.validation, data.passages, 100, left_out=own)
    chance = random_run(list(data.validation), list(data.passages), left_out=own)
    for run in (stored, lexical, chance):
        assert run.passages.shape[1] == len(data.passages) - 1
        for query, passages in zip(run.queries, run.passages, strict=True):
            assert not set(own[query]) & set(passages) and set(data.qrels[query]) <= set(passages)
    assert per_query(lexical, data.qrels, ("MAP@25",))["MAP@25"].mean() > 0.9


def test_own_text_is_ranked_where_the_key_says_so(paraphrases, tiny, tmp_path):
    """With `rank`, BM25 finds the query itself first, as before."""
    data = collect(paraphrases, tiny, tmp_path / "c", "rank")
    assert not data.identical
    first = bm25.rank(data.validation, data.passages, 1).passages[:, 0]
    assert [data.passages[passage] for passage in first] == [normalize_text(text) for text in data.validation.values()]


@pytest.mark.parametrize("identical", ["ignore", "rank"])
def test_own_text_is_no_negative_unless_the_key_says_so(identical, paraphrases, tiny, tmp_path):
    """Of 24 passages, 22 are negatives; neither mining nor the mask of a batch lets the query's own text in."""
    collect(paraphrases, tiny, tmp_path / "c", identical, "submission")
    recipe = tiny.replace("mining", negative_number=24, range_for_sampling="0-24")
    mine(recipe, tmp_path / "c", tmp_path / "m.jsonl", seed=1)
    expected = 22 if identical == "ignore" else 23
    for row in store.read_jsonl(tmp_path / "m.jsonl"):
        assert len(row["neg"]) == expected
        assert (normalize_text(row["query"]) in map(normalize_text, row["neg"])) is (identical == "rank")
    groups = read_training_groups(tmp_path / "m.jsonl", 1, tiny)
    for query, masked in zip(groups.queries, groups.false_negatives, strict=True):
        assert (normalize_text(query) in {groups.passages[number] for number in masked}) is (identical == "ignore")


def test_own_text_is_no_negative_in_rows_of_other_tools(tiny, tmp_path):
    """FlagEmbedding's rows, which name no ids, obey the same rule, and say `"identical": []` to turn it off."""
    rows = [{"query": a, "pos": [b], "neg": [a, "another"]} for a, b in PARAPHRASES[:3]]
    rows[2]["identical"] = []
    store.write_jsonl(tmp_path / "m.jsonl", rows)
    groups = read_training_groups(tmp_path / "m.jsonl", 1, tiny)
    negatives = [{groups.passages[number] for number in numbers} for numbers in groups.negatives]
    assert negatives == [{"another"}, {"another"}, {"another", PARAPHRASES[2][0]}]


@pytest.mark.parametrize(
    ("depth", "expected"), [(2, [["a", "c"], ["a", "b"]]), (9, [["a", "c", "b"], ["a", "b", "c"]])]
)
def test_a_ranking_without_some_passages_is_that_of_the_others(depth, expected):
    """A ranking as deep as the corpus ends in what is left out of it where others have more to rank."""
    passages, scores = np.array([["b", "a", "c"], ["a", "b", "c"]]), np.array([[3, 2, 1]] * 2, dtype=np.float32)
    run = rank_without(lambda width: Run(["q", "r"], passages, scores).top(width), ["q", "r"], {"q": ["b"]}, depth, 3)
    assert run.passages.tolist() == expected and run.scores[0].tolist() == [2, 1, 1][:depth]
    assert (np.diff(run.scores) <= 0).all()


def test_the_validation_loss_leaves_own_passages_out():
    """It is the loss over the corpus without them."""
    generator = np.random.default_rng(1)
    queries, passages = generator.normal(size=(2, 4)), generator.normal(size=(5, 4))
    losses = [
        retrieval_loss(queries[[row]], np.delete(passages, own, axis=0), [[0]], 0.1) for row, own in enumerate((2, 4))
    ]
    assert retrieval_loss(queries, passages, [[0], [0]], 0.1, left_out=[[2], [4]]) == pytest.approx(np.mean(losses))


def test_tasks_without_own_passages_keep_their_files(tiny_collection):
    """A collection of questions, whose queries are no passages, has no word about them."""
    assert collection.read(tiny_collection).identical == {}
    for name in ("finetune_data.jsonl", "validation_queries.jsonl"):
        assert all("identical" not in row for row in store.read_jsonl(tiny_collection / name))
