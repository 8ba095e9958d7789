"""Teacher: score the candidates of all training rows by the ensemble, and write them as rows to distil from."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rounds.artifacts import hashing, store
from rounds.artifacts.second_stage_manifests import TeacherManifest
from rounds.config.recipe import Distillation
from rounds.config.sections.ensemble import Ensemble
from rounds.data import collection, lineage, siblings
from rounds.data.collection import Collection
from rounds.data.dataset import RetrievalDataset
from rounds.data.few_shot import QueryMetadata
from rounds.data.text import normalize_text
from rounds.errors import Refused, UserError
from rounds.estimate import Counter, Estimate
from rounds.evaluation.metrics import HEADLINE_METRICS, MAIN_METRIC, per_query
from rounds.models.checkpoint import Checkpoint
from rounds.reranking import folds, fusion, stage, views
from rounds.reranking.candidate_vectors import compute_training_candidates
from rounds.reranking.candidates import FILE, Candidates
from rounds.reranking.features import MAX_PAIRS
from rounds.reranking.stage import CandidateFolder

LEAST_PROBABILITY = 1e-9  # of a candidate; a lower one counts as this

BLOCKS = 5  # into which rows without a fold are divided at least, each of which is ranked without its own labels

MOST_ROWS = 2000  # of a block, whose pairs are in memory at once

Scores = dict[str, dict[str, float]]  # query id -> passage id -> logarithm of the ensemble's probability


@dataclass(frozen=True)
class TeacherJob:
    """The rows to score, and the ensemble that scores them.

    Attributes:
        folds: Folders of candidates with known labels. The ensemble that scores a fold is fitted on the others.
        data: The collection that trains on everything; its fine-tuning rows are those to score.
        checkpoints: The rounds on all of train, the base model first, that rank the rows of no fold and the outside
            ones; those are left out without any.
        settings: The recipe's section `distillation`.
        output: JSONL to write.
        model_output: Folder that keeps the vectors of base models.
        overwrite: Replace a file of another configuration.
        made_from: What the pipeline makes the file from, which then decides whether it is kept; None without one.
        ensemble: What the ensemble reads and is made of.
        raw: The data that the collection was drawn from, whose wrong answers without a label are siblings of the rows;
            None leaves the labelled ones alone.
    """

    folds: list[Path]
    data: Collection
    checkpoints: list[Checkpoint]
    settings: Distillation
    output: Path
    model_output: Path
    overwrite: bool = False
    made_from: dict | None = None
    ensemble: Ensemble = views.DEFAULTS
    raw: RetrievalDataset | None = None

    @property
    def scores_others(self) -> bool:
        """Return whether rows of no fold and outside ones are scored."""
        return self.settings.rows == "all" and bool(self.checkpoints)

    @cached_property
    def unranked_siblings(self) -> list[QueryMetadata]:
        """Return the wrong answers of the training questions that are no training rows; empty without raw data."""
        if not (self.raw and self.scores_others):
            return []
        rows = {row["query_id"] for row in collection.read_rows(self.data.folder / collection.FINETUNE, ("pos",))}
        prompts = self.checkpoints[-1].recipe.prompts
        return siblings.unranked(self.raw, self.data.questions["train"], rows, prompts, self.data.folder)

    def config(self) -> dict:
        """Return everything that shapes the file, for its manifest."""
        unranked = self.unranked_siblings
        return {
            "folds": [hashing.sha256_file(folder / FILE) for folder in self.folds],
            "rows": hashing.sha256_file(self.data.folder / collection.FINETUNE),
            "checkpoints": [source.key for source in self.checkpoints],
            "candidates": self.settings.candidates,
            "others": self.scores_others,
            **({"siblings": hashing.sha256_json([each.text for each in unranked])} if unranked else {}),
            **self.ensemble.choices(),
        }


class _FoldScores(NamedTuple):
    """The ensemble's scores of the folds' queries, and its metrics, each (queries,)."""

    scores: Scores
    metrics: dict[str, np.ndarray]


def write_teacher(job: TeacherJob) -> str:
    """Write `query`, `pos`, `neg` and the ensemble's scores of each training row, and return the line to print.

    A fold's rows were ranked by models that never trained on them. Rows of no fold, and outside ones, are ranked by the
    rounds on all of train, block by block: neither votes nor counts of labels know the block's own labels.

    Raises:
        UserError: There is one fold only, a fold is named twice, fuses other models or has other siblings, or its rows
            are not the data's.
        Refused: Two folds share questions.
    """
    folds.require_distinct(job.folds)
    read = [stage.read_candidate_folder(folder) for folder in job.folds]
    _check_folds(read)
    _check_siblings(job)
    config = job.config()
    if store.is_file_finished(job.output, config, job.overwrite, job.made_from):
        return f"{job.output}: up to date"
    start = time.perf_counter()
    rows = collection.read_rows(job.data.folder / collection.FINETUNE, ("pos",))
    _, ensemble = views.default_views(read[0].models, job.ensemble)[-1]
    _check_data(read, rows, job)
    by_folds = _score_folds(read, ensemble, job.settings.candidates)
    others = _score_others(job, read, ensemble, [row for row in rows if row["query_id"] not in by_folds.scores], rows)
    scores = by_folds.scores | others
    written = [_teacher_row(row, scores[row["query_id"]], job.data) for row in rows if row["query_id"] in scores]
    metrics = {name: round(float(values.mean()), 6) for name, values in by_folds.metrics.items()}
    manifest = TeacherManifest(
        config=config,
        lineage=_lineage(read, job),
        members=read[0].models,
        queries=len(written),
        metrics=metrics,
        seconds=round(time.perf_counter() - start, 2),
        made_from=job.made_from,
    )
    store.write_file_artifact(job.output, written, manifest)
    return (
        f"{job.output}: {len(by_folds.scores)} queries ranked by models that never trained on them (ensemble "
        f"{MAIN_METRIC} {metrics[MAIN_METRIC]:.4f}), {len(others)} by models that did"
    )


def _check_folds(read: list[CandidateFolder]) -> None:
    """Refuse folds that cannot teach each other."""
    if len(read) < 2:
        raise UserError("a teacher needs two folds or more: the ensemble that scores a fold is fitted on the others")
    for number, fold in enumerate(read):
        if not fold.data.validation:
            raise UserError(f"{fold.folder}: its queries have no labels to learn from")
        if fold.models != read[0].models:
            raise UserError(
                f"{fold.folder}: fuses other models than {read[0].folder}; make both with the same rounds of one recipe"
            )
        for earlier in read[:number]:
            if shared := lineage.overlap(earlier.data.questions["validation"], fold.data.questions["validation"]):
                raise Refused(
                    f"{earlier.folder} and {fold.folder}: share {len(shared)} validation questions, so the ensemble "
                    "would have learned the labels that it scores; name folds of one SEED only"
                )


def _check_siblings(job: TeacherJob) -> None:
    """Refuse rows of no fold whose siblings are others than those of the folds' queries."""
    has_all = folds.check_siblings(job.folds)
    if job.scores_others and has_all != (job.raw is not None):
        way_out = "name the raw data of the folds: --raw_dir" if has_all else "leave out --raw_dir"
        raise UserError(
            f"{job.folds[0]}: wrong answers without a label are {'' if has_all else 'no '}siblings of its queries, and "
            f"must be{'' if has_all else ' none'} of the other rows'; {way_out}"
        )


