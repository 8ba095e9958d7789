"""Matryoshka: what vectors cut to their first numbers are worth, before and after training (arXiv:2205.13147)."""

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.errors import UserError
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models.checkpoint import Checkpoint

METRICS = ("NDCG@10", "MAP@25")

LEAST = 32

BYTES = 4  # of a number of an index in fp32


@dataclass(frozen=True)
class Dim:
    """One dimension's row.

    Attributes:
        before, after: `METRICS` by name.
        mib: of an exact index of the corpus.
    """

    dim: int
    before: dict[str, float]
    after: dict[str, float]
    mib: float


def measure(before: Checkpoint, after: Checkpoint, data: Collection, dims: list[int], model_output: Path) -> list[Dim]:
    """Evaluate both checkpoints' vectors, whole and cut; nothing is encoded twice.

    Args:
        dims: empty: the recipe's `matryoshka_dims`, or else halves down to 32.
    """
    corpus, _ = run_store.open_store(after, model_output).vectors(list(data.passages.values()), "passage", "corpus")
    whole = corpus.shape[1]
    wanted = dims or after.recipe.training.matryoshka_dims or halves(whole)
    if beyond := [dim for dim in wanted if not 1 <= dim <= whole]:
        raise UserError(f"dims {beyond[0]}: the vectors have {whole} dimensions")
    found = []
    for dim in sorted({whole, *wanted}, reverse=True):
        pair = [
            evaluate_checkpoint(each.with_options(truncate_dim=dim), data, model_output, False)
            for each in (before, after)
        ]
        found.append(Dim(dim, *(row.metrics for row in pair), len(corpus) * dim * BYTES / 2**20))
    return found


def halves(dim: int) -> list[int]:
    """A dimension and its halves.

    >>> halves(384)
    [384, 192, 96, 48]
    """
    found = [dim]
    while found[-1] % 2 == 0 and found[-1] // 2 >= LEAST:
        found.append(found[-1] // 2)
    return found


def header() -> list[str]:
    """Column names of `cells`."""
    return ["dim", *(f"{name} {when}" for name in METRICS for when in ("before", "after", "gain")), "index MiB"]


def cells(rows: list[Dim]) -> list[list[str]]:
    """Table body."""
    body = []
    for row in rows:
        figures = []
        for name in METRICS:
            one, other = row.before[name], row.after[name]
            figures += [f"{one:.4f}", f"{other:.4f}", f"{other - one:+.4f}"]
        body.append([str(row.dim), *figures, f"{row.mib:.2f}"])
    return body


def screen(rows: list[Dim]) -> Table:
    """A rich table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header():
        table.add_column(name.replace(" ", "\n"), justify="right")
    for line in cells(rows):
        table.add_row(*line)
    return table
