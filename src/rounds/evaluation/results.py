"""Result rows: one evaluated checkpoint's metrics, saved to and loaded from an evaluation folder."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rounds.artifacts import store
from rounds.errors import UserError
from rounds.evaluation import significance

SHOWN = ("MAP@25", "Recall@25", "MAP@25 seen", "MAP@25 unseen")

SHORT, FAMILIES = ("MAP@25", "NDCG@10"), ("MRR", "P", "HitRate")

COMPARED = (*SHORT, *(f"{kind}@{k}" for kind in FAMILIES for k in (1, 5, 10, 20, 100)))

MAX_P = 0.01

SCORES = "scores.npz"


@dataclass(frozen=True)
class ResultRow:
    """An evaluated run.

    Attributes:
        label: how the table calls it; `(best)` rows stand beside the chain of rounds, not in it.
        metrics: as `evaluation.summarize` returns them.
        per_query: (queries,) MAP@25, in the order of `queries`.
        queries: the query ids.
        about: what the ledger keeps of it (round, epoch, weights, lineage, ...).
        scores: each metric of `evaluation.METRICS`, (queries,), in the order of `queries`.
    """

    label: str
    metrics: dict
    per_query: np.ndarray
    queries: list[str]
    about: dict = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def in_chain(self) -> bool:
        """Whether later rows are tested against this one."""
        return not self.about.get("beside", False)


def p_values(rows: list[ResultRow]) -> list[float | None]:
    """Fisher's p of each row against the nearest earlier row of the chain; None for the first.

    Raises:
        UserError: the rows were not evaluated on the same queries.
    """
    found: list[float | None] = []
    previous: ResultRow | None = None
    for row in rows:
        if row.queries != rows[0].queries:
            raise UserError(f"{row.label} and {rows[0].label} were evaluated on different queries")
        found.append(None if previous is None else significance.fisher(row.per_query, previous.per_query))
        if row.in_chain:
            previous = row
    return found


def difference(own: ResultRow, other: ResultRow) -> str:
    """One line: how far `other` is from `own`.

    >>> scores = {"bf16": 0.4718, "nf4": 0.4674}
    >>> rows = [ResultRow(name, {"MAP@25": score}, np.zeros(1), ["1"]) for name, score in scores.items()]
    >>> difference(*rows)
    'nf4 against bf16: MAP@25 -0.0044'
    """
    shown = [name for name in SHOWN if None not in (own.metrics.get(name), other.metrics.get(name))]
    changes = [f"{name} {other.metrics[name] - own.metrics[name]:+.4f}" for name in shown]
    return f"{other.label} against {own.label}: {', '.join(changes)}"


def save(rows: list[ResultRow], folder: Path) -> None:
    """Write `metrics.json` (labels, metrics), `per_query.csv` (MAP@25 of each query and row) and `scores.npz`.

    The last has every metric of each query, (queries,) under `ROW METRIC`.
    """
    store.write_json(
        folder / "metrics.json", [{"label": r.label, "metrics": r.metrics, "about": r.about} for r in rows]
    )
    table = pd.DataFrame({r.label: r.per_query for r in rows}, index=pd.Index(rows[0].queries, name="query"))
    table.to_csv(folder / "per_query.csv")
    scores = {f"{number} {name}": values for number, row in enumerate(rows) for name, values in row.scores.items()}
    np.savez_compressed(folder / SCORES, **scores)


def load(folder: Path) -> list[ResultRow]:
    """Rows that `save` wrote."""
    stored = store.read_json(folder / "metrics.json")
    scores: list[dict[str, np.ndarray]] = [{} for _ in stored]
    if (folder / SCORES).is_file():
        with np.load(folder / SCORES) as arrays:
            for key, values in arrays.items():
                number, _, name = key.partition(" ")
                scores[int(number)][name] = values
    table = pd.read_csv(folder / "per_query.csv", dtype={"query": str}, keep_default_na=False).set_index("query")
    return [
        ResultRow(
            each["label"], each["metrics"], table[each["label"]].to_numpy(), table.index.tolist(), each["about"], own
        )
        for each, own in zip(stored, scores, strict=True)
    ]


def distinct(rows: list[ResultRow]) -> list[ResultRow]:
    """Rows of several folders in one table: what stands in all (BM25, zero-shot) once, and labels that tell apart.

    Raises:
        UserError: the rows were not evaluated on the same queries.
    """
    found: dict[tuple, ResultRow] = {}
    for row in rows:
        if row.queries != rows[0].queries:
            raise UserError(f"{row.label} and {rows[0].label} were evaluated on different queries")
        found.setdefault((row.about.get("fingerprint"), row.label), row)
    kept = list(found.values())
    counts = Counter(row.label for row in kept)
    return [replace(row, label=f"{row.about['recipe']}: {row.label}") if counts[row.label] > 1 else row for row in kept]
