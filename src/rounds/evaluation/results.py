"""Result rows: the metrics of one evaluated run, saved to and loaded from an evaluation folder."""

import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StrictStr

from rounds.artifacts import manifest_parsing, store
from rounds.artifacts.manifests import Number
from rounds.errors import UserError
from rounds.evaluation import significance

MAIN_COLUMNS = ("MAP@25", "Recall@25", "MAP@25 seen", "MAP@25 unseen")

OFFICIAL_COLUMNS = ("NDCG@10", "Recall@100")  # what published tables of BEIR's sets have

MAIN_COMPARED, METRIC_FAMILIES = ("MAP@25", "NDCG@10"), ("MRR", "P", "HitRate")

COMPARED_METRICS = (*MAIN_COMPARED, *(f"{family}@{k}" for family in METRIC_FAMILIES for k in (1, 5, 10, 20, 100)))

MAX_P = 0.01

METRICS_FILE, MAIN_SCORES_FILE, SCORES_FILE = "metrics.json", "per_query.csv", "scores.npz"

ADVICE = "evaluate again"  # where a saved row is broken

SAVED = ConfigDict(frozen=True, defer_build=True)  # unknown keys are ignored: evaluations outlive versions


class RowKind(StrEnum):
    """What a result row evaluates."""

    CHANCE = "chance"
    BM25 = "bm25"
    ZERO_SHOT = "zero_shot"  # the recipe's base model, untrained
    START = "start"  # another task's checkpoint that a recipe starts from
    ROUND = "round"  # a checkpoint of a round
    CHECKPOINT = "checkpoint"  # any other checkpoint


# Columns of the ledger, in the order in which evaluations write them; baselines have no run.
DATA_COLUMNS = ("lineage", "data", "split", "validation")

COLUMNS = ("run", "weights", "fingerprint", "precision", "recipe", "checkpoint", *DATA_COLUMNS)

BASELINE_COLUMNS = ("weights", "fingerprint", "recipe", "checkpoint", "precision", *DATA_COLUMNS)

SHORT_NAMES = {RowKind.CHANCE: "chance", RowKind.BM25: "BM25", RowKind.ZERO_SHOT: "zero-shot", RowKind.START: "start"}


@dataclass(frozen=True)
class ResultRow:
    """An evaluated run.

    Attributes:
        label: its name in tables, with epoch, mark and lineage.
        metrics: as `metrics.summarize` returns them.
        per_query: (queries,) MAP@25, in the order of `queries`.
        queries: the query ids.
        scores: each metric of `metrics.METRICS`, (queries,), in the order of `queries`.
        kind: what was evaluated.
        round: number of the round that trained the checkpoint, 0 for a base model; None if there is no round.
        epoch: epoch of the checkpoint within its round.
        mark: what tells rows of one folder apart: `last`, `best`, a precision, `words only`, ...
        in_chain: whether later rows are tested against this one; variants of a checkpoint are not in the chain.
        recipe: name of the recipe.
        checkpoint: folder of the checkpoint, or the base model's name.
        weights: SHA-256 of the checkpoint's weights.
        precision: what it computed in; `-` for baselines.
        fingerprint: short digest of the checkpoint and how it embeds texts.
        lineage: whether the checkpoint saw validation questions (`data.lineage`); empty where nobody recorded it.
        run: folder of the run, relative to the folder of the base models' runs; empty for baselines.
        data: name of the data.
        split: name of the split.
        validation: digest of the validation set.
        labels: digest of its queries' ids and labels alone; empty in evaluations that were saved before rows had one.
    """

    label: str
    metrics: dict
    per_query: np.ndarray
    queries: list[str]
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    kind: RowKind = RowKind.CHECKPOINT
    round: int | None = None
    epoch: int | None = None
    mark: str = ""
    in_chain: bool = True
    recipe: str = ""
    checkpoint: str = ""
    weights: str = ""
    precision: str = ""
    fingerprint: str = ""
    lineage: str = ""
    run: str = ""
    data: str = ""
    split: str = ""
    validation: str = ""
    labels: str = ""

    @property
    def short_name(self) -> str:
        """Return the name without epoch and mark: `BM25`, `zero-shot`, `round 1`; the label of other checkpoints."""
        return f"round {self.round}" if self.kind == RowKind.ROUND else SHORT_NAMES.get(self.kind, self.label)

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns of the ledger that say what was evaluated, without empty ones."""
        names = COLUMNS if self.run else BASELINE_COLUMNS
        return {name: value for name in names if (value := getattr(self, name))}

    @property
    def ledger_entry(self) -> dict:
        """Return the row as the ledger's columns; it has more keys than the ledger has columns."""
        return {**self.metrics, **self.columns, "round": self.round, "epoch": self.epoch, "label": self.mark}


