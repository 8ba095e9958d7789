"""Tables of evaluated runs: the cells of the main table, letters for significant differences, and written files."""

import unicodedata

from helpers.result_rows import make_row
from helpers.tiny_task import refused

from rounds.evaluation import results, tables


def test_the_main_table_has_a_cell_per_column():
    """The cells are the label, metrics to 4 decimals, `-` for a missing metric, and p from the second row on."""
    first, second = make_row("a", 1), make_row("b", 2)
    second.metrics.update({"Recall@25": 0.25, "MAP@25 unseen": None})
    table = tables.main_table([first, second])
    assert [len(row) for row in table.rows] == [len(table.columns)] * 2
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert (cells[0][""], cells[0]["p"]) == ("a", "")
    assert cells[1]["MAP@25"] == f"{second.metrics['MAP@25']:.4f}"
    assert (cells[1]["Recall@25"], cells[1]["MAP@25 unseen"]) == ("0.2500", "-")
    assert cells[1]["p"] == f"{results.p_values([first, second])[1]:.4f}"


def test_letters_name_the_rows_that_are_significantly_worse():
    """A figure carries the letter of a row that is worse at p <= 0.01, and none of its own row or of an equal one."""
    rows = [make_row("low", 1), make_row("high", 2, 0.4), make_row("low again", 3)]
    lines = tables.comparison_table(tables.compare(rows)).lines
    for column in range(2, len(lines[0])):
        low, high, again = (line[column] for line in lines[1:])
        assert high.endswith("ᵃᶜ") and not low.endswith("ᵇ") and not again.endswith("ᵇ")
    assert [line[0] for line in lines] == ["#", "a", "b", "c"]


def test_letters_run_from_a_to_z():
    """The last of 26 rows, the best, carries the letters of all others, and its LaTeX the same."""
    rows = [make_row(f"r{number}", 1) for number in range(25)]
    table = tables.comparison_table(tables.compare([*rows, make_row("best", 2, 0.4)]))
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert [row[0] for row in table.rows] == list(letters)
    assert [unicodedata.normalize("NFKC", cell[6:]) for cell in table.rows[-1][2:]] == [letters[:25]] * 17
    assert table.latex().count(f"\\textsuperscript{{{letters[:25]}}}") == 17


def test_narrow_tables_hold_each_metric_once():
    """The tables for the terminal together show the columns of the whole table."""
    comparison = tables.compare([make_row("one", 1), make_row("two", 2)])
    narrow = tables.comparison_screens(comparison)
    assert [name for table in narrow for name in table.header[2:]] == list(results.COMPARED_METRICS)
    whole = tables.comparison_table(comparison)
    assert [cell for table in narrow for cell in table.rows[1][2:]] == whole.rows[1][2:]


def test_a_comparison_is_written_as_markdown_latex_and_csv(tmp_path):
    """Markdown and LaTeX explain their superscripts and have a row per run, the CSV holds unrounded means."""
    rows = [make_row("one", 1), make_row("two", 2, 0.4)]
    comparison = tables.compare(rows)
    markdown, latex, csv = tables.write_comparison(comparison, tmp_path / "out" / "report")
    text = markdown.read_text(encoding="utf-8")
    assert text == f"{tables.comparison_table(comparison).markdown()}\n{tables.note(comparison)}\n"
    note, *lines = latex.read_text(encoding="utf-8").splitlines()
    assert note == f"% {tables.note(comparison)}" and "\\begin{tabular}" in lines[1]
    assert [line[: line.index("0.")] for line in lines if "0." in line] == ["a & one & ", "b & two & \\textbf{"]
    header, *lines = csv.read_text(encoding="utf-8").splitlines()
    assert header.split(",") == ["run", *results.COMPARED_METRICS]
    assert float(lines[1].split(",")[1]) == rows[1].metrics["MAP@25"]


def test_runs_with_only_map_are_refused():
    """An evaluation that saved only MAP@25 cannot be compared on all metrics."""
    row = make_row("one", 1)
    row.scores.clear()
    with refused("one", "evaluate it again"):
        tables.compare([row])


def test_more_runs_than_letters_are_refused():
    """There is no letter for the 27th row."""
    with refused("27 runs"):
        tables.compare([make_row(f"r{n}", n) for n in range(27)])
