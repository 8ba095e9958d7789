"""Report: what one experiment's rounds did, gathered from the files that its stages left; nothing is encoded.

Whatever is not there (a later round, a leaderboard score, a sweep, vectors) leaves its table empty.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rounds.artifacts import refusals, store
from rounds.data import collection, lineage
from rounds.data.collection import Collection
from rounds.encoding import run_store
from rounds.errors import UserError
from rounds.evaluation import ledger, results, tables, truncation
from rounds.evaluation.metrics import per_query
from rounds.evaluation.results import ResultRow
from rounds.mining.statistics import MINED, MinedStatistics, is_mined, mined_manifest, read_mined
from rounds.retrieval import bm25, search
from rounds.retrieval.run import Run, read_trec

METRICS = ("MAP@25", "Recall@25")

PARTS = ("all", "seen", "unseen")

DEPTH = 100

BM25 = "BM25"


@dataclass(frozen=True)
class Ranked:
    """A checkpoint's run of the validation queries.

    Attributes:
        label: `BM25`, `zero-shot`, `round 1`, ...
        run: in the order of the collection's validation queries.
        ranks: (queries,) of the best relevant passage, from 1; 0 where none is in the run.
        vectors: whole vectors of queries and corpus; None where they are not on disk.
    """

    label: str
    run: Run
    ranks: np.ndarray
    vectors: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Facts:
    """What the report shows; each frame has its columns even where it has no rows.

    Attributes:
        rows: the comparison table's, from BM25 to the last round.
        compared: all metrics with superscripts, header first; empty where an evaluation kept MAP@25 alone.
        epochs: `epoch` (`round 1 · 2`), `order`, `part` of `PARTS`, `metric`, `series` (a round's checkpoints, or the
            lines that zero-shot and BM25 make), `value`.
        recall: `run`, `k`, `value`.
        lb: `recipe`, `round`, `CV`, `side`, `LB`, `lineage`.
        correlations: CV and LB, a line each.
        dims: `dimensions`, `when`, `metric`, `value`.
        sweep: the sweep table's cells, header first; empty without a sweep.
        cv: the cells of what each stage scores over folds, header first; empty without a cross-validation.
        costs: `stage`, `order`, `seconds`, `peak` (MiB; NaN where it was not measured).
        ranked: runs that are on disk, BM25 first.
        negatives: by round.
        lineage: `checkpoint`, `parent`, `weights`, `parent weights`, `questions`, `status` of each checkpoint.
        flags: refusals, POLLUTED and unknown lineages, a line each.
    """

    title: str
    data: Collection
    rows: list[ResultRow]
    compared: list[list[str]]
    epochs: pd.DataFrame
    recall: pd.DataFrame
    lb: pd.DataFrame
    correlations: list[str]
    dims: pd.DataFrame
    sweep: list[list[str]]
    cv: list[list[str]]
    costs: pd.DataFrame
    ranked: list[Ranked]
    negatives: dict[int, MinedStatistics]
    lineage: list[dict]
    flags: list[str]
    missing: list[str] = field(default_factory=list)

    @property
    def note(self) -> str:
        """What the tables' superscripts mean."""
        return f"Superscripts: better than that row by Fisher's randomization test, p <= {results.MAX_P:g}."

    @property
    def dense(self) -> list[Ranked]:
        """Runs of checkpoints: all but BM25's."""
        return [each for each in self.ranked if each.label != BM25]


def _data_name(experiment: Path, data: Collection) -> str:
    """The data's name in the names of folders: a hash stands behind it where RAW was a path."""
    match = re.match(rf"{re.escape(data.data)}-[0-9a-f]{{8}}(?=-)", experiment.name)
    return match[0] if match else data.data


