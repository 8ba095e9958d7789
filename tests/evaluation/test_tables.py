import dataclasses

import numpy as np
import pytest
from helpers.result_rows import QUERIES, full
from helpers.tiny_task import refused

from rounds.evaluation import results, significance, tables
from rounds.evaluation.results import ResultRow


def row(label: str, seed: int, beside: bool = False, queries: list[str] = QUERIES, **metrics) -> ResultRow:
    """A row of reciprocal ranks up to 25, or 0."""
    ranks = np.random.default_rng(seed).integers(1, 30, len(queries))
    values = np.where(ranks <= 25, 1 / ranks, 0.0)
    table = {"MAP@25": float(values.mean()), "MAP@25 seen": 0.5, "MAP@25 unseen": None, **metrics}
    return ResultRow(label, table, values, queries, {"beside": beside, "data": "tiny"})


def test_p_is_against_the_nearest_earlier_row_of_the_chain():
    """Rows that stand beside the chain are tested but nothing is tested against them."""
    rows = [row("a", 1), row("b", 2), row("b best", 3, beside=True), row("c", 4), row("d", 5)]
    against = [None, 0, 1, 1, 3]
    expected = [
        None if earlier is None else significance.fisher(each.per_query, rows[earlier].per_query)
        for each, earlier in zip(rows, against, strict=True)
    ]
    assert results.p_values(rows) == expected


def test_a_row_before_the_chain_s_first_has_no_p():
    """Nothing is tested before there is a row of the chain."""
    assert results.p_values([row("best", 1, beside=True), row("a", 2)]) == [None, None]


def test_equal_rows_have_p_1():
    """A row against its like has p = 1."""
    assert results.p_values([row("a", 1), row("again", 1)]) == [None, 1.0]


@pytest.mark.parametrize("other", [QUERIES[:-1], QUERIES[::-1], [*QUERIES[:-1], "x_B"]])
@pytest.mark.parametrize("beside", [False, True])
def test_rows_on_different_queries_are_refused(other, beside):
    """Rows of other queries, or of another order, are not compared; both are named."""
    with refused("round 2", "round 1", "different queries"):
        results.p_values([row("round 1", 1), row("round 2", 2, beside=beside, queries=other)])


def test_an_incomparable_row_beside_the_chain_is_refused_wherever_it_stands():
    """A table holds rows of one query set, also where its first row stands beside the chain."""
    with refused("different queries"):
        results.p_values([row("best", 1, beside=True, queries=QUERIES[:-1]), row("a", 2)])


def test_save_and_load_round_trip(tmp_path):
    """Rows read back are the rows that were saved, their per-query scores to the last bit."""
    rows = [row("round 1 (last)", 1), row("round 1 (best)", 2, beside=True), row('a, "b"', 3)]
    results.save(rows, tmp_path)
    for old, new in zip(rows, results.load(tmp_path), strict=True):
        assert (new.label, new.metrics, new.queries, new.about) == (old.label, old.metrics, old.queries, old.about)
        assert new.per_query.tolist() == old.per_query.tolist()


def test_a_row_against_its_saved_self_has_p_1(tmp_path):
    """Saving loses nothing that the test could take for a difference."""
    thirds = dataclasses.replace(row("a", 1), per_query=np.array([(n + 1) / (3 * n + 7) for n in range(60)]))
    results.save([thirds], tmp_path)
    assert results.p_values([thirds, *results.load(tmp_path)]) == [None, 1.0]


def test_ids_that_look_like_nothing_survive(tmp_path):
    """Query ids are texts: none is read back as a missing value or a number."""
    queries = ["NA", "007", "null", "1.0"]
    results.save([row("a", 1, queries=queries)], tmp_path)
    assert results.load(tmp_path)[0].queries == queries


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    """A folder that eval did not write is named."""
    with refused(tmp_path / "metrics.json", "no such file"):
        results.load(tmp_path)


def test_cells_show_what_the_header_names():
    """Each line has a cell per column: label, metrics to 4 decimals, `-` for none, p only where there is one."""
    first, second = tables.cells([row("a", 1), row("b", 2, **{"Recall@25": 0.25})])
    assert len(first) == len(second) == len(tables.header())
    assert (first[0], first[-1]) == ("a", "")
    assert second[1] == f"{row('b', 2).metrics['MAP@25']:.4f}"
    assert second[2] == "0.2500"
    assert second[tables.header().index("MAP@25 unseen")] == "-"


def test_markdown_holds_the_cells():
    """The Markdown table has the header, a rule, and one line per row with the same cells."""
    rows = [row("a", 1), row("b", 2)]
    lines = tables.markdown(rows).splitlines()
    assert len(lines) == 4
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]] == tables.cells(rows)


def test_letters_stand_where_a_row_is_better():
    """A superscript names a row that is worse at p <= 0.01, and none stands at its own row or for chance."""
    rows = [full("low", 1), full("high", 2, 0.4), full("low again", 3)]
    lines = tables.lettered(tables.report(rows))
    for column in range(2, len(lines[0])):
        low, high, again = (line[column] for line in lines[1:])
        assert high.endswith("ᵃᶜ") and not low.endswith("ᵇ") and not again.endswith("ᵇ")
    assert [line[0] for line in lines] == ["#", "a", "b", "c"]


def test_a_report_is_written_as_markdown_latex_and_csv(tmp_path):
    """All three hold every row and metric; the CSV's figures are plain."""
    rows = [full("one", 1), full("two", 2, 0.4)]
    markdown, latex, table = tables.write_report(tables.report(rows), tmp_path / "out" / "report")
    assert markdown.read_text(encoding="utf-8").count("| ") > 2 * len(results.COMPARED)
    assert "\\begin{tabular}" in latex.read_text(encoding="utf-8")
    header, *lines = table.read_text(encoding="utf-8").splitlines()
    assert header.split(",") == ["run", *results.COMPARED]
    assert float(lines[1].split(",")[1]) == pytest.approx(rows[1].metrics["MAP@25"])


def test_scores_are_kept_for_later_reports(tmp_path):
    """Every metric of each query comes back; folders from before that are refused by the report alone."""
    results.save([full("one", 1), full("two", 2)], tmp_path)
    loaded = results.load(tmp_path)
    for name, values in full("two", 2).scores.items():
        np.testing.assert_array_equal(loaded[1].scores[name], values)
    (tmp_path / results.SCORES).unlink()
    with refused("one", "evaluate it again"):
        tables.report(results.load(tmp_path))


def test_what_stands_in_several_folders_is_one_row():
    """Zero-shot once; rounds of several recipes are told apart by their names; other queries are refused."""
    zero = full("zero-shot", 1)
    rows = [zero, full("round 1", 2), zero, full("round 1", 3, recipe="other")]
    assert [row.label for row in results.distinct(rows)] == ["zero-shot", "tiny: round 1", "other: round 1"]
    with refused("different queries"):
        results.distinct([zero, dataclasses.replace(zero, queries=QUERIES[::-1])])


def test_more_runs_than_letters_are_refused():
    """27 rows cannot be named by a letter each."""
    with refused("27 runs"):
        tables.report([full(f"r{n}", n) for n in range(27)])
