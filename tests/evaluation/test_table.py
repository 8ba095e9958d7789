"""Table: one table rendered as Markdown, LaTeX, CSV and JSON, and for the terminal."""

import csv
import io
import re
import unicodedata

import pytest
from helpers.tiny_task import refused
from rich.console import Console

from rounds.evaluation.table import SUPERSCRIPTS, Column, Table

TABLE = Table(
    [Column("", is_text=True), Column("MAP@25 seen"), Column("LB")],
    [["BM25", "0.1916", None], ["round 1, epoch 2", "0.4482ᵃ", "0.31"]],
    title="two runs",
    caption="a note",
)


def test_markdown_holds_header_rule_and_cells():
    """Text columns align to the left, figures to the right; an empty cell is empty."""
    header, rule, *lines = TABLE.markdown().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (header, *lines)]
    assert cells == TABLE.lines
    assert rule == "| --- | ---: | ---: |"


def test_csv_keeps_all_digits_and_quotes_commas():
    """Figures that are not formatted are written in full; a cell with a comma is one cell."""
    third = Table(TABLE.columns, [["round 1, epoch 2", 1 / 3, None]])
    rows = list(csv.reader(io.StringIO(third.csv())))
    assert rows == [third.header, ["round 1, epoch 2", repr(1 / 3), ""]]


def test_a_saved_table_is_loaded_as_it_was(tmp_path):
    """Columns, cells, title and caption survive."""
    TABLE.save(tmp_path / "table.json")
    assert Table.load(tmp_path / "table.json") == TABLE


def test_a_missing_table_is_refused(tmp_path):
    """The missing file is named."""
    with refused(tmp_path / "table.json", "no such file"):
        Table.load(tmp_path / "table.json")


def test_a_broken_table_is_refused(tmp_path):
    """A file that is not JSON is named."""
    (tmp_path / "table.json").write_text("{")
    with refused(tmp_path / "table.json", "not valid JSON"):
        Table.load(tmp_path / "table.json")


def test_the_terminal_shows_title_cells_and_caption():
    """Header words stand below each other; title, caption and all cells are printed."""
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(TABLE.screen())
    text = console.export_text()
    assert text.splitlines()[0].rstrip() == "two runs" and "a note" in text
    assert "MAP@25 seen" not in text and all(word in text for word in ("MAP@25", "seen"))
    assert all(cell in text for line in TABLE.lines[1:] for cell in line)


def test_a_long_label_is_printed_whole():
    """A label that wraps is broken where it has no spaces, and nothing of it is cut off."""
    console = Console(width=20, record=True, file=io.StringIO())
    console.print(Table([Column("name", is_text=True, wraps=True)], [["x" * 50]]).screen())
    assert console.export_text().count("x") == 50


@pytest.mark.parametrize("text", ["my-model [lineage unknown]", "prompts.suffix=[/INST]", "[bold]", ":warning:"])
def test_the_terminal_reads_no_mark_up(text):
    """Brackets and colons of labels, headers, title and caption are printed as they are."""
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(Table([Column(text.replace(" ", ""), is_text=True)], [[text]], title=text, caption=text).screen())
    printed = console.export_text()
    assert printed.count(text) + printed.count(text.replace(" ", "")) >= 4


def test_rows_to_warn_of_are_bold_red():
    """The style stands on the chosen row alone."""
    assert [row.style for row in TABLE.screen(warned=[1]).rows] == [None, "bold red"]


def body_of(latex: str) -> list[str]:
    """Return the rows of a tabular below its header."""
    return latex.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()


def test_latex_is_a_booktabs_tabular():
    """A rule stands above and below the header and at the end; labels align to the left, figures to the right."""
    lines = TABLE.latex().splitlines()
    assert lines[1:5] == ["\\begin{tabular}{lrr}", "\\toprule", " & MAP@25 seen & LB \\\\", "\\midrule"]
    assert lines[5:] == [
        "BM25 & 0.1916 &  \\\\",
        "round 1, epoch 2 & 0.4482\\textsuperscript{a} & 0.31 \\\\",
        "\\bottomrule",
        "\\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("character", "written"),
    [
        *((character, f"\\{character}") for character in "&%$#_{}"),
        ("~", "\\textasciitilde{}"),
        ("^", "\\textasciicircum{}"),
        ("\\", "\\textbackslash{}"),
        ("<", "\\textless{}"),
        (">", "\\textgreater{}"),
    ],
)
def test_latex_prints_special_characters_of_names(character, written):
    """A name keeps its special characters, in the header and in the rows."""
    name = f"a{character}b"
    lines = Table([Column(name, is_text=True), Column("n")], [[name, 1]]).latex().splitlines()
    assert lines[3] == f"a{written}b & n \\\\" and lines[5] == f"a{written}b & 1 \\\\"


def test_latex_sets_the_best_figures_in_bold():
    """Bold encloses the figure and not its superscript."""
    (_, row) = body_of(TABLE.latex(bold={(1, 1)}))
    assert row == "round 1, epoch 2 & \\textbf{0.4482}\\textsuperscript{a} & 0.31 \\\\"


@pytest.mark.parametrize("label", ["[a]", "*a"])
def test_latex_does_not_read_a_label_as_an_option(label):
    """`\\\\` and rules take options in brackets and a star, also from the next line."""
    (row,) = body_of(Table([Column("", is_text=True)], [[label]]).latex())
    assert row == f"{{}}{label} \\\\"


def test_superscripts_are_the_letters_themselves():
    """Each superscript is the letter's own in Unicode, and no two are the same."""
    names = {letter: unicodedata.name(superscript) for letter, superscript in SUPERSCRIPTS.items()}
    assert len(set(SUPERSCRIPTS.values())) == 26
    for letter, name in names.items():
        assert re.fullmatch(rf"(MODIFIER LETTER|SUPERSCRIPT LATIN) SMALL (LETTER )?{letter.upper()}", name)
