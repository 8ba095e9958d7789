"""Facts: all that the report shows of one experiment, read from the files that its stages wrote.

Nothing is encoded. What does not exist yet (a later round, a leaderboard score, a sweep) leaves its table empty.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rounds.artifacts import refusals, store
from rounds.config.sections import mining
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.data.source import MINED
from rounds.errors import UserError
from rounds.evaluation import ledger, results, tables
from rounds.evaluation.results import ResultRow
from rounds.evaluation.table import Table
from rounds.mining.statistics import MinedStatistics, is_mined, read_mined
from rounds.report import frames, provenance, ranked_runs
from rounds.report.provenance import CheckpointLineage
from rounds.report.ranked_runs import BM25, RankedRun


@dataclass(frozen=True)
class Facts:
    """The content of one report. Each frame has its columns even if it has no rows; `frames` describes them.

    Attributes:
        title: The experiment's name with its data and split.
        data: The collection that all results were measured on.
        rows: Results of the comparison table, from BM25 to the last round.
        all_metrics: Cells of the table of all metrics with superscripts, header first; empty if an evaluation stored
            MAP@25 alone.
        epochs: Scores by epoch (`frames.epoch_scores`).
        recall: Recall@k by run (`frames.recall_curves`).
        leaderboard: CV and LB of submitted checkpoints (`frames.leaderboard_scores`).
        correlations: Correlations of CV and LB, one line each.
        truncation: Scores of truncated vectors (`frames.truncation_scores`).
        sweep: Cells of the sweep's table, header first; empty without a sweep.
        cross_validation: The stages' scores over folds; None without a cross-validation.
        costs: Seconds and memory by stage (`frames.stage_costs`).
        ranked: Runs that are on disk, BM25 first.
        negatives: Round number -> statistics of its mined negatives.
        lineages: The checkpoint that each round hands on.
        warnings: Refusals, polluted results and unknown lineages, one line each.
        missing: Results whose run files were deleted, one line each.
    """

    title: str
    data: Collection
    rows: list[ResultRow]
    all_metrics: list[list[str]]
    epochs: pd.DataFrame
    recall: pd.DataFrame
    leaderboard: pd.DataFrame
    correlations: list[str]
    truncation: pd.DataFrame
    sweep: list[list[str]]
    cross_validation: Table | None
    costs: pd.DataFrame
    ranked: list[RankedRun]
    negatives: dict[int, MinedStatistics]
    lineages: list[CheckpointLineage]
    warnings: list[str]
    missing: list[str] = field(default_factory=list)

    @property
    def superscript_note(self) -> str:
        """Explain the superscripts of the tables."""
        return tables.superscript_note(results.MAX_P)

    @property
    def checkpoint_runs(self) -> list[RankedRun]:
        """Return the runs of checkpoints: all but BM25's."""
        return [ranked for ranked in self.ranked if ranked.label != BM25]


