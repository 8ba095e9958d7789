"""Candidates: every feature against a slow reference, no label of a query in its own features, runs from scores."""

import dataclasses

import numpy as np
import pytest
from helpers.tiny_task import refused

from rounds.data.few_shot import QueryMetadata
from rounds.reranking import features
from rounds.reranking.features import (
    FILE,
    HUB,
    LEXICAL,
    NEAREST,
    SHARPNESS,
    Candidates,
    Labelled,
    Member,
    build_candidates,
    read_candidates,
    write_candidates,
)

CORPUS = [f"p{number}" for number in range(80)]
LABELS = np.array([3, 7, 3, 11, 7, 3, 60])


def unit(generator: np.random.Generator, rows: int) -> np.ndarray:
    vectors = generator.standard_normal((rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def given() -> dict:
    """Six queries of three questions, seven labels, eighty passages, two members."""
    generator = np.random.default_rng(1)
    asked = {f"{n // 2}_{n % 2}": QueryMetadata("text", str(n // 2), f"c{n // 2}", f"s{n % 2}") for n in range(6)}
    training = [QueryMetadata("text", f"t{n}", f"c{n % 4}", f"s{n % 3}") for n in range(len(LABELS))]
    members = [
        Member(name, unit(generator, 6), unit(generator, len(LABELS)), unit(generator, 80)) for name in ("a", "b")
    ]
    return {
        "asked": asked, "passages": CORPUS, "labelled": Labelled(training, LABELS), "members": members,
        "lexical": generator.poisson(0.3, (6, 80)).astype(np.float32), "qrels": {"0_0": ["p3"], "2_1": ["p60"]},
    }  # fmt: skip


def test_candidates_are_the_nearest_the_voted_for_and_the_lexical(given):
    """A pair is listed where one of the three rankings has it near its top, and nowhere else."""
    found, main = build_candidates(**given), given["members"][-1]
    for row, query in enumerate(given["asked"]):
        similar, near = main.passages @ main.queries[row], main.labelled @ main.queries[row]
        nearest = {CORPUS[n] for n in np.argsort(-similar)[:NEAREST]}
        voted = {CORPUS[n] for n in LABELS}  # fewer than VOTED
        words = [n for n in np.argsort(-given["lexical"][row], kind="stable")[:LEXICAL]]
        lexical = {CORPUS[n] for n in words if given["lexical"][row][n] > 0}
        own = found.passage[found.query == row].tolist()
        assert found.queries[row] == query and len(own) == len(set(own))
        assert set(own) == nearest | voted | lexical
        assert len(near) == len(LABELS)


def test_features_equal_a_slow_reference(given):
    """Similarities, votes, counts and siblings, pair by pair."""
    found, labelled = build_candidates(**given), given["labelled"]
    queries = list(given["asked"].values())
    for pair in range(0, len(found.query), 7):
        row, column = found.query[pair], CORPUS.index(found.passage[pair])
        has = {name: float(values[pair]) for name, values in found.features.items()}
        for member in given["members"]:
            similar, near = member.passages @ member.queries[row], member.labelled @ member.queries[row]
            voters = [near[n] for n in range(len(LABELS)) if LABELS[n] == column]
            in_construct = [
                near[n] for n in range(len(LABELS))
                if LABELS[n] == column and labelled.asked[n].construct == queries[row].construct
            ]  # fmt: skip
            hub = np.sort(member.labelled @ member.passages[column])[-HUB:].mean()
            assert has[f"{member.name}: score"] == pytest.approx(similar[column], abs=1e-6)
            assert has[f"{member.name}: below best"] == pytest.approx(similar[column] - similar.max(), abs=1e-6)
            assert has[f"{member.name}: rank"] == pytest.approx(np.log1p((similar > similar[column]).sum()), abs=1e-5)
            above = max(similar[n] for n in LABELS)
            assert has[f"{member.name}: below labelled"] == pytest.approx(similar[column] - above, abs=1e-6)
            assert has[f"{member.name}: near everything"] == pytest.approx(hub, abs=1e-6)
            assert has[f"votes {member.name}: score"] == pytest.approx(max(voters, default=-1), abs=1e-6)
            assert has[f"votes {member.name}: in construct"] == pytest.approx(max(in_construct, default=-1), abs=1e-6)
            weight = sum(np.exp((vote - 1) / SHARPNESS) for vote in voters)
            assert has[f"votes {member.name}: weight"] == pytest.approx(weight, rel=1e-4, abs=1e-9)
            weights = [np.exp((vote - 1) / SHARPNESS) for vote in near]
            mean = sum(each * member.passages[n] for each, n in zip(weights, LABELS, strict=True))
            expected = member.passages[column] @ mean / np.linalg.norm(mean)
            assert has[f"votes {member.name}: spread score"] == pytest.approx(expected, abs=1e-5)
        same = [n for n in range(len(LABELS)) if labelled.asked[n].subject == queries[row].subject]
        assert has["labels: count"] == (column == LABELS).sum()
        assert has["labels: queries of subject"] == len(same)
        assert has["labels: count in subject"] == sum(LABELS[n] == column for n in same)
        main = given["members"][-1]
        sibling = row + 1 if row % 2 == 0 else row - 1
        expected = main.passages[column] @ main.queries[sibling]
        assert has["siblings: score"] == pytest.approx(expected, abs=1e-6)
        assert has["words: score"] == given["lexical"][row, column]


def test_a_query_s_own_label_changes_no_feature(given):
    """Other labels of the queries to rank change `relevant`, and nothing else."""
    found = build_candidates(**given)
    other = build_candidates(**{**given, "qrels": {"0_0": ["p7"], "1_1": ["p11"]}})
    assert found.relevant.sum() and not np.array_equal(found.relevant, other.relevant)
    assert np.array_equal(found.query, other.query) and np.array_equal(found.passage, other.passage)
    assert all(np.array_equal(found.features[name], other.features[name]) for name in found.features)


def test_a_run_has_the_best_scores_first_and_no_gaps():
    """Lists of different lengths are cut to the shortest; ties keep the table's order."""
    passage = np.array(["a", "b", "c", "d", "e"], dtype=object)
    table = Candidates(["x", "y"], np.array([0, 0, 0, 1, 1]), passage, np.zeros(5, bool), {})
    run = table.run(np.array([0.1, 0.9, 0.5, 0.2, 0.2]))
    assert run.queries == ["x", "y"] and run.passages.tolist() == [["b", "c"], ["d", "e"]]
    assert run.scores.tolist() == [[np.float32(0.9), 0.5], [np.float32(0.2), np.float32(0.2)]]


def test_a_table_reads_back_as_it_was_written(given, tmp_path):
    """Ids, labels and features survive the file; something else in its place is named."""
    found = build_candidates(**given)
    write_candidates(found, tmp_path / FILE)
    again = read_candidates(tmp_path / FILE)
    for each in dataclasses.fields(Candidates):
        one, other = getattr(found, each.name), getattr(again, each.name)
        if each.name == "features":
            assert list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)
        else:
            assert np.array_equal(one, other)
    assert again.of(("labels",)).shape == (len(found.query), sum(name.startswith("labels: ") for name in one))
    (tmp_path / "other.npz").write_text("no")
    with refused("other.npz", "not a table of candidates"):
        read_candidates(tmp_path / "other.npz")
    with refused("none.npz", "no such file"):
        read_candidates(tmp_path / "none.npz")


def test_too_many_pairs_are_refused(given, monkeypatch):
    """The limit is named before memory runs out."""
    monkeypatch.setattr(features, "MOST", 100)
    with refused("6 queries and 80 passages", "100"):
        build_candidates(**given)