def gather_facts(experiment: Path, data_dir: Path, model_output: Path) -> Facts:
    """Everything that is known of an experiment.

    Args:
        experiment: `model_output/NAME-SPLIT`, with `round0`, `round1`, ...
        data_dir: its collection.
        model_output: holds the ledger, base models' runs and sweeps.

    Raises:
        UserError: no collection, or one without validation queries.
    """
    data = collection.read(data_dir)
    if not data.validation:
        raise UserError(f"{data_dir}: split {data.split} has no validation queries to report on")
    rounds = rounds_of(experiment)
    rows = results.distinct([row for folder in rounds.values() for row in evaluated(folder)])
    ranked = [_bm25(data), *_ranked(rows, data, model_output)]
    entries = ledger.read(model_output / "ledger.csv")
    own = [row for row in entries if (row["data"], row["split"]) == (data.data, data.split)]
    trained = lineages(rounds, experiment)
    return Facts(
        title=f"{experiment.name}: {data.data}, split {data.split}",
        data=data,
        rows=rows,
        compared=compared(rows),
        epochs=epochs(rounds, rows),
        recall=recalls(ranked, data),
        lb=leaderboard(own),
        correlations=[_correlation(each) for each in ledger.correlations(own)],
        dims=dims(ranked, data),
        sweep=read_results_table(model_output / f"sweep-{_data_name(experiment, data)}-{data.split}.md"),
        cv=read_results_table(model_output / f"cv-{experiment.name.rpartition(f'-{data.split}')[0]}.md"),
        costs=costs(rounds),
        ranked=ranked,
        negatives={number: _mined(folder, data) for number, folder in rounds.items() if is_mined(folder)},
        lineage=trained,
        flags=flags(rows, trained, own, refusals.read(model_output, experiment.name)),
        missing=[f"{row.label}: its run is no longer on disk" for row in rows if _is_gone(row, ranked)],
    )


def rounds_of(experiment: Path) -> dict[int, Path]:
    """Round number -> its folder."""
    matches = [(re.fullmatch(r"round(\d+)", each.name), each) for each in experiment.glob("round*")]
    return dict(sorted((int(match[1]), each) for match, each in matches if match))


def evaluated(folder: Path) -> list[ResultRow]:
    """The rows of a round's evaluation, none where it was not evaluated."""
    return results.load(folder / "eval") if store.read_manifest(folder / "eval") else []


def _mined(folder: Path, data: Collection) -> MinedStatistics:
    return read_mined(folder / MINED, list(data.passages))


# ---- scores ----------------------------------------------------------------------------------------------------------
def epochs(rounds: dict[int, Path], rows: list[ResultRow]) -> pd.DataFrame:
    """MAP@25 and Recall@25 after each epoch of each round, with the lines that stand beside them."""
    scored = [
        (f"round {number} · {each['folder'].rpartition('_')[2]}", each["metrics"])
        for number, folder in rounds.items()
        for each in (store.read_manifest(folder / "train") or {}).get("epochs", [])
    ]
    found = [_points(name, order, metrics, "rounds") for order, (name, metrics) in enumerate(scored, 1)]
    lines = {row.label: row.metrics for row in rows if row.label in (BM25, "zero-shot")}
    for label, metrics in lines.items():
        found += [_points(name, order, metrics, label) for order, (name, _) in enumerate(scored, 1)]
    columns = ["epoch", "order", "series", "part", "metric", "value"]
    return pd.DataFrame([point for points in found for point in points], columns=columns)


def _points(epoch: str, order: int, metrics: dict, series: str) -> list[dict]:
    found = []
    for part in PARTS:
        for metric in METRICS:
            value = metrics.get(metric if part == "all" else f"{metric} {part}")
            if value is not None:
                found.append(
                    {"epoch": epoch, "order": order, "series": series, "part": part, "metric": metric, "value": value}
                )
    return found


def _bm25(data: Collection) -> Ranked:
    run = bm25.rank(data.validation, data.passages, DEPTH)
    return Ranked(BM25, run, ranks_of_positives(run, data.qrels))


