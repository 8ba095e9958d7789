"""Table: one table rendered as Markdown, CSV and JSON, and for the terminal."""

import csv
import io

from helpers.tiny_task import refused
from rich.console import Console

from rounds.evaluation.table import Column, Table

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
