"""Candidates: every feature against a slow reference, no label of a query in its own features, runs from scores."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.data.few_shot import QueryMetadata
from rounds.reranking.candidates import FILE, Candidates, read_candidates, write_candidates
from rounds.reranking.features import (
    HUB,
    LEXICAL,
    NEAREST,
    VOTE_TEMPERATURE,
    FusedModel,
    LabelledQueries,
    UnrankedSiblings,
    build_candidates,
)

CORPUS = [f"p{number}" for number in range(80)]
LABELS = np.array([3, 7, 3, 11, 7, 3, 60])


def unit(generator: np.random.Generator, rows: int) -> np.ndarray:
    vectors = generator.standard_normal((rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def inputs() -> dict:
    """Arguments of `build_candidates`: six queries of three questions, seven labels, eighty passages, two models."""
    generator = np.random.default_rng(1)
    queries = {f"{n // 2}_{n % 2}": QueryMetadata("text", str(n // 2), f"c{n // 2}", f"s{n % 2}") for n in range(6)}
    training = [QueryMetadata("text", f"t{n}", f"c{n % 4}", f"s{n % 3}") for n in range(len(LABELS))]
    models = [
        FusedModel(name, unit(generator, 6), unit(generator, len(LABELS)), unit(generator, 80)) for name in ("a", "b")
    ]
    return {
        "queries": queries,
        "passage_ids": CORPUS,
        "labelled": LabelledQueries(training, LABELS),
        "models": models,
        "bm25_scores": generator.poisson(0.3, (6, 80)).astype(np.float32),
        "qrels": {"0_0": ["p3"], "2_1": ["p60"]},
    }


def test_candidates_are_the_nearest_the_voted_for_and_the_lexical(inputs):
    """A pair is a candidate if and only if one of the three rankings has it near its top."""
    table, main = build_candidates(**inputs), inputs["models"][-1]
    for row, query in enumerate(inputs["queries"]):
        similarity, bm25_scores = main.passages @ main.queries[row], inputs["bm25_scores"][row]
        nearest = {CORPUS[n] for n in np.argsort(-similarity)[:NEAREST]}
        voted = {CORPUS[n] for n in LABELS}  # fewer than VOTED
        lexical = {CORPUS[n] for n in np.argsort(-bm25_scores, kind="stable")[:LEXICAL] if bm25_scores[n] > 0}
        passages = table.passage_ids[table.query_rows == row].tolist()
        assert table.queries[row] == query and len(passages) == len(set(passages))
        assert set(passages) == nearest | voted | lexical


@pytest.fixture
def sampled_pairs(inputs) -> list[tuple[int, int, dict[str, float]]]:
    """Every seventh pair of the table: its query's row, its passage's row in the corpus, and its features."""
    table = build_candidates(**inputs)
    return [
        (
            int(table.query_rows[pair]),
            CORPUS.index(table.passage_ids[pair]),
            {name: float(values[pair]) for name, values in table.features.items()},
        )
        for pair in range(0, len(table.query_rows), 7)
    ]


def test_similarity_features_equal_a_slow_reference(inputs, sampled_pairs):
    """Score, distance from the best, rank, distance from the best labelled passage, and hubness, pair by pair."""
    for row, column, features in sampled_pairs:
        for model in inputs["models"]:
            similarity = model.passages @ model.queries[row]
            score, best_labelled = similarity[column], max(similarity[n] for n in LABELS)
            hubness = np.sort(model.labelled @ model.passages[column])[-HUB:].mean()
            assert features[f"{model.name}: score"] == pytest.approx(score, abs=1e-6)
            assert features[f"{model.name}: below best"] == pytest.approx(score - similarity.max(), abs=1e-6)
            assert features[f"{model.name}: rank"] == pytest.approx(np.log1p((similarity > score).sum()), abs=1e-5)
            assert features[f"{model.name}: below labelled"] == pytest.approx(score - best_labelled, abs=1e-6)
            assert features[f"{model.name}: near everything"] == pytest.approx(hubness, abs=1e-6)


def test_vote_features_equal_a_slow_reference(inputs, sampled_pairs):
    """Nearest vote, nearest vote within the construct, summed weight and spread votes, pair by pair."""
    labelled, queries = inputs["labelled"].metadata, list(inputs["queries"].values())
    for row, column, features in sampled_pairs:
        for model in inputs["models"]:
            similarity = model.labelled @ model.queries[row]
            voters = [n for n in range(len(LABELS)) if LABELS[n] == column]
            votes = [similarity[n] for n in voters]
            in_construct = [similarity[n] for n in voters if labelled[n].construct == queries[row].construct]
            weights = np.exp((similarity - 1) / VOTE_TEMPERATURE)
            mean = sum(weight * model.passages[n] for weight, n in zip(weights, LABELS, strict=True))
            spread = model.passages[column] @ mean / np.linalg.norm(mean)
            group = f"votes {model.name}"
            assert features[f"{group}: score"] == pytest.approx(max(votes, default=-1), abs=1e-6)
            assert features[f"{group}: in construct"] == pytest.approx(max(in_construct, default=-1), abs=1e-6)
            assert features[f"{group}: weight"] == pytest.approx(sum(weights[n] for n in voters), rel=1e-4, abs=1e-9)
            assert features[f"{group}: spread score"] == pytest.approx(spread, abs=1e-5)


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_outside_votes_are_those_of_their_own_labels(at_once, inputs, monkeypatch):
    """As votes of training queries, of other queries and in other groups; what they vote for becomes a candidate."""
    monkeypatch.setattr("rounds.reranking.features.VOTES_AT_ONCE", at_once)
    generator, labels = np.random.default_rng(2), np.array([5, 60, 5])
    outside = LabelledQueries([QueryMetadata("text", f"o{n}", f"c{n}", "s0") for n in range(3)], labels)
    models = [replace(model, outside=unit(generator, 3)) for model in inputs["models"]]
    table = build_candidates(**{**inputs, "models": models}, outside=outside)
    apart = [replace(model, labelled=model.outside, outside=None) for model in models]
    voted = build_candidates(**{**inputs, "models": apart, "labelled": outside})
    places = {pair: place for place, pair in enumerate(zip(table.query_rows, table.passage_ids, strict=True))}
    shared = [
        (place, places[pair])
        for place, pair in enumerate(zip(voted.query_rows, voted.passage_ids, strict=True))
        if pair in places
    ]
    rows, others = np.array(shared).T
    for name, values in voted.features.items():
        if name.startswith("votes "):
            other = table.features[name.replace("votes ", "outside ", 1)]
            np.testing.assert_allclose(values[rows], other[others], rtol=1e-4, atol=1e-6, err_msg=name)
    for passage in ("p5", "p60"):
        assert set(table.query_rows[table.passage_ids == passage]) == set(range(6))


def test_no_feature_says_how_many_outside_questions_a_passage_has(inputs):
    """A source that says for which passages somebody wrote questions, and not what is right, would tell the labels."""
    models = [replace(model, outside=unit(np.random.default_rng(2), 1)) for model in inputs["models"]]
    outside = LabelledQueries([QueryMetadata("text", "o", "c", "s0")], np.array([5]))
    groups = {
        name.partition(": ")[0] for name in build_candidates(**{**inputs, "models": models}, outside=outside).features
    }
    assert {group for group in groups if group.startswith("outside")} == {f"outside {each.name}" for each in models}


def test_label_word_and_sibling_features_equal_a_slow_reference(inputs, sampled_pairs):
    """Counts of labels, BM25 scores, and similarity to the other wrong answer of the question, pair by pair."""
    labelled, queries, main = inputs["labelled"].metadata, list(inputs["queries"].values()), inputs["models"][-1]
    for row, column, features in sampled_pairs:
        same_subject = [n for n in range(len(LABELS)) if labelled[n].subject == queries[row].subject]
        sibling = row + 1 if row % 2 == 0 else row - 1
        assert features["labels: count"] == (column == LABELS).sum()
        assert features["labels: queries of subject"] == len(same_subject)
        assert features["labels: count in subject"] == sum(LABELS[n] == column for n in same_subject)
        assert features["siblings: score"] == pytest.approx(main.passages[column] @ main.queries[sibling], abs=1e-6)
        assert features["words: score"] == inputs["bm25_scores"][row, column]


def test_a_query_s_own_label_changes_no_feature(inputs):
    """Other labels of the queries to rank change `relevant`, and nothing else."""
    table = build_candidates(**inputs)
    other = build_candidates(**{**inputs, "qrels": {"0_0": ["p7"], "1_1": ["p11"]}})
    assert table.relevant.sum() and not np.array_equal(table.relevant, other.relevant)
    assert np.array_equal(table.query_rows, other.query_rows)
    assert np.array_equal(table.passage_ids, other.passage_ids)
    assert all(np.array_equal(table.features[name], other.features[name]) for name in table.features)


def test_a_run_has_the_best_scores_first_and_no_gaps():
    """Lists of different lengths are cut to the shortest; ties keep the table's order."""
    passages = np.array(["a", "b", "c", "d", "e"], dtype=object)
    table = Candidates(["x", "y"], np.array([0, 0, 0, 1, 1]), passages, np.zeros(5, bool), {})
    run = table.to_run(np.array([0.1, 0.9, 0.5, 0.2, 0.2]))
    assert run.queries == ["x", "y"] and run.passages.tolist() == [["b", "c"], ["d", "e"]]
    assert run.scores.tolist() == [[np.float32(0.9), 0.5], [np.float32(0.2), np.float32(0.2)]]


