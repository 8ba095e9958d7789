"""Pseudo-labels: a checkpoint labels unlabelled wrong answers of its own training questions, where it is sure enough.

The rows are outside questions (`data.loaders.outside`). How sure is sure enough is measured on queries that models of
the same recipe were not trained on: the validation queries of other folds, which are training queries of this split.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import store
from rounds.artifacts.manifests import PseudoLabelManifest
from rounds.data import collection, few_shot, lineage, siblings
from rounds.data.collection import Collection
from rounds.data.dataset import Query, RetrievalDataset
from rounds.data.few_shot import QueryMetadata
from rounds.data.loaders.outside import LABELLED_FOR, LONG_COLUMNS, SOURCE
from rounds.data.prompts import query_text
from rounds.data.source import N_FOLDS
from rounds.encoding import run_store
from rounds.errors import Refused, UserError
from rounds.evaluation.table import Table
from rounds.mining.confidence import HeldOut, choose_threshold, confidences, threshold_table
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval.run import Run

FIELDS = ("construct", "subject", "question", "correct", "wrong")  # in the order of the long form's columns


@dataclass(frozen=True)
class PseudoLabelJob:
    """The unlabelled queries to label, and how.

    Attributes:
        checkpoint: labels them.
        data: its split.
        raw: the data that the split was drawn from.
        held_out: checkpoints of other folds, each with its own split, whose validation queries measure the precision.
        min_precision: precision that the labels must have.
        output: JSONL to write.
        model_output: folder under which base models keep their runs.
        overwrite: replace an output of another configuration.
        made_from: what the pipeline makes the file from, which then decides whether it is kept; None without one.
    """

    checkpoint: Checkpoint
    data: Collection
    raw: RetrievalDataset
    held_out: list[tuple[Checkpoint, Collection]]
    min_precision: float
    output: Path
    model_output: Path
    overwrite: bool = False
    made_from: dict | None = None

    def config(self) -> dict:
        """Return everything that shapes the file, for its manifest."""
        return {
            "model": self.checkpoint.key,
            "split": _split_of(self.data),
            "questions": lineage.questions_digest(self.data.questions["train"]),
            "held_out": [[source.key, data.validation_digest] for source, data in self.held_out],
            "min_precision": self.min_precision,
        }


def label(job: PseudoLabelJob) -> tuple[Table | None, str]:
    """Label the unlabelled queries of the split's training questions, and return the table and the line to print.

    Raises:
        UserError: no unlabelled query, none that is sure enough, or raw data that the split was not drawn from.
        Refused: a checkpoint was trained on validation questions of its split, or queries that measure the precision
            are validation queries of the split to label.
    """
    if store.is_file_finished(job.output, config := job.config(), job.overwrite, job.made_from):
        return None, f"{job.output}: up to date"
    _require_clean(job)
    queries = _unlabelled_queries(job)
    run = _rank(job, queries)
    certain = confidences(run, job.checkpoint.recipe.training.temperature)
    held_out = HeldOut.join([_held_out(source, data, job.model_output) for source, data in job.held_out])
    threshold = choose_threshold(held_out, job.min_precision)
    kept = np.flatnonzero(certain >= threshold)
    if not len(kept):
        raise UserError(
            f"MIN_PRECISION={job.min_precision:g}: none of {len(queries)} unlabelled queries reaches the confidence "
            f"{threshold:.4f}; lower it, or take a better ROUND"
        )
    rows = [_row(job, queries[row], str(run.passages[row, 0]), certain[row]) for row in kept]
    above = held_out.confidence >= threshold
    manifest = PseudoLabelManifest(
        config=config,
        lineage=job.checkpoint.lineage,
        unlabelled=len(queries),
        rows=len(rows),
        threshold=threshold,
        precision=round(float(held_out.is_right[above].mean()), 4),
        made_from=job.made_from,
    )
    store.write_file_artifact(job.output, rows, manifest)
    line = (
        f"{job.output}: {len(rows)} of {len(queries)} unlabelled wrong answers of training questions have a label; "
        f"{_count_siblings(job, queries, run, kept)} of them have that of another answer of their question"
    )
    return threshold_table(held_out, certain, threshold), line


def _require_clean(job: PseudoLabelJob) -> None:
    """Refuse checkpoints that know validation questions, and precision that is measured on this split's."""
    if not job.held_out:
        raise UserError(
            "pseudo_label: name checkpoints of other folds, on whose held-out queries precision is measured"
        )
    for source, data in ((job.checkpoint, job.data), *job.held_out):
        if lineage.guard(source.name, source.lineage, data.questions["validation"], None) != lineage.CLEAN:
            raise Refused(f"{source.name}: {lineage.UNKNOWN}; pseudo-labels need to know what it was trained on")
    validation = job.data.questions["validation"]
    for _, data in job.held_out:
        if shared := lineage.overlap(data.questions["validation"], validation):
            raise Refused(
                f"{data.folder}: {len(shared)} of its validation questions are validation questions of "
                f"{job.data.folder}, too, and must choose no threshold; name other folds, of one SEED"
            )


