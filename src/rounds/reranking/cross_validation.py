"""Cross-validation: evaluate each stage on folds, with second stages fitted on all folds but the one they rank."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.config.sections.ensemble import Ensemble
from rounds.errors import UserError
from rounds.estimate import Counter, Estimate
from rounds.evaluation import fold_table, significance
from rounds.evaluation.fold_table import COSTS, FIGURES
from rounds.evaluation.metrics import HEADLINE_METRICS, MAIN_METRIC, per_query
from rounds.evaluation.table import Column, Table, files_of
from rounds.models.devices import peak_memory
from rounds.reranking import fusion, unseen_prior, views
from rounds.reranking.folds import RERANKER, Fold, require_disjoint
from rounds.reranking.fusion import View
from rounds.reranking.unseen_prior import UnseenPrior
from rounds.reranking.views import UNSEEN_PRIOR
from rounds.retrieval.run import Run

HEADER = ("", *FIGURES, "p (before)", *COSTS)

P_ENSEMBLE = "p (ensemble)"  # a further column where there are ablations

CAPTION = (
    "mean over folds ± their standard deviation; p: Fisher's paired test of MAP@25, (before) against the stage in the "
    "row above, of an ablation against the fusion or ensemble that it changes"
)

ABLATION_CAPTION = f"{CAPTION}; (ensemble) of each ablation against the ensemble"

BEHIND = -1e6  # score of candidates that the reranker left out, below all that it scored


@dataclass(frozen=True)
class StageResult:
    """Scores and costs of one stage over all folds.

    Attributes:
        label: The row's name in the table.
        scores: Metric -> (queries,) for each fold.
        minutes: Mean over the folds.
        peak_mib: The most of any fold; None where it was not measured.
        probabilities: (pairs,) of each fold's candidates, of a fusion alone.
    """

    label: str
    scores: dict[str, list[np.ndarray]]
    minutes: float | None
    peak_mib: float | None
    probabilities: list[np.ndarray] = field(default_factory=list)


def evaluate_stages(folds: list[Fold], fusions: Iterable[tuple[str, list[View]]]) -> list[StageResult]:
    """Evaluate the rounds, the reranker where there is one, then each fusion.

    Args:
        folds: Two folds or more with the same rounds and fused models.
        fusions: Label and views of each fusion. The ranking of a fold is learned on the candidates of the others.

    Raises:
        UserError: There is one fold only, two folds share questions, or the folds differ in rounds, models or features.
    """
    if len(folds) < 2:
        raise UserError("cross-validation needs two folds or more; name them in FOLDS")
    require_disjoint([fold.data for fold in folds])
    first = folds[0]
    if any(_stages_of(fold) != _stages_of(first) for fold in folds):
        raise UserError(
            "the folds have different rounds, seeds or N_FOLDS, or only some have outside questions that vote; run all "
            "to the same ROUND with the same EXTRA"
        )
    rows = [_summarize(folds, label, [fold.round_scores[label] for fold in folds]) for label in first.round_scores]
    if first.seeds > 1:
        label = f"{rows[-1].label}, {first.seeds} seeds"
        rows.append(_of_runs(label, [evaluate_run(fold, first_stage_run(fold)) for fold in folds]))
    if f"{RERANKER}: score" in first.table.features:
        rows.append(_summarize(folds, "rerank", [evaluate_run(fold, reranked_run(fold)) for fold in folds]))
    fusions = list(fusions)
    estimate = Estimate("cross-validate the fusions", "networks")
    networks = Counter(estimate.update, len(folds) * fusion.SEEDS * sum(len(views) for _, views in fusions))
    return rows + [_evaluate_fusion(folds, label, views, networks) for label, views in fusions]


def title(folds: list[Fold], ensemble: Ensemble = views.DEFAULTS) -> str:
    """Return the title of the stages' table: the folds, and what sets their rounds apart from those of other tables.

    Args:
        folds: The folds.
        ensemble: What the ensemble reads and is made of.
    """
    first = folds[0]
    parts = [fold_table.title([fold.data for fold in folds])]
    if any(fold.data.outside.get("training_queries") for fold in folds):
        is_rewritten = any(fold.data.outside.get("rewritten") for fold in folds)
        given = ", some of which look written from the competition's (docs/data.md)" if is_rewritten else ""
        silent = "" if ensemble.outside_votes else ", without their votes"
        parts.append(f"with outside questions{given}{silent}")
    if first.seeds > 1:
        parts.append(f"rounds: means over {first.seeds} training seeds")
    if not ensemble.boosted_trees:
        parts.append(f"{views.ENSEMBLE} without {views.BOOSTED_TREES}")
    return "; ".join(parts)


def _stages_of(fold: Fold) -> tuple:
    """Return what folds must share to be averaged: labels of the rounds, models, names of features, seeds, folds."""
    return fold.round_scores.keys(), fold.models, fold.table.features.keys(), fold.seeds, fold.data.n_folds


def evaluate_run(fold: Fold, run: Run) -> dict[str, np.ndarray]:
    """Return MAP@25 and Recall@25 of each validation query, (queries,) each."""
    return per_query(run, fold.data.qrels, HEADLINE_METRICS)


def first_stage_run(fold: Fold) -> Run:
    """Rank the candidates by the last model's similarity, the mean of all its seeds."""
    return fold.table.to_run(fold.table.features[f"{fold.models[-1]}: score"])


def _of_runs(label: str, scores: list[dict[str, np.ndarray]]) -> StageResult:
    """Gather each fold's scores of rankings that took no time of their own."""
    return StageResult(label, {name: [each[name] for each in scores] for name in HEADLINE_METRICS}, None, None)


