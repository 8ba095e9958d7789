"""Truncation: retrieval scores of vectors cut to fewer dimensions, before and after training (arXiv:2205.13147)."""

from dataclasses import dataclass
from pathlib import Path

from rounds.data.collection import Collection
from rounds.data.passage_pool import texts_of
from rounds.encoding import run_store
from rounds.errors import UserError
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.evaluation.table import Column, Table
from rounds.models.checkpoint import Checkpoint

METRICS = ("NDCG@10", "MAP@25")

MIN_DIM = 32

BYTES_PER_NUMBER = 4  # an index in fp32


@dataclass(frozen=True)
class TruncationResult:
    """Scores at one dimension.

    Attributes:
        dim: the number of dimensions that were kept.
        before: metrics of the untrained checkpoint, by name; `METRICS` are among them.
        after: metrics of the trained checkpoint.
        index_mib: size of an exact index of the corpus in MiB.
    """

    dim: int
    before: dict[str, float]
    after: dict[str, float]
    index_mib: float


def measure(
    before: Checkpoint, after: Checkpoint, data: Collection, dims: list[int], model_output: Path
) -> list[TruncationResult]:
    """Evaluate two checkpoints with whole and truncated vectors; texts are encoded once.

    Args:
        before: the untrained checkpoint.
        after: the trained checkpoint.
        dims: dimensions to keep; an empty list takes the recipe's `matryoshka_dims`, or else halves down to 32.
        model_output: the folder under which base models cache their runs.

    Returns:
        one result per dimension, whole vectors first.

    Raises:
        UserError: a dimension is not between 1 and that of the vectors.
    """
    after.recipe.require_dense("dims")
    corpus, _ = run_store.open_store(after, model_output).vectors(texts_of(data.passages), "passage", "corpus")
    whole = corpus.shape[1]
    dims = dims or after.recipe.training.matryoshka_dims or halved_dims(whole)
    if invalid := [dim for dim in dims if not 1 <= dim <= whole]:
        raise UserError(f"dims {invalid[0]}: the vectors have {whole} dimensions; name 1 to {whole}")
    measured = []
    for dim in sorted({whole, *dims}, reverse=True):
        rows = [
            evaluate_checkpoint(source.with_options(truncate_dim=dim), data, model_output, False)
            for source in (before, after)
        ]
        index_mib = len(corpus) * dim * BYTES_PER_NUMBER / 2**20
        measured.append(TruncationResult(dim, rows[0].metrics, rows[1].metrics, index_mib))
    return measured


def halved_dims(dim: int) -> list[int]:
    """Return a dimension and its halves, down to `MIN_DIM`.

    >>> halved_dims(384)
    [384, 192, 96, 48]
    """
    dims = [dim]
    while dims[-1] % 2 == 0 and dims[-1] // 2 >= MIN_DIM:
        dims.append(dims[-1] // 2)
    return dims


def truncation_table(measured: list[TruncationResult]) -> Table:
    """Return the scores before and after training and their difference, one row per dimension."""
    names = ["dim", *(f"{name} {when}" for name in METRICS for when in ("before", "after", "gain")), "index MiB"]
    body = []
    for result in measured:
        figures = []
        for name in METRICS:
            before, after = result.before[name], result.after[name]
            figures += [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
        body.append([str(result.dim), *figures, f"{result.index_mib:.2f}"])
    return Table([Column(name, wraps=True) for name in names], body)