def p_values(rows: list[ResultRow]) -> list[float | None]:
    """Return Fisher's p of each row against the nearest earlier row of the chain; None without such a row.

    Raises:
        UserError: the rows were evaluated on different queries, or other data.
    """
    require_same_queries(rows)
    values: list[float | None] = []
    previous: ResultRow | None = None
    for row in rows:
        values.append(None if previous is None else significance.fisher_p_value(row.per_query, previous.per_query))
        if row.in_chain:
            previous = row
    return values


def require_same_queries(rows: list[ResultRow]) -> None:
    """Refuse rows that were evaluated on different queries, the same in another order, or other data or labels."""
    for row in rows:
        if row.queries != rows[0].queries:
            raise UserError(f"{row.label} and {rows[0].label} were evaluated on different queries")
    for earlier, row in itertools.combinations(rows, 2):
        if problem := data_differ(row, earlier):
            raise UserError(f"{row.label} and {earlier.label} {problem}")


def data_differ(row: ResultRow, other: ResultRow) -> str:
    """Return why rows on queries of the same ids do not compare; empty if they do.

    A folder's name alone is no reason, since it may have been renamed, nor are other texts, which prompts may make.

    >>> names = {"faq-en": "11", "faq-fr": "22"}
    >>> rows = [ResultRow("", {}, np.zeros(1), ["q0"], data=data, validation=names[data]) for data in names]
    >>> data_differ(*rows)
    'were evaluated on other data (faq-en and faq-fr)'
    """
    if row.data and other.data and row.data != other.data and row.validation != other.validation:
        return f"were evaluated on other data ({row.data} and {other.data})"
    if row.labels and other.labels and row.labels != other.labels:
        return "were evaluated by other labels; run the older round again, or compare runs of the same data"
    return ""


def difference(reference: ResultRow, other: ResultRow) -> str:
    """Return one line that says how the main metrics of `other` differ from those of `reference`.

    >>> scores = {"bf16": 0.4718, "nf4": 0.4674}
    >>> rows = [ResultRow(name, {"MAP@25": score}, np.zeros(1), ["1"]) for name, score in scores.items()]
    >>> difference(*rows)
    'nf4 against bf16: MAP@25 -0.0044'
    """
    names = [name for name in MAIN_COLUMNS if None not in (reference.metrics.get(name), other.metrics.get(name))]
    changes = [f"{name} {other.metrics[name] - reference.metrics[name]:+.4f}" for name in names]
    return f"{other.label} against {reference.label}: {', '.join(changes)}"


def save(rows: list[ResultRow], folder: Path) -> None:
    """Write rows to a folder.

    `metrics.json` holds labels, kinds and metrics; `per_query.csv` the MAP@25 of each query and row; `scores.npz` every
    metric of each query as a (queries,) array named `ROW METRIC`.
    """
    store.write_json(folder / METRICS_FILE, [_to_json(row) for row in rows])
    columns, queries = np.stack([row.per_query for row in rows], axis=1), pd.Index(rows[0].queries, name="query")
    table = pd.DataFrame(columns, queries, [row.label for row in rows])  # two labels may be equal
    table.to_csv(folder / MAIN_SCORES_FILE)
    scores = {f"{number} {name}": values for number, row in enumerate(rows) for name, values in row.scores.items()}
    np.savez_compressed(folder / SCORES_FILE, **scores)


class SavedOrigin(BaseModel):
    """What a row in `metrics.json` evaluates: the ledger's columns, with the row's mark under `label`."""

    model_config = SAVED

    run: StrictStr | None = None
    weights: StrictStr | None = None
    fingerprint: StrictStr | None = None
    precision: StrictStr | None = None
    recipe: StrictStr | None = None
    checkpoint: StrictStr | None = None
    lineage: StrictStr | None = None
    data: StrictStr | None = None
    split: StrictStr | None = None
    validation: StrictStr | None = None
    labels: StrictStr | None = None
    round: StrictInt | None = None
    epoch: StrictInt | None = None
    label: StrictStr = ""
    beside: StrictBool = False


class SavedRow(BaseModel):
    """A row in `metrics.json`; `kind` is None in evaluations that were saved before rows had one."""

    model_config = SAVED

    label: StrictStr
    metrics: dict[str, Number | StrictStr | None]
    about: SavedOrigin
    kind: RowKind | None = None