def _check_data(read: list[CandidateFolder], rows: list[dict], job: TeacherJob) -> None:
    """Refuse folds of other data than the rows: a query that is none of them, or another corpus."""
    way_out = "make both from the same data"
    for fold in read:
        if missing := set(fold.table.queries) - {row["query_id"] for row in rows}:
            raise UserError(f"{job.data.folder}: has no training row {min(missing)}, which a fold ranked; {way_out}")
        if dict(fold.data.passages) != dict(job.data.passages):
            raise UserError(f"{fold.folder}: ranked other passages than those of {job.data.folder}; {way_out}")


def _score_folds(read: list[CandidateFolder], ensemble: list[fusion.View], count: int) -> _FoldScores:
    """Score each fold's candidates by an ensemble that was fitted on the other folds."""
    scores: Scores = {}
    metrics: dict[str, list[np.ndarray]] = {name: [] for name in HEADLINE_METRICS}
    estimate = Estimate("score the folds", "networks")
    networks = Counter(estimate.update, len(read) * fusion.SEEDS * len(ensemble))
    scored = fusion.score_out_of_fold([fold.table for fold in read], ensemble, networks)
    for fold, probabilities in zip(read, scored, strict=True):
        run = fold.table.to_run(probabilities)
        for name, values in per_query(run, fold.data.qrels, HEADLINE_METRICS).items():
            metrics[name].append(values)
        scores |= best_candidates(fold.table, probabilities, count)
    return _FoldScores(scores, {name: np.concatenate(values) for name, values in metrics.items()})


