"""Student table: sizes and times of a distilled embedder, beside those of the ensemble that taught it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rounds.artifacts import hashing, store
from rounds.artifacts.second_stage_manifests import TeacherManifest
from rounds.data import collection
from rounds.data.few_shot import QueryMetadata
from rounds.data.source import MINED
from rounds.encoding.encoder import token_states
from rounds.encoding.encoding_speed import measure_speed
from rounds.errors import UserError
from rounds.evaluation.metrics import MAIN_METRIC
from rounds.evaluation.table import Column, Table
from rounds.models.checkpoint import Checkpoint
from rounds.reranking import folds, stage
from rounds.reranking.candidate_vectors import FusedCheckpoint, compares_tokens
from rounds.reranking.candidates import FILE
from rounds.reranking.features import query_part

HEADER = ("", "checkpoints", "parameters", "MiB", "min", "ms a query", MAIN_METRIC)

CAPTION = (
    "MiB: weights in memory. min: rounds and candidates; of the student, teacher's scores and training, which come on "
    "top. ms a query: encoding {queries} training queries, without the corpus. "
    "MAP@25: of the folds' queries; the student was taught their labels and is scored on questions held out before"
)

CHOICES = {"boosted_trees": "without boosted trees", "outside_votes": "without outside votes"}  # of what is false

BEFORE = {"boosted_trees": False, "outside_votes": True}  # what taught where a teacher's file says nothing of it

QUERIES = 64  # that are encoded to time it

MIB = 2**20


@dataclass(frozen=True)
class Taught:
    """A distilled embedder and what taught it.

    Attributes:
        student: The embedder.
        teacher: JSONL of the ensemble's scores.
        checkpoints: The rounds on all of train, the base model first.
        folds: Folders of candidates, each in its last round's folder.
    """

    student: Checkpoint
    teacher: Path
    checkpoints: list[Checkpoint]
    folds: list[Path]

    def config(self) -> dict:
        """Return the models and the ensemble's scores and folds, for the table's manifest.

        Raises:
            UserError: A file of the teacher's or of the folds' is missing.
        """
        store.require_files(self.teacher, *(folder / FILE for folder in self.folds))
        return {
            "student": self.student.key,
            "teacher": hashing.sha256_file(self.teacher),
            "checkpoints": [source.key for source in self.checkpoints],
            "folds": [hashing.sha256_file(folder / FILE) for folder in self.folds],
        }


@dataclass(frozen=True)
class Cost:
    """What holding some checkpoints and encoding a query with them takes."""

    parameters: int
    mib: float
    milliseconds: float


def build_table(taught: Taught) -> Table:
    """Return the ensemble's row and the student's.

    Raises:
        UserError: The teacher's file has no manifest.
    """
    manifest = store.read_file_manifest(taught.teacher)
    if not isinstance(manifest, TeacherManifest):
        raise UserError(f"{taught.teacher}: no teacher's scores there; make them with teach.py")
    rows = collection.own_rows(collection.read_rows(taught.teacher, ("pos",)))[:QUERIES]
    queries = [collection.query_metadata(row) for row in rows]
    fused = stage.fused_checkpoints(taught.checkpoints, stage.query_parts(queries))
    ensemble, student = measure(fused, queries), measure([FusedCheckpoint(taught.student)], queries, False)
    rounds = [source.folder for source in taught.checkpoints if source.folder]
    minutes = sum(map(_fold_minutes, taught.folds)) + _round_minutes(folder.parents[1] for folder in rounds)
    trained = store.read_manifest(taught.student.folder.parent)
    own_minutes = (manifest.seconds + trained.seconds) / 60
    lines = [
        _line("ensemble", len(taught.checkpoints), ensemble, minutes, f"{manifest.metrics[MAIN_METRIC]:.4f}"),
        _line("distilled", 1, student, own_minutes, ""),
    ]
    choices = [name for key, name in CHOICES.items() if not manifest.config.get(key, BEFORE[key])]
    title = f"{taught.student.recipe.name}, distilled from {', '.join([*manifest.members, *choices])}"
    columns = [Column(HEADER[0], is_text=True), *map(Column, HEADER[1:])]
    return Table(columns, lines, title, CAPTION.format(queries=len(queries)))


def measure(fused: list[FusedCheckpoint], queries: list[QueryMetadata], reads_tokens: bool = True) -> Cost:
    """Load each checkpoint, and time what it makes of queries.

    The base model's weights count once, beside those of adapters on it.

    Args:
        fused: The checkpoints, each with the part of the query that it reads; a base model comes before its adapters.
        queries: The queries to encode.
        reads_tokens: Embed the tokens of queries too, with the checkpoints whose late interaction is a feature.
    """
    sizes, base = np.zeros(2), np.zeros(2)  # parameters and bytes
    seconds = 0.0
    for checkpoint in dict.fromkeys(id(model.checkpoint) for model in fused):
        models = [model for model in fused if id(model.checkpoint) == checkpoint]
        source = models[0].checkpoint
        embedder, prompts = source.load(), source.recipe.prompts
        for model in models:
            texts = [query_part(query, model.part) for query in queries]
            seconds += measure_speed(embedder, texts, prompts, "query", source.precision).seconds
        if reads_tokens and compares_tokens(source):
            start = time.perf_counter()
            token_states(
                embedder, [query.text for query in queries], prompts, "query", source.precision, "query tokens"
            )
            seconds += time.perf_counter() - start
        own = np.sum([(each.numel(), each.numel() * each.element_size()) for each in embedder.parameters()], axis=0)
        sizes += own - base if source.is_adapter else own
        base = own if source.is_base else base
    return Cost(int(sizes[0]), sizes[1] / MIB, 1000 * seconds / len(queries))


def _line(label: str, checkpoints: int, cost: Cost, minutes: float, score: str) -> list[str]:
    figures = [f"{cost.parameters:,}", f"{cost.mib:.1f}", f"{minutes:.1f}", f"{cost.milliseconds:.1f}"]
    return [label, str(checkpoints), *figures, score]


def _fold_minutes(folder: Path) -> float:
    """Return the minutes of a fold's rounds, with their evaluations, and of its candidates."""
    read = folds.read_fold(folder)
    manifest = folds.read_candidates_manifest(folder)
    return sum(read.costs[label].minutes for label in read.costs if label.startswith("round")) + manifest.seconds / 60


def _round_minutes(rounds: Iterable[Path]) -> float:
    """Return the minutes of mining and training of some rounds' folders."""
    manifests = []
    for folder in rounds:
        manifests += [store.read_manifest(folder / "train"), store.read_file_manifest(folder / MINED)]
    return sum(manifest.seconds for manifest in manifests if manifest) / 60