def is_saved(folder: Path) -> bool:
    """Return whether a folder holds an evaluation; a checkpoint has a `metrics.json` of another form."""
    return (folder / METRICS_FILE).is_file() and (folder / MAIN_SCORES_FILE).is_file()


def read_rows(folder: Path) -> list[SavedRow]:
    """Read the rows of `metrics.json`.

    Raises:
        UserError: the folder holds no evaluation, or a row lacks a key or has a value of another type.
    """
    path = folder / METRICS_FILE
    entries = store.read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path}: is not a list of rows; {ADVICE}")
    return [
        manifest_parsing.parse_as(SavedRow, entry, f"{path} row {number}", ADVICE)
        for number, entry in enumerate(entries, 1)
    ]


def load(folder: Path) -> list[ResultRow]:
    """Read the rows that `save` wrote.

    Raises:
        UserError: the folder holds no evaluation.
    """
    saved = read_rows(folder)
    scores = _load_scores(folder / SCORES_FILE, len(saved))
    table = pd.read_csv(folder / MAIN_SCORES_FILE, dtype={"query": str}, keep_default_na=False).set_index("query")
    queries = table.index.tolist()
    return [
        _from_saved(row, table.iloc[:, number].to_numpy(), queries, row_scores)
        for number, (row, row_scores) in enumerate(zip(saved, scores, strict=True))
    ]


def _load_scores(path: Path, count: int) -> list[dict[str, np.ndarray]]:
    """Return each row's scores by metric; empty for evaluations that saved only MAP@25."""
    scores: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    if path.is_file():
        with np.load(path) as arrays:
            for key, values in arrays.items():
                number, _, name = key.partition(" ")
                scores[int(number)][name] = values
    return scores


def _to_json(row: ResultRow) -> dict:
    fields = {"round": row.round, "epoch": row.epoch, "label": row.mark, "beside": not row.in_chain}
    fields |= {"labels": row.labels} if row.labels else {}
    return {"label": row.label, "kind": row.kind, "metrics": row.metrics, "about": {**row.columns, **fields}}


def _from_saved(row: SavedRow, per_query: np.ndarray, queries: list[str], scores: dict[str, np.ndarray]) -> ResultRow:
    origin = row.about
    return ResultRow(
        label=row.label,
        metrics=row.metrics,
        per_query=per_query,
        queries=queries,
        scores=scores,
        kind=row.kind or _kind_of_label(row.label),
        round=origin.round,
        epoch=origin.epoch,
        mark=origin.label,
        in_chain=not origin.beside,
        labels=origin.labels or "",
        **{name: getattr(origin, name) or "" for name in COLUMNS},
    )


def _kind_of_label(label: str) -> RowKind:
    """Return the kind of a row that was saved before rows had one."""
    for kind, name in (*SHORT_NAMES.items(), (RowKind.ROUND, "round")):
        if label == name or label.startswith((f"{name},", f"{name} ")):
            return kind
    return RowKind.CHECKPOINT


def distinct(rows: list[ResultRow]) -> list[ResultRow]:
    """Merge the rows of several folders into one table: drop repeated rows and make equal labels unique.

    Rows that each folder holds (BM25, zero-shot) appear once; equal labels of different runs get their recipe's name,
    and where that is the same too, their checkpoint's path and the fingerprint of what they were computed with. Equal
    baselines of different passages, as with and without explanations, get the digest of their validation set.

    Raises:
        UserError: the rows were evaluated on different queries.
    """
    require_same_queries(rows)
    unique: dict[tuple, ResultRow] = {}
    for row in rows:
        unique.setdefault((row.fingerprint, row.validation, row.label), row)
    merged = _relabel_equal(list(unique.values()), "{row.label} ({row.validation})", (RowKind.CHANCE, RowKind.BM25))
    merged = _relabel_equal(merged, "{row.recipe}: {row.label}")
    merged = _relabel_equal(merged, "{row.label} ({row.checkpoint})")
    return _relabel_equal(merged, "{row.label} ({row.fingerprint})")


def _relabel_equal(rows: list[ResultRow], pattern: str, kinds: Collection[RowKind] = RowKind) -> list[ResultRow]:
    """Return the rows with those of some kinds that share their label relabelled by a pattern of `row`."""
    counts = Counter(row.label for row in rows)
    return [
        replace(row, label=pattern.format(row=row)) if counts[row.label] > 1 and row.kind in kinds else row
        for row in rows
    ]
