"""The file that holds the benchmark's table, between two markers."""

from pathlib import Path

from rounds.errors import UserError

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def write(text: str, path: Path) -> None:
    """Write a table between the two markers of a file.

    Raises:
        UserError: The file has no markers.
    """
    whole = path.read_text(encoding="utf-8")
    if BEGIN not in whole or END not in whole.partition(BEGIN)[2]:
        raise UserError(f"{path}: has no line {BEGIN} with {END} below it; the table goes between them")
    before, _, rest = whole.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