def reranked_run(fold: Fold) -> Run:
    """Rank the candidates by the reranker's scores; those that it left out follow in the last round's order."""
    features = fold.table.features
    scores = features[f"{RERANKER}: score"]
    return fold.table.to_run(np.where(np.isnan(scores), BEHIND - features[f"{fold.models[-1]}: rank"], scores))


def _summarize(folds: list[Fold], label: str, scores: list[dict[str, np.ndarray]]) -> StageResult:
    """Gather each fold's scores of a stage, and its costs as the folds know them."""
    costs = [fold.costs[label] for fold in folds]
    peak = max((peak for _, peak in costs if peak), default=None)
    by_metric = {name: [fold_scores[name] for fold_scores in scores] for name in HEADLINE_METRICS}
    return StageResult(label, by_metric, float(np.mean([minutes for minutes, _ in costs])), peak)


def _evaluate_fusion(folds: list[Fold], label: str, views: list[View], networks: Counter) -> StageResult:
    """Rank each fold by a fusion that was fitted on the other folds, and count the networks that were fitted."""
    start = time.perf_counter()
    probabilities = list(fusion.score_out_of_fold([fold.table for fold in folds], views, networks))
    return replace(_of_scores(folds, label, probabilities, start), probabilities=probabilities)


def evaluate_unseen_prior(
    folds: list[Fold], views: list[View], ensemble: StageResult
) -> tuple[StageResult, UnseenPrior]:
    """Rank each fold by the ensemble and an offset for unlabelled passages that was estimated on the other folds.

    Args:
        folds: Three folds or more, of which `unseen_prior.find_obstacle` found no obstacle.
        views: The ensemble's views.
        ensemble: The ensemble's row, whose minutes count in the new row's.

    Returns:
        The row, and the offsets.
    """
    start = time.perf_counter()
    tables, probabilities = [fold.table for fold in folds], ensemble.probabilities
    offsets = unseen_prior.estimate_by_fold(tables, views)
    on_all = unseen_prior.estimate_offset(zip(tables, probabilities, strict=True))
    shifted = list(map(unseen_prior.apply_offset, tables, probabilities, offsets))
    row = _of_scores(folds, UNSEEN_PRIOR, shifted, start)
    return replace(row, minutes=row.minutes + ensemble.minutes), UnseenPrior(offsets, on_all)


def _of_scores(folds: list[Fold], label: str, scores: list[np.ndarray], start: float) -> StageResult:
    """Rank each fold by (pairs,) scores of its candidates, whose making began at `start`."""
    runs = [fold.table.to_run(fold_scores) for fold, fold_scores in zip(folds, scores, strict=True)]
    row = _of_runs(label, list(map(evaluate_run, folds, runs)))
    minutes = (time.perf_counter() - start) / 60 / len(folds)
    return replace(row, minutes=minutes, peak_mib=round(peak_memory("cpu"), 1))


def stage_table(rows: list[StageResult], folds: list[Fold], title: str) -> Table:
    """Return the scores and costs of each stage; each p is Fisher's over all folds' queries.

    A stage is tested against the stage in the row above, an ablation against what it changes and, in a column of its
    own, against the ensemble.
    """
    unseen = fold_table.unseen_masks([fold.data for fold in folds])
    pooled = {row.label: np.concatenate(row.scores[MAIN_METRIC]) for row in rows}
    lines, p_ensemble, previous = [], [], ""
    for row in rows:
        changed = views.changed_label(row.label)
        p_before = _p_value(pooled, row.label, changed or previous)
        figures, costs = fold_table.fold_figures(row.scores, unseen), fold_table.cost_cells(row.minutes, row.peak_mib)
        lines.append([row.label, *figures, p_before, *costs])
        p_ensemble.append(_p_value(pooled, row.label, views.ENSEMBLE if changed else ""))
        previous = row.label
    columns = [Column(HEADER[0], is_text=True, wraps=True), *map(Column, HEADER[1:])]
    if not any(p_ensemble):
        return Table(columns, lines, title, CAPTION)
    place = HEADER.index(COSTS[0])
    columns.insert(place, Column(P_ENSEMBLE))
    for line, p in zip(lines, p_ensemble, strict=True):
        line.insert(place, p)
    return Table(columns, lines, title, ABLATION_CAPTION)


def screens(table: Table) -> list[Table]:
    """Return a table of stages for a terminal of 80 columns: with ablations, what they cost stands apart."""
    return table.apart(COSTS[0]) if P_ENSEMBLE in table.header else [table]


def _p_value(pooled: dict[str, np.ndarray], label: str, against: str) -> str:
    """Return p between two rows as a cell; empty where there is no row to test against."""
    return f"{significance.fisher_p_value(pooled[label], pooled[against]):.4f}" if against in pooled else ""


def write_table(table: Table, path: Path, below: Mapping[str, object] | None = None) -> list[Path]:
    """Write the table as Markdown, CSV and JSON, and return the three files; the JSON file is what the report reads.

    Args:
        table: The stages' table.
        path: The files' path without a suffix.
        below: Name -> what stands below the table, a line or a dataclass: as text in Markdown and among JSON's `notes`,
            a dataclass by its name in JSON, too.
    """
    markdown, csv, json = files_of(path, ".md", ".csv", ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    below = below or {}
    text = "".join(f"\n{part}\n" for part in below.values())
    store.write_text(markdown, f"{table.title}\n\n{table.markdown()}{text}")
    store.write_text(csv, replace(table, columns=[Column("stage"), *table.columns[1:]]).csv())
    shown = {"apart": COSTS[0] if P_ENSEMBLE in table.header else "", "notes": list(map(str, below.values()))}
    kept = {name: asdict(part) for name, part in below.items() if not isinstance(part, str)}
    store.write_json(json, asdict(table) | shown | kept)
    return [markdown, csv, json]
