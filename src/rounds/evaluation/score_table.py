"""Score tables: cells of text with a title, kept beside an evaluation so that printing them again computes nothing."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from rounds.artifacts import store

FILE = "table.json"


@dataclass(frozen=True)
class ScoreTable:
    """A table of results, ready to print.

    Attributes:
        header: column names; the first column holds labels, the others numbers.
        rows: cells as text, one list a row.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    caption: str

    def save(self, folder: Path) -> None:
        """Write the table into an evaluation's folder."""
        store.write_json(folder / FILE, asdict(self))

    def screen(self) -> Table:
        """A rich table for the terminal."""
        shape = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
        table = Table(title=self.title, title_justify="left", caption=self.caption, caption_justify="left", **shape)
        for number, name in enumerate(self.header):
            justify = "left" if number == 0 else "right"
            table.add_column(name.replace(" ", "\n"), justify=justify, no_wrap=number > 0)
        for row in self.rows:
            table.add_row(*row)
        return table


def load(folder: Path) -> ScoreTable:
    """The table that stands in an evaluation's folder."""
    return ScoreTable(**store.read_json(folder / FILE))
