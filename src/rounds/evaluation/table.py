"""A table of results that is built once and rendered for the terminal, as Markdown, LaTeX, CSV or JSON."""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import rich.table
from rich import box
from rich.text import Text

from rounds.artifacts import store

TABLE_FILE = "table.json"  # an evaluation's table, so that it can be printed again

# Unicode's superscript letters a to z, all of them modifier letters (`q` came with Unicode 14).
SUPERSCRIPTS = dict(zip("abcdefghijklmnopqrstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ", strict=True))

LATEX_ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}

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
    >>> print(table.latex(), end="")
    % in the preamble: \\usepackage{booktabs}
    \\begin{tabular}{lr}
    \\toprule
    run & MAP@25 \\\\
    \\midrule
    BM25 & 0.1959 \\\\
    chance &  \\\\
    \\bottomrule
    \\end{tabular}
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

    def screen(self, warned: Collection[int] = ()) -> rich.table.Table:
        """Return the table for a rich console, which reads no mark-up in it: labels hold brackets.

        Args:
            warned: positions of the rows to print in bold red.
        """
        rendered = rich.table.Table(
            title=Text(self.title, "table.title") if self.title else None,
            title_justify="left",
            caption=Text(self.caption, "table.caption") if self.caption else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for column in self.columns:
            justify = "left" if column.is_text else "right"
            header = Text(column.name.replace(" ", "\n"))
            overflow = "fold" if column.wraps else "ellipsis"
            rendered.add_column(header, justify=justify, no_wrap=not column.wraps, overflow=overflow)
        for position, line in enumerate(self.lines[1:]):
            rendered.add_row(*map(Text, line), style="bold red" if position in warned else None)
        return rendered

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown, without title and caption."""
        header, *body = self.lines
        rule = ["---" if column.is_text else "---:" for column in self.columns]
        return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *body])

    def latex(self, bold: Collection[tuple[int, int]] = ()) -> str:
        """Return the table as a LaTeX tabular in the style of booktabs, without title and caption.

        Superscript letters become `\\textsuperscript`; all other text is printed as it stands, so that no character of
        a name is read as LaTeX.

        Args:
            bold: row and column positions of the cells whose figures are set in bold.
        """
        header, *body = self.lines
        cells = [
            [_latex(cell, (row, column) in bold) for column, cell in enumerate(line)] for row, line in enumerate(body)
        ]
        alignment = "".join("l" if column.is_text else "r" for column in self.columns)
        return "\n".join(
            [
                r"% in the preamble: \usepackage{booktabs}",
                rf"\begin{{tabular}}{{{alignment}}}",
                r"\toprule",
                _latex_row([_latex(name) for name in header]),
                r"\midrule",
                *map(_latex_row, cells),
                r"\bottomrule",
                "\\end{tabular}\n",
            ]
        )

    def csv(self) -> str:
        """Return the table as CSV; unformatted figures keep all their digits."""
        import pandas as pd  # a saved table is printed without loading it

        return pd.DataFrame(self.rows, columns=self.header).to_csv(index=False)

    def apart(self, name: str) -> list["Table"]:
        """Return two tables for a terminal of 80 columns: the columns from `name` on stand in one of their own."""
        place, (label, *_) = self.header.index(name), self.columns
        return [
            replace(self, columns=self.columns[:place], rows=[row[:place] for row in self.rows]),
            Table([label, *self.columns[place:]], [[row[0], *row[place:]] for row in self.rows]),
        ]

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


def load_screens(path: Path) -> tuple[list[Table], list[str]]:
    """Read a table as tables that fit a terminal of 80 columns, and the lines below it.

    Args:
        path: JSON of `Table.save`, where `apart` may name the column from which on the columns stand in a table of
            their own, and `notes` list the lines.

    Raises:
        UserError: there is no such file, or it is not JSON.
    """
    stored, table = store.read_json(path), Table.load(path)
    return table.apart(stored["apart"]) if stored.get("apart") else [table], stored.get("notes", [])


def files_of(path: Path, *suffixes: str) -> list[Path]:
    """Return a table's files from their path without a suffix, whose name may hold dots.

    >>> [file.name for file in files_of(Path("cv-raw-Qwen2.5-0.5B"), ".md", ".csv")]
    ['cv-raw-Qwen2.5-0.5B.md', 'cv-raw-Qwen2.5-0.5B.csv']
    """
    return [path.with_name(f"{path.name}{suffix}") for suffix in suffixes]


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _latex(text: str, bold: bool = False) -> str:
    """Escape LaTeX's special characters, and set superscript letters as superscripts.

    >>> print(_latex("R&D_1 0.4482ᵃᶜ"), _latex("0.4482ᵃ", bold=True))
    R\\&D\\_1 0.4482\\textsuperscript{ac} \\textbf{0.4482}\\textsuperscript{a}
    """
    letters = {superscript: letter for letter, superscript in SUPERSCRIPTS.items()}
    parts = re.split(f"([{''.join(letters)}]+)", text)
    for position, part in enumerate(parts):
        if position % 2:
            parts[position] = rf"\textsuperscript{{{''.join(map(letters.get, part))}}}"
        else:
            escaped = "".join(LATEX_ESCAPES.get(character, character) for character in part)
            parts[position] = rf"\textbf{{{escaped}}}" if bold and escaped else escaped
    return "".join(parts)


def _latex_row(cells: list[str]) -> str:
    """Join the cells of a row; a leading `[` or `*` is kept from being read as an option of the line before it."""
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return rf"{guard}{' & '.join(cells)} \\"