def _ranked(rows: list[ResultRow], data: Collection, model_output: Path) -> list[Ranked]:
    found = []
    for row in rows:
        path = model_output / row.about.get("run", "-") / run_store.RUN_FILE
        if row.in_chain and path.is_file():
            run = read_trec(path).top(DEPTH)
            if run.queries == list(data.validation):
                label = row.label.partition(",")[0]
                found.append(Ranked(label, run, ranks_of_positives(run, data.qrels), run_store.vectors_around(path)))
    return found


def _is_gone(row: ResultRow, ranked: list[Ranked]) -> bool:
    return row.in_chain and row.label.partition(",")[0] not in {each.label for each in ranked}


def ranks_of_positives(run: Run, qrels: dict[str, list[str]]) -> np.ndarray:
    """(queries,) rank of the best relevant passage of each query, from 1; 0 where the run holds none.

    >>> run = Run(["q", "r"], np.array([["a", "b"], ["a", "b"]]), np.zeros((2, 2)))
    >>> ranks_of_positives(run, {"q": ["b"], "r": ["c"]})
    array([2, 0])
    """
    relevant = np.array(
        [np.isin(row, qrels[query]) for query, row in zip(run.queries, run.passages, strict=True)], dtype=bool
    )
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, 0)


def recalls(ranked: list[Ranked], data: Collection) -> pd.DataFrame:
    """Mean share of a query's relevant passages among its first k, for k from 1 to 100."""
    found = []
    for each in ranked:
        hits = np.zeros(DEPTH)
        for query, row in zip(each.run.queries, each.run.passages[:, :DEPTH], strict=True):
            own = np.isin(row, data.qrels[query]).cumsum() / len(data.qrels[query])
            hits += np.pad(own, (0, DEPTH - len(own)), mode="edge")
        found += [
            {"run": each.label, "k": k, "value": value}
            for k, value in enumerate(np.round(hits / len(each.run.queries), 6), 1)
        ]
    return pd.DataFrame(found, columns=["run", "k", "value"])


def dims(ranked: list[Ranked], data: Collection) -> pd.DataFrame:
    """NDCG@10 and MAP@25 of the zero-shot and the last checkpoint's vectors cut to their first numbers."""
    found, kept = [], [each for each in ranked if each.vectors is not None]
    if len(kept) > 1:
        for when, each in (("zero-shot", kept[0]), (kept[-1].label, kept[-1])):
            for dim in truncation.halves(each.vectors[0].shape[1]):
                found += [{"dimensions": dim, "when": when, **score} for score in _cut_scores(each, dim, data)]
    return pd.DataFrame(found, columns=["dimensions", "when", "metric", "value"])


def _cut_scores(each: Ranked, dim: int, data: Collection) -> list[dict]:
    unit = abs(np.linalg.norm(each.vectors[1][0]) - 1) < 0.01
    queries, corpus = (run_store.truncate_vectors(vectors, dim, unit) for vectors in each.vectors)
    run = search.rank(list(data.validation), queries, list(data.passages), corpus, min(DEPTH, len(corpus)))
    scores = per_query(run, data.qrels, truncation.METRICS)
    return [{"metric": name, "value": float(values.mean())} for name, values in scores.items()]


# ---- ledger and tables -----------------------------------------------------------------------------------------------
def leaderboard(rows: list[dict]) -> pd.DataFrame:
    """Ledger rows that have both a CV and an LB, a row for each side."""
    found = [
        {
            "recipe": row["recipe"], "round": row["round"], "CV": float(row["MAP@25"]), "side": side.split()[1],
            "LB": float(row[side]), "lineage": row["lineage"],
        }
        for row in rows
        for side in ("LB public", "LB private")
        if row[side] and row["MAP@25"]
    ]  # fmt: skip
    return pd.DataFrame(found, columns=["recipe", "round", "CV", "side", "LB", "lineage"])


def _correlation(each: dict) -> str:
    values = [
        f"{name} {'too few' if each[name.lower()] is None else format(each[name.lower()], '+.3f')}"
        for name in ("Pearson", "Spearman")
    ]
    return f"CV and {each['side']} of {each['n']} checkpoints: {', '.join(values)}"