def _unlabelled_queries(job: PseudoLabelJob) -> list[Query]:
    """Return the unlabelled wrong answers of the split's training questions, in file order."""
    raw = job.raw
    queries = [
        query
        for query in siblings.wrong_answers(raw, job.data.questions["train"], job.data.folder)
        if query.id not in raw.qrels and all(query.fields[name].strip() for name in FIELDS[2:])
    ]
    if not queries:
        raise UserError(f"{raw.name}: each wrong answer of the split's training questions has a label already")
    return queries


def _rank(job: PseudoLabelJob, queries: list[Query]) -> Run:
    """Rank the corpus for the unlabelled queries."""
    source, prompts = job.checkpoint, job.checkpoint.recipe.prompts
    texts = {query.id: query_text(query, prompts) for query in queries}
    bank = collection.example_bank(collection.read_rows(job.data.folder / collection.FINETUNE, ("pos",)), prompts)
    metadata = [QueryMetadata(texts[q.id], q.group, q.fields["construct"], q.fields["subject"]) for q in queries]
    examples = bank and few_shot.select_examples(bank, metadata)
    store_of_runs = run_store.open_store(source, job.model_output)
    return store_of_runs.run("unlabelled", texts, job.data.passages, examples=examples)[0]


def _held_out(source: Checkpoint, data: Collection, model_output: Path) -> HeldOut:
    """Return how sure a checkpoint is of its validation queries' best passages, and whether these are relevant."""
    examples = run_store.few_shot_examples(source, data, data.validation)
    runs = run_store.open_store(source, model_output)
    run, _ = runs.run("validation", data.validation, data.passages, examples=examples, identical=data.identical)
    best = zip(run.queries, run.passages[:, 0].tolist(), strict=True)
    return HeldOut(
        confidence=confidences(run, source.recipe.training.temperature),
        is_right=np.array([passage in data.qrels[query] for query, passage in best], dtype=bool),
        is_unseen=np.array([query in data.unseen for query in run.queries], dtype=bool),
    )


def _row(job: PseudoLabelJob, query: Query, passage: str, confidence: float) -> dict:
    """Return a query and its label in the long form, with the split that the label is for."""
    split, weights = _split_of(job.data), job.checkpoint.weights_digest
    return {
        SOURCE: "-".join(["pseudo_label", *map(str, split.values()), weights[:8]]),
        **dict(zip(LONG_COLUMNS, (*(query.fields[name] for name in FIELDS), passage), strict=True)),
        **dict(
            zip(
                LABELLED_FOR,
                (job.raw.name, *split.values(), lineage.questions_digest(job.data.questions["validation"])),
                strict=True,
            )
        ),
        "Checkpoint": weights,
        "Confidence": round(float(confidence), 6),
        "QuestionId_Answer": query.id,
    }


def _split_of(data: Collection) -> dict:
    """Return name, seed and fold of a split; where the number of folds is not the default, a fold such as `1-of-10`."""
    config = store.read_manifest(data.folder).config
    fold = config.get("fold", 0)
    return {
        "split": data.split,
        "seed": config.get("seed", 0),
        "fold": fold if data.n_folds == N_FOLDS else f"{fold}-of-{data.n_folds}",
    }


def _count_siblings(job: PseudoLabelJob, queries: list[Query], run: Run, kept: np.ndarray) -> int:
    """Count the kept labels that another wrong answer of the same question has in the data."""
    labels: dict[str, set[str]] = {}
    groups = {query.id: query.group for query in job.raw.queries}
    for query, passages in job.raw.qrels.items():
        labels.setdefault(groups[query], set()).update(passages)
    return sum(str(run.passages[row, 0]) in labels.get(queries[row].group, ()) for row in kept)
