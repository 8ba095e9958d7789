"""Cross-validation: what each stage scores on folds of v5, and the second stages learned on all folds but one."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.errors import UserError
from rounds.evaluation import results, significance
from rounds.evaluation.metrics import HEADLINE_METRICS, MAIN_METRIC, per_query
from rounds.evaluation.table import Column, Table
from rounds.models.devices import peak_memory
from rounds.reranking import fusion
from rounds.reranking.features import FILE, PARTS, Candidates, read_candidates
from rounds.retrieval.run import Run

SCORES = "scores.npy"

KINDS = ("", "votes ", "tokens ")  # of a member's feature groups

HEADER = ("", "MAP@25", "±", "seen", "unseen", "Recall@25", "p", "min", "peak MiB")

CAPTION = "mean over folds ± their standard deviation; p: Fisher's test of MAP@25 against the row above"


@dataclass(frozen=True)
class Fold:
    """One fold's rounds and candidates.

    Attributes:
        data: the fold's collection.
        rounds: label -> MAP@25 and Recall@25 of each validation query, (queries,) each, in the order of `data`.
        costs: label -> (minutes, peak MiB), where they are known.
        table: candidates of the validation queries.
        members: names of the feature groups of its checkpoints, the refined one last.
    """

    data: Collection
    rounds: dict[str, dict[str, np.ndarray]]
    costs: dict[str, tuple[float, float | None]]
    table: Candidates
    members: list[str]


@dataclass(frozen=True)
class Stage:
    """A row of the table: one stage over all folds.

    Attributes:
        scores: metric -> a fold's (queries,), one array a fold.
        minutes: mean over the folds.
        peak: MiB, the most of any fold.
    """

    label: str
    scores: dict[str, list[np.ndarray]]
    minutes: float | None
    peak: float | None


def manifest_of(folder: Path) -> dict:
    """The manifest of a folder of candidates.

    Raises:
        UserError: it is none.
    """
    manifest = store.read_manifest(folder)
    if manifest is None or manifest.get("kind") != "candidates":
        raise UserError(f"{folder}: no candidates there; make them with candidates.py")
    return manifest


def table_of(folder: Path) -> Candidates:
    """The candidates, with the scores of the reranker beside them where there is one.

    Raises:
        UserError: the reranker scored other candidates than these.
    """
    table, beside = read_candidates(folder / FILE), folder.with_name("rerank")
    manifest = store.read_manifest(beside)
    if manifest is None:
        return table
    if manifest["config"]["table"] != hashing.sha256_file(folder / FILE):
        raise UserError(f"{beside}: scored other candidates than {folder} holds now; run rerank.py again")
    return table.with_scores("reranker", np.load(beside / SCORES))


def read_fold(folder: Path) -> Fold:
    """A fold from its folder of candidates, which stands in the folder of the round that it refines.

    Raises:
        UserError: a round is missing, or was evaluated on other queries.
    """
    manifest = manifest_of(folder)
    data = collection.read(folder / manifest["collection"])
    table, rounds, costs = table_of(folder), {}, {}
    last = int(folder.parent.name.removeprefix("round"))
    for round_folder in [folder.parent.with_name(f"round{number}") for number in range(last + 1)]:
        for row in results.load(round_folder / "eval"):
            label = row.short_name
            if not row.in_chain or label in rounds:
                continue
            if row.queries != table.queries:
                raise UserError(f"{round_folder}: evaluated on other queries than {folder}; run the fold again")
            rounds[label] = {name: row.scores[name] for name in HEADLINE_METRICS}
            costs[label] = _costs(round_folder)
    if (reranked := store.read_manifest(folder.with_name("rerank"))) is not None:
        costs["rerank"] = (reranked["seconds"] / 60, reranked.get("peak_mib"))
    if table.queries != list(data.validation):
        raise UserError(f"{folder}: has other queries than {data.folder}; run the fold again")
    return Fold(data, rounds, costs, table, manifest["members"])


def _costs(folder: Path) -> tuple[float, float | None]:
    """Minutes of a round's stages, and the most memory that one of them held."""
    found = [store.read_manifest(folder / name) for name in ("train", "eval")]
    mined = folder / "finetune_data_minedHN.manifest.json"
    found.append(store.read_json(mined) if mined.is_file() else None)
    seconds = sum(each["seconds"] for each in found if each)
    return seconds / 60, max((each["peak_mib"] for each in found if each and "peak_mib" in each), default=None)


def evaluate(fold: Fold, run: Run) -> dict[str, np.ndarray]:
    """MAP@25 and Recall@25 of each query."""
    return per_query(run, fold.data.qrels, HEADLINE_METRICS)


Views = list[tuple[str, ...]]  # of `fusion.fit`


def stages(folds: list[Fold], fused: Iterable[tuple[str, Views]]) -> list[Stage]:
    """The rounds' rows, the reranker's where there is one, then one for each way to fuse.

    Args:
        folds: with the same rounds and members, two or more.
        fused: label and views. Each fold's ranking is learned on the candidates of the others.
    """
    if len(folds) < 2:
        raise UserError("cross-validation needs two folds or more; name them in FOLDS")
    if any(
        fold.rounds.keys() != folds[0].rounds.keys() or fold.members != folds[0].members
        or fold.table.features.keys() != folds[0].table.features.keys() for fold in folds
    ):  # fmt: skip
        raise UserError(
            "the folds have different rounds, or only some a reranker; run all to the same ROUND, and rerank all"
        )
    found = [_stage(folds, label, [fold.rounds[label] for fold in folds]) for label in folds[0].rounds]
    if "reranker: score" in folds[0].table.features:
        found.append(_stage(folds, "rerank", [evaluate(fold, reranked(fold)) for fold in folds]))
    return found + [_fused(folds, label, views) for label, views in fused]