def test_a_table_reads_back_as_it_was_written(inputs, tmp_path):
    """Ids, labels and features survive the file, in their order."""
    table = build_candidates(**inputs)
    write_candidates(table, tmp_path / FILE)
    read = read_candidates(tmp_path / FILE)
    for name in ("queries", "query_rows", "passage_ids", "relevant"):
        assert np.array_equal(getattr(table, name), getattr(read, name))
    assert list(table.features) == list(read.features)
    assert all(np.array_equal(table.features[name], read.features[name]) for name in table.features)
    labels = [name for name in table.features if name.startswith("labels: ")]
    assert read.feature_matrix(("labels",)).shape == (len(table.query_rows), len(labels))


@pytest.mark.parametrize("content", [b"no", b"", b"PK\x03\x04 and no more"], ids=["text", "empty", "truncated"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    """A missing file and another kind of file are named."""
    (tmp_path / "other.npz").write_bytes(content)
    with refused("other.npz", "not a table of candidates"):
        read_candidates(tmp_path / "other.npz")
    with refused("none.npz", "no such file"):
        read_candidates(tmp_path / "none.npz")


def test_too_many_pairs_are_refused(inputs):
    """The limit is named before memory runs out."""
    with refused("6 queries and 80 passages", "100"):
        build_candidates(**inputs, max_pairs=100)


def test_siblings_that_are_not_ranked_count_as_those_that_are(inputs):
    """Each pair's features of its question's other wrong answers are the same, whether these are queries or not."""
    everything, metadata = build_candidates(**inputs), list(inputs["queries"].values())
    kept, left_out = [0, 2, 3, 4], [1, 5]
    models = [replace(model, queries=model.queries[kept]) for model in inputs["models"]]
    unranked = UnrankedSiblings([metadata[row] for row in left_out], inputs["models"][-1].queries[left_out])
    ranked = {
        "queries": {query: inputs["queries"][query] for row, query in enumerate(inputs["queries"]) if row in kept},
        "bm25_scores": inputs["bm25_scores"][kept],
        "models": [models[0], replace(models[1], siblings=unranked)],
    }
    table, alone = build_candidates(**{**inputs, **ranked}), build_candidates(**{**inputs, **ranked, "models": models})
    expected = everything.of_queries(np.isin(np.arange(6), kept))
    for name in ("siblings: score", "siblings: above", "siblings: number"):
        np.testing.assert_allclose(table.features[name], expected.features[name], atol=1e-6)
    assert set(alone.features["siblings: number"]) == {0, 1} and set(table.features["siblings: number"]) == {1}


@pytest.mark.parametrize("at_once", [1, 7 * 80, 2**24])
def test_the_nearest_passages_are_those_of_a_loop(at_once, inputs, monkeypatch):
    """However few similarities are held at once: the most similar other passage with, or without, a training label."""
    monkeypatch.setattr("rounds.reranking.features.SIMILARITIES_AT_ONCE", at_once)
    table, passages = build_candidates(**inputs), inputs["models"][-1].passages
    for name, is_labelled in (("labelled", True), ("unlabelled", False)):
        expected = [
            max(
                passages[int(row)] @ passages[other]
                for other in range(80)
                if other != int(row) and (other in LABELS) is is_labelled
            )
            for row in (str(passage).removeprefix("p") for passage in table.passage_ids)
        ]
        (key,) = (key for key in table.features if key.endswith(f"nearest {name} passage"))
        np.testing.assert_allclose(table.features[key], expected, atol=1e-6)