def read_results_table(file: Path) -> list[list[str]]:
    """Cells of the Markdown table that a file begins with, header first; none where there is no such file."""
    if not file.is_file():
        return []
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]] if len(cells) > 2 else []


def compared(rows: list[ResultRow]) -> list[list[str]]:
    """All metrics of each row with superscripts."""
    if not rows or not all(set(results.COMPARED) <= row.scores.keys() for row in rows):
        return []
    return tables.lettered(tables.report(rows))


# ---- cost ------------------------------------------------------------------------------------------------------------
def costs(rounds: dict[int, Path]) -> pd.DataFrame:
    """Seconds and MiB of each round's stages, as their manifests say; evaluation's encoding counts as training's."""
    found = []
    for number, folder in rounds.items():
        stages = {
            "train": store.read_manifest(folder / "train"),
            "evaluate": store.read_manifest(folder / "eval"),
        }
        if is_mined(folder):
            stages = {"mine": store.read_json(mined_manifest(folder)), **stages}
        found += [
            {"stage": f"round {number}: {stage}", "seconds": manifest.get("seconds"), "peak": manifest.get("peak_mib")}
            for stage, manifest in stages.items()
            if manifest
        ]
    frame = pd.DataFrame(found, columns=["stage", "seconds", "peak"]).astype({"seconds": float, "peak": float})
    return frame.assign(order=range(len(frame)))


# ---- lineage ---------------------------------------------------------------------------------------------------------
def lineages(rounds: dict[int, Path], experiment: Path) -> list[dict]:
    """Each round's continued checkpoint: what it came from, with hashes, and how many questions it was trained on."""
    found = []
    for number, folder in rounds.items():
        manifest = store.read_manifest(folder / "train")
        if manifest is None:
            continue
        name = manifest.get("continue_with", "")
        own, parent = store.read_manifest(folder / "train" / name) or {}, manifest.get("parent") or {}
        known = manifest.get("lineage")
        found.append(
            {
                "checkpoint": f"round {number}, {name.replace('_', ' ')}",
                "folder": f"{folder.name}/train/{name}",
                "weights": own.get("weights", ""),
                "parent": _name(parent, folder, experiment),
                "parent weights": parent.get("weights", ""),
                "questions": None if known is None else len(known),
                "status": manifest.get("lineage_status", lineage.UNKNOWN),
            }
        )
    return found


def broken(trained: list[dict]) -> list[str]:
    """Checkpoints whose parent within the experiment is no longer the one that they were trained from."""
    weights = {each["folder"]: each["weights"] for each in trained}
    return [
        f"{each['checkpoint']}: {each['parent']} has other weights now than those that it continues"
        for each in trained
        if weights.get(each["parent"], each["parent weights"]) != each["parent weights"]
    ]


def _name(parent: dict, folder: Path, experiment: Path) -> str:
    """A parent as a person calls it: a checkpoint's path within the experiment, or a base model's name."""
    name = parent.get("name", "")
    inside = (folder / name).resolve()
    if not parent.get("base") and inside.is_relative_to(experiment.resolve()):
        return inside.relative_to(experiment.resolve()).as_posix()
    return name


def flags(rows: list[ResultRow], trained: list[dict], entries: list[dict], refused: list[dict]) -> list[str]:
    """Whatever a reader must know before believing a number, a line each."""
    found = [
        f"{row.label}: {row.about['lineage']}"
        for row in rows
        if row.about.get("lineage", lineage.CLEAN) != lineage.CLEAN
    ]
    found += broken(trained)
    found += [f"{each['checkpoint']}: {each['status']}" for each in trained if each["status"] != lineage.CLEAN]
    found += [
        f"ledger: {row['recipe']} round {row['round']} ({row['checkpoint']}): {row['lineage']}"
        for row in entries
        if row["lineage"] not in (lineage.CLEAN, "")
    ]
    found += [f"refused, {each['when']}, {each['stage']}: {each['reason']}" for each in refused]
    return list(dict.fromkeys(found))
