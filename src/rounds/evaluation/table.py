"""A table of results that is built once and rendered for the terminal, as Markdown, CSV or JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import rich.table
from rich import box

from rounds.artifacts import store

TABLE_FILE = "table.json"  # an evaluation's table, so that it can be printed again

Cell = str | int | float | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its header; the terminal breaks it at spaces.
        is_text: align the cells to the left, as labels; figures align to the right.
        wraps: whether the terminal may break its cells into several lines.
    """

    name: str
    is_text: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """A header and rows of cells.

    Attributes:
        columns: the header.
        rows: one cell per column; None is an empty cell. Figures that are shown to a reader are formatted already.
        title: printed above the table in the terminal.
        caption: printed below the table in the terminal.

    >>> table = Table([Column("run", is_text=True), Column("MAP@25")], [["BM25", "0.1959"], ["chance", None]])
    >>> print(table.markdown(), end="")
    | run | MAP@25 |
    | --- | ---: |
    | BM25 | 0.1959 |
    | chance |  |
    >>> table.csv()
    'run,MAP@25\\nBM25,0.1959\\nchance,\\n'
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    caption: str = ""

    @property
    def header(self) -> list[str]:
        """Return the names of the columns."""
        return [column.name for column in self.columns]

    @property
    def lines(self) -> list[list[str]]:
        """Return the cells as text, the header first."""
        return [self.header, *([_text(cell) for cell in row] for row in self.rows)]

    def screen(self) -> rich.table.Table:
        """Return the table for a rich console."""
        rendered = rich.table.Table(
            title=self.title or None,
            title_justify="left",
            caption=self.caption or None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for column in self.columns:
            justify = "left" if column.is_text else "right"
            rendered.add_column(column.name.replace(" ", "\n"), justify=justify, no_wrap=not column.wraps)
        for line in self.lines[1:]:
            rendered.add_row(*line)
        return rendered

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown, without title and caption."""
        header, *body = self.lines
        rule = ["---" if column.is_text else "---:" for column in self.columns]
        return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *body])

    def csv(self) -> str:
        """Return the table as CSV; unformatted figures keep all their digits."""
        import pandas as pd  # a saved table is printed without loading it

        return pd.DataFrame(self.rows, columns=self.header).to_csv(index=False)

    def save(self, path: Path) -> None:
        """Write the table as JSON, for `load`."""
        store.write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read a table that `save` wrote.

        Raises:
            UserError: there is no such file, or it is not JSON.
        """
        stored = store.read_json(path)
        columns = [Column(**column) for column in stored["columns"]]
        return cls(columns, stored["rows"], stored["title"], stored["caption"])


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)