def _score_others(
    job: TeacherJob, read: list[CandidateFolder], ensemble: list[fusion.View], others: list[dict], rows: list[dict]
) -> Scores:
    """Score the rows of no fold and the outside ones by the ensemble of all folds."""
    blocks = divide(rows, {row["query_id"] for row in others}, len(job.data.passages))
    if not (blocks and job.scores_others):
        return {}
    parts = stage.query_parts(collection.query_metadata(row) for row in rows)
    fused = stage.fused_checkpoints(job.checkpoints, parts)
    names = [model.name for model in fused]
    if names != read[0].models:
        raise UserError(
            f"{read[0].folder}: fuses {', '.join(read[0].models)}, not {', '.join(names)}; name the same rounds"
        )
    fitted = fusion.fit([fold.table for fold in read], ensemble)
    scores: Scores = {}
    estimate = Estimate("score the other training rows", "blocks")
    done = Counter(estimate.update, len(blocks))
    for table in compute_training_candidates(fused, job.data, rows, blocks, job.model_output, job.unranked_siblings):
        scores |= best_candidates(table, fitted.score(table), job.settings.candidates)
        done.add(1)
    return scores


def divide(rows: list[dict], chosen: set[str], corpus_size: int) -> list[list[int]]:
    """Divide chosen rows into blocks that are ranked without their own labels, the outside rows apart.

    The rows of a question are in one block, so that they do not vote for each other. Questions that vote are spread
    over the blocks, and one that alone votes is in none: nobody would be left to vote for it.

    Args:
        rows: All training rows.
        chosen: Ids of the rows to divide.
        corpus_size: Number of passages.
    """
    blocks: list[list[int]] = []
    for is_outside in (False, True):
        side = [row for row in rows if (collection.OUTSIDE in row) == is_outside]
        questions: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            if (collection.OUTSIDE in row) == is_outside and row["query_id"] in chosen:
                questions.setdefault(str(row["question_id"]), []).append(number)
        voters = {str(row["question_id"]) for row in side if collection.SILENT not in row}
        if len(voters) == 1:
            questions.pop(*voters, None)
        if not questions:
            continue
        total = sum(map(len, questions.values()))
        most = max(1, min(MOST_ROWS, MAX_PAIRS // corpus_size))
        count = min(max(BLOCKS, math.ceil(total / most)), len(questions))
        divided: list[list[int]] = [[] for _ in range(count)]
        for place, question in enumerate(sorted(questions, key=lambda question: question not in voters)):
            divided[place % count] += questions[question]
        blocks += [sorted(block) for block in divided]
    return blocks


def best_candidates(table: Candidates, probabilities: np.ndarray, count: int) -> Scores:
    """Return the logarithms of each query's `count` greatest probabilities, and of those of its relevant passages.

    Args:
        table: The candidates.
        probabilities: (pairs,).
        count: Passages to keep.
    """
    logarithms = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    scores: Scores = {query: {} for query in table.queries}
    for pair in np.lexsort((-probabilities, table.query_rows)):
        of_query = scores[table.queries[table.query_rows[pair]]]
        if len(of_query) < count or table.relevant[pair]:
            of_query[table.passage_ids[pair]] = round(float(logarithms[pair]), 6)
    return scores


def _teacher_row(row: dict, scores: dict[str, float], data: Collection) -> dict:
    """Return a training row with its candidates; a label that is no candidate is `unscored`, with a score of null."""
    labels = {normalize_text(text) for text in row["pos"]}
    texts = {passage: data.passages[passage] for passage in scores}
    negatives: dict[str, str] = {}  # text -> passage, so that copies of a text count once, by the best score
    for passage, text in texts.items():
        if normalize_text(text) not in labels:
            negatives.setdefault(normalize_text(text), passage)
    ids = list(negatives.values())
    unscored = [text for text, passage in zip(row["pos"], row["pos_id"], strict=True) if passage not in scores]
    return row | {
        **({"unscored": unscored} if unscored else {}),
        "pos_scores": [scores.get(passage) for passage in row["pos_id"]],
        "neg": [texts[passage] for passage in ids],
        "neg_id": ids,
        "neg_scores": [scores[passage] for passage in ids],
    }


def _lineage(read: list[CandidateFolder], job: TeacherJob) -> dict[str, str] | None:
    """Return the questions that any model behind the scores was trained on; None if they are unknown."""
    known: list[dict[str, str] | None] = [source.lineage for source in job.checkpoints]
    for fold in read:
        known.append(fold.data.questions["validation"])
        rows: Iterator[dict] = iter(collection.read_rows(fold.data.folder / collection.FINETUNE, ("pos",)))
        known += [{str(row["question_id"]): str(row["question_digest"])} for row in rows]
    return lineage.union(*known)