def _stage(folds: list[Fold], label: str, scores: list[dict[str, np.ndarray]]) -> Stage:
    costs = [fold.costs[label] for fold in folds]
    peak = max((most for _, most in costs if most), default=None)
    by_metric = {name: [own[name] for own in scores] for name in HEADLINE_METRICS}
    return Stage(label, by_metric, float(np.mean([minutes for minutes, _ in costs])), peak)


def reranked(fold: Fold) -> Run:
    """The candidates in the reranker's order, those behind its depth in the last round's."""
    features = fold.table.features
    behind = -1e6 - features[f"{fold.members[-1]}: rank"]
    scores = features["reranker: score"]
    return fold.table.run(np.where(np.isnan(scores), behind, scores))


def _fused(folds: list[Fold], label: str, views: Views) -> Stage:
    scores: dict[str, list[np.ndarray]] = {name: [] for name in HEADLINE_METRICS}
    start = time.perf_counter()
    for fold in folds:
        model = fusion.fit([other.table for other in folds if other is not fold], views)
        for name, values in evaluate(fold, fold.table.run(model.score(fold.table))).items():
            scores[name].append(values)
    minutes = (time.perf_counter() - start) / 60 / len(folds)
    return Stage(label, scores, minutes, round(peak_memory("cpu"), 1))


def views(members: list[str]) -> list[tuple[str, Views]]:
    """What the table fuses: the refined checkpoint with words and votes; then the mean of more views.

    These are that checkpoint by itself, and beside what the base model makes of a part of the query. Neither reads
    earlier rounds or a reranker (`ablations` has the ensemble with them).

    Args:
        members: names of the checkpoints' feature groups: the base model's parts, itself, then the rounds.
    """
    found = _views_of(members[-1], members)
    return [("fusion", found[:1]), ("ensemble", found)]


def _views_of(member: str, members: list[str]) -> Views:
    parts = [other for other in members if other.endswith(PARTS)]
    sets = [(member,), *((member, part) for part in parts)]
    return [(*(f"{kind}{each}" for each in own for kind in KINDS), "labels", "words", "siblings") for own in sets]


def ablations(members: list[str], table: Candidates) -> list[tuple[str, Views]]:
    """The fusion without one kind of feature each, and the ensemble with earlier rounds, or reranked."""
    (_, (one,)), (_, full) = views(members)
    kinds = dict.fromkeys(group.split()[0] for group in one if group not in members and table.names((group,)))
    found = [
        (f"fusion without {kind}", [tuple(group for group in one if group in members or group.split()[0] != kind)])
        for kind in kinds
    ]
    whole = [member for member in members if not member.endswith(PARTS)]
    if earlier := whole[1:-1]:
        found.append(
            ("ensemble, all rounds", [view for each in (*earlier, whole[-1]) for view in _views_of(each, members)])
        )
    if "reranker: score" in table.features:
        found.append(("ensemble, reranked", [(*view, "reranker") for view in full]))
    return found


def stage_table(rows: list[Stage], folds: list[Fold], title: str) -> Table:
    """Return the scores and costs of each stage; p is Fisher's against the row above, over all folds' queries."""
    unseen = [np.array([query in fold.data.unseen for query in fold.data.validation]) for fold in folds]
    body, previous = [], None
    for row in rows:
        main = row.scores[MAIN_METRIC]
        means = [values.mean() for values in main]
        seen_mean = np.mean([values[~mask].mean() for values, mask in zip(main, unseen, strict=True)])
        unseen_mean = np.mean([values[mask].mean() for values, mask in zip(main, unseen, strict=True)])
        recall = np.mean([values.mean() for values in row.scores["Recall@25"]])
        pooled = np.concatenate(main)
        p = "" if previous is None else f"{significance.fisher_p_value(pooled, previous):.4f}"
        figures = [np.mean(means), np.std(means, ddof=1), seen_mean, unseen_mean, recall]
        minutes = "" if row.minutes is None else f"{row.minutes:.1f}"
        peak = "" if row.peak is None else f"{row.peak:.0f}"
        body.append([row.label, *(f"{figure:.4f}" for figure in figures), p, minutes, peak])
        previous = pooled
    columns = [Column(HEADER[0], is_text=True, wraps=True), *map(Column, HEADER[1:])]
    return Table(columns, body, title, CAPTION)


def write(table: Table, path: Path) -> list[Path]:
    """Write the table as Markdown, CSV and JSON, and return the three files; the JSON file is what the report reads."""
    markdown, csv, json = (path.with_suffix(suffix) for suffix in (".md", ".csv", ".json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(markdown, f"{table.title}\n\n{table.markdown()}")
    store.write_text(csv, replace(table, columns=[Column("stage"), *table.columns[1:]]).csv())
    table.save(json)
    return [markdown, csv, json]
