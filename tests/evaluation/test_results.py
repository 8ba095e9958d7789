"""Result rows: p-values against the chain, saving and loading, and merging the rows of several folders."""

import dataclasses

import numpy as np
import pytest
from helpers.result_rows import QUERIES, make_row
from helpers.tiny_task import refused

from rounds.artifacts import store
from rounds.evaluation import results, significance, tables
from rounds.evaluation.results import ResultRow, RowKind


def row(label: str, seed: int, in_chain: bool = True, queries: list[str] = QUERIES, **metrics) -> ResultRow:
    """Return a row whose scores are reciprocal ranks up to 25, or 0."""
    ranks = np.random.default_rng(seed).integers(1, 30, len(queries))
    values = np.where(ranks <= 25, 1 / ranks, 0.0)
    table = {"MAP@25": float(values.mean()), "MAP@25 seen": 0.5, "MAP@25 unseen": None, **metrics}
    return ResultRow(label, table, values, queries, data="tiny", in_chain=in_chain)


def test_p_is_against_the_nearest_earlier_row_of_the_chain():
    """Rows outside the chain are tested, but no row is tested against them."""
    rows = [row("a", 1), row("b", 2), row("b best", 3, in_chain=False), row("c", 4), row("d", 5)]
    against = [None, 0, 1, 1, 3]
    expected = [
        None if earlier is None else significance.fisher_p_value(each.per_query, rows[earlier].per_query)
        for each, earlier in zip(rows, against, strict=True)
    ]
    assert results.p_values(rows) == expected


def test_a_row_before_the_chain_s_first_has_no_p():
    """A row without an earlier row of the chain has no p."""
    assert results.p_values([row("best", 1, in_chain=False), row("a", 2)]) == [None, None]


def test_equal_rows_have_p_1():
    """Two rows with equal scores have p = 1."""
    assert results.p_values([row("a", 1), row("again", 1)]) == [None, 1.0]


@pytest.mark.parametrize("other", [QUERIES[:-1], QUERIES[::-1], [*QUERIES[:-1], "x_B"]])
@pytest.mark.parametrize("in_chain", [False, True])
def test_rows_on_different_queries_are_refused(other, in_chain):
    """Rows of other queries, or of another order, are not compared; both are named."""
    with refused("round 2", "round 1", "different queries"):
        results.p_values([row("round 1", 1), row("round 2", 2, in_chain=in_chain, queries=other)])


def test_a_row_outside_the_chain_needs_the_same_queries():
    """A table holds rows of one query set, even if its first row is outside the chain."""
    with refused("different queries"):
        results.p_values([row("best", 1, in_chain=False, queries=QUERIES[:-1]), row("a", 2)])


def test_save_and_load_round_trip(tmp_path):
    """Loaded rows equal the saved rows, their per-query scores to the last bit."""
    rows = [
        dataclasses.replace(row("round 1 (last)", 1), kind=RowKind.ROUND, round=1, epoch=2, mark="last"),
        dataclasses.replace(row("zero-shot", 2, in_chain=False), kind=RowKind.ZERO_SHOT, round=0),
        row('a, "b"', 3),
    ]
    results.save(rows, tmp_path)
    for old, new in zip(rows, results.load(tmp_path), strict=True):
        assert dataclasses.replace(new, per_query=old.per_query) == old
        assert new.per_query.tolist() == old.per_query.tolist()


def test_rows_of_one_label_keep_their_own_scores(tmp_path):
    """A model folder called BM25, evaluated beside BM25, reads back its own per-query scores."""
    rows = [row("BM25", 1), row("BM25", 2)]
    results.save(rows, tmp_path)
    loaded = results.load(tmp_path)
    assert [each.per_query.tolist() for each in loaded] == [each.per_query.tolist() for each in rows]


@pytest.mark.parametrize(
    ("label", "about", "kind", "short_name"),
    [
        ("BM25", {"weights": "bm25"}, RowKind.BM25, "BM25"),
        ("chance", {"weights": "chance"}, RowKind.CHANCE, "chance"),
        ("zero-shot, 8 dimensions", {"round": 0, "epoch": None}, RowKind.ZERO_SHOT, "zero-shot"),
        ("zero-shot (words only)", {"round": 0, "label": "words only"}, RowKind.ZERO_SHOT, "zero-shot"),
        ("start", {"round": 3, "epoch": 1}, RowKind.START, "start"),
        ("round 2, epoch 1 [POLLUTED] (best)", {"round": 2, "epoch": 1, "label": "best"}, RowKind.ROUND, "round 2"),
        ("roundabout", {"round": None}, RowKind.CHECKPOINT, "roundabout"),
    ],
)
def test_rows_saved_without_a_kind_are_read(tmp_path, label, about, kind, short_name):
    """An evaluation that was saved before rows had a kind gets it from the label; the other fields were saved."""
    results.save([row(label, 1)], tmp_path)
    path = tmp_path / results.METRICS_FILE
    (entry,) = store.read_json(path)
    store.write_json(path, [{"label": label, "metrics": entry["metrics"], "about": {"beside": True, **about}}])
    (loaded,) = results.load(tmp_path)
    assert (loaded.kind, loaded.short_name, loaded.in_chain) == (kind, short_name, False)
    expected = (about.get("round"), about.get("epoch"), about.get("label", ""))
    assert (loaded.round, loaded.epoch, loaded.mark) == expected


def test_the_ledger_gets_the_fields_of_a_row():
    """Round, epoch and mark are the ledger's columns `round`, `epoch` and `label`."""
    entry = dataclasses.replace(row("round 1 (last)", 1), round=1, epoch=2, mark="last").ledger_entry
    assert (entry["round"], entry["epoch"], entry["label"], entry["data"]) == (1, 2, "last", "tiny")