def gather_facts(experiment: Path, data_dir: Path, model_output: Path, table_tag: str = "", cv_tag: str = "") -> Facts:
    """Read everything that is known of an experiment.

    Args:
        experiment: Folder `model_output/NAME-SPLIT` with `round0`, `round1`, ...; it may be empty.
        data_dir: The experiment's collection.
        model_output: Folder with the ledger, base models' runs and sweeps.
        table_tag: The hash that the name of the sweep's table ends in, if it has one.
        cv_tag: The hash that the name of the cross-validation's table ends in, if it has one.

    Raises:
        UserError: `data_dir` is no collection, or its split has no validation queries.
    """
    data = collection.read(data_dir)
    if not data.validation:
        raise UserError(f"{data_dir}: split {data.split} has no validation queries to report on")
    rounds = find_rounds(experiment)
    sweep_end, cv_end = (f"-{each}" if each else "" for each in (table_tag, cv_tag))
    rows = results.distinct([row for folder in rounds.values() for row in read_results(folder)])
    ranked = [
        ranked_runs.rank_with_bm25(data, read_bm25(rounds)),
        *ranked_runs.read_ranked_runs(rows, data, model_output),
    ]
    ledger_rows = [
        row
        for row in ledger.read(model_output / "ledger.csv")
        if (row["data"], row["split"]) == (data.data, data.split)
    ]
    lineages = provenance.read_lineages(rounds, experiment)
    refused = refusals.read(model_output, experiment.name)
    folds_table = model_output / f"cv-{experiment.name.rpartition(f'-{data.split}')[0]}{cv_end}.json"
    return Facts(
        title=f"{experiment.name}: {data.data}, split {data.split}",
        data=data,
        rows=rows,
        all_metrics=all_metrics_table(rows),
        epochs=frames.epoch_scores(rounds, rows),
        recall=frames.recall_curves(ranked, data),
        leaderboard=frames.leaderboard_scores(ledger_rows),
        correlations=[ledger.describe_correlation(pair) for pair in ledger.correlations(ledger_rows)],
        truncation=frames.truncation_scores(ranked, data),
        sweep=read_cells(model_output / f"sweep-{_data_name(experiment, data)}-{data.split}{sweep_end}.json"),
        cross_validation=read_table(folds_table),
        costs=frames.stage_costs(rounds),
        ranked=ranked,
        negatives=read_negatives(rounds, data),
        lineages=lineages,
        warnings=[
            *provenance.collect_warnings(rows, lineages, ledger_rows, refused),
            *provenance.find_changed_folds(folds_table, model_output),
        ],
        missing=[f"{row.label}: its run is no longer on disk" for row in rows if _is_missing(row, ranked)],
    )


def find_rounds(experiment: Path) -> dict[int, Path]:
    """Return the folders `round0`, `round1`, ... of an experiment by number, in order."""
    matches = [(re.fullmatch(r"round(\d+)", folder.name), folder) for folder in experiment.glob("round*")]
    return dict(sorted((int(match[1]), folder) for match, folder in matches if match))


def read_results(round_folder: Path) -> list[ResultRow]:
    """Read the results of a round's evaluation; return none if it was not evaluated."""
    evaluation = round_folder / "eval"
    return results.load(evaluation) if store.read_manifest(evaluation) else []


def read_bm25(rounds: dict[int, Path]) -> mining.BM25:
    """Return the parameters of the tables' BM25 row, which the base model's evaluation keeps; else the defaults."""
    manifest = store.read_manifest(rounds[0] / "eval") if 0 in rounds else None
    kept = (manifest.config or {}).get("bm25") if manifest else None
    return mining.BM25(**kept) if isinstance(kept, dict) else mining.BM25()


def read_negatives(rounds: dict[int, Path], data: Collection) -> dict[int, MinedStatistics]:
    """Return the statistics of the mined negatives of each round that has a finished mined file."""
    passage_ids = list(data.passages)
    return {number: read_mined(folder / MINED, passage_ids) for number, folder in rounds.items() if is_mined(folder)}


def all_metrics_table(rows: list[ResultRow]) -> list[list[str]]:
    """Return the cells of all metrics with superscripts, header first; empty unless every row has all metrics."""
    if not rows or not all(set(results.COMPARED_METRICS) <= row.scores.keys() for row in rows):
        return []
    return tables.comparison_table(tables.compare(rows)).lines


def _is_missing(row: ResultRow, ranked: list[RankedRun]) -> bool:
    return row.in_chain and row.short_name not in {run.label for run in ranked}


def _data_name(experiment: Path, data: Collection) -> str:
    """Return the data's name as folder names have it: with a hash behind it if RAW was a path."""
    plain = re.sub(r"[^\w.-]", "_", data.data)
    match = re.match(rf"{re.escape(plain)}-[0-9a-f]{{8}}(?=-)", experiment.name)
    return match[0] if match else data.data


def read_table(file: Path) -> Table | None:
    """Return a table that a stage saved as JSON; None if there is no such file."""
    return Table.load(file) if file.is_file() else None


def read_cells(file: Path) -> list[list[str]]:
    """Return the cells of a table that a stage saved as JSON, header first; empty if there is no such file."""
    table = read_table(file)
    return table.lines if table else []