def test_a_row_against_its_saved_self_has_p_1(tmp_path):
    """Saving loses nothing that the test could take for a difference."""
    thirds = dataclasses.replace(row("a", 1), per_query=np.array([(n + 1) / (3 * n + 7) for n in range(60)]))
    results.save([thirds], tmp_path)
    assert results.p_values([thirds, *results.load(tmp_path)]) == [None, 1.0]


def test_query_ids_are_read_as_text(tmp_path):
    """No query id is read back as a missing value or a number."""
    queries = ["NA", "007", "null", "1.0"]
    results.save([row("a", 1, queries=queries)], tmp_path)
    assert results.load(tmp_path)[0].queries == queries


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    """The missing file is named."""
    with refused(tmp_path / "metrics.json", "no such file"):
        results.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"label": None}, "row 2: key 'label' is null"),
        ({"kind": "lap"}, "row 2: key 'kind' is \"lap\""),
        ({"metrics": [0.5]}, "row 2: key 'metrics' is [0.5]"),
        ({"about": {"round": "1"}}, "row 2: key 'about.round' is \"1\""),
    ],
)
def test_a_broken_row_is_refused(changes, part, tmp_path):
    """File, row and key are named."""
    results.save([row("a", 1), row("b", 2)], tmp_path)
    path = tmp_path / results.METRICS_FILE
    entries = store.read_json(path)
    store.write_json(path, [entries[0], {**entries[1], **changes}])
    with refused(path, part, "evaluate again"):
        results.load(tmp_path)


def test_metrics_of_one_checkpoint_are_no_evaluation(tmp_path):
    """A checkpoint's folder has a metrics.json of its own, which holds no rows."""
    store.write_json(tmp_path / results.METRICS_FILE, {"MAP@25": 0.5})
    assert not results.is_saved(tmp_path)
    with refused(tmp_path / results.METRICS_FILE, "not a list of rows"):
        results.load(tmp_path)


def test_scores_of_all_metrics_are_loaded(tmp_path):
    """Every metric of each query comes back as it was saved."""
    results.save([make_row("one", 1), make_row("two", 2)], tmp_path)
    loaded = results.load(tmp_path)
    for name, values in make_row("two", 2).scores.items():
        np.testing.assert_array_equal(loaded[1].scores[name], values)


def test_equal_rows_of_several_folders_are_merged():
    """A row that several folders hold appears once; equal labels of different recipes get the recipe's name."""
    zero = make_row("zero-shot", 1)
    rows = [zero, make_row("round 1", 2), zero, make_row("round 1", 3, recipe="other")]
    assert [row.label for row in results.distinct(rows)] == ["zero-shot", "tiny: round 1", "other: round 1"]


def test_equal_labels_of_one_recipe_get_their_checkpoints(tmp_path):
    """Rounds of one recipe on two seeds stay two rows, in the comparison of all pairs too."""
    rows = [make_row("round 1", seed) for seed in (1, 2, 3)]
    for number, each in enumerate(rows):
        rows[number] = dataclasses.replace(each, checkpoint=f"run{min(number, 1)}/round1")
    labels = [row.label for row in results.distinct(rows)]
    assert labels == [
        "tiny: round 1 (run0/round1)",
        "tiny: round 1 (run1/round1) (round 12)",
        "tiny: round 1 (run1/round1) (round 13)",
    ]
    assert tables.compare(results.distinct(rows)).labels == labels


def test_one_model_on_different_passages_stays_two_rows():
    """Passages with and without explanations are two validation sets; baselines of both stand in one table."""
    baseline, model = {"kind": RowKind.BM25, "fingerprint": "bm25"}, {"kind": RowKind.ZERO_SHOT, "fingerprint": "f"}
    rows = [
        make_row(label, 1, recipe=recipe, validation=validation, **fields)
        for recipe, validation in (("plain", "v1"), ("explained", "v2"))
        for label, fields in (("BM25", baseline), ("zero-shot", model))
    ]
    assert [row.label for row in results.distinct([*rows, *rows])] == [
        "BM25 (v1)",
        "plain: zero-shot",
        "BM25 (v2)",
        "explained: zero-shot",
    ]


@pytest.mark.parametrize(
    ("other", "says"),
    [({"data": "faq-fr", "validation": "v2"}, "other data (faq-fr and faq-en)"), ({"labels": "l2"}, "other labels")],
)
def test_rows_of_other_data_are_not_compared(other, says, tmp_path):
    """Ids of pairs are numbers, which two tables share; rows saved before labels had a digest still compare."""
    same = {"data": "faq-en", "labels": "l1", "validation": "v1"}
    rows = [make_row("zero-shot", 1, **same), make_row("round 1", 2, **{**same, **other})]
    for number, row in enumerate(rows):
        (tmp_path / str(number)).mkdir()
        results.save([row], tmp_path / str(number))
    rows = [results.load(tmp_path / str(number))[0] for number in range(2)]
    for compare in (results.distinct, results.p_values):
        with refused("round 1 and zero-shot", says):
            compare(rows)
    older = dataclasses.replace(rows[0], label="older", labels="", data="" if "data" in other else "faq-en")
    assert len(results.distinct([rows[0], older])) == 2
    with refused("round 1 and zero-shot", says):
        results.p_values([older, *rows])
    assert len(results.distinct([rows[0], dataclasses.replace(rows[0], label="renamed", data="faq")])) == 2


def test_rows_of_different_queries_are_not_merged():
    """Rows in another order of queries are refused."""
    zero = make_row("zero-shot", 1)
    with refused("different queries"):
        results.distinct([zero, dataclasses.replace(zero, queries=QUERIES[::-1])])
