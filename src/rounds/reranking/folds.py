"""Folds: read the candidates of a cross-validation fold, with the scores and costs of the rounds that led to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import CandidatesManifest
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.errors import UserError
from rounds.evaluation import results
from rounds.evaluation.metrics import HEADLINE_METRICS
from rounds.reranking.candidates import FILE, Candidates, read_candidates

SCORES = "scores.npy"  # a reranker's scores of the candidates in the folder beside it

RERANKER = "reranker"  # feature group of these scores


class Cost(NamedTuple):
    """Minutes of work, and the most memory held at once, None where it was not measured."""

    minutes: float
    peak_mib: float | None


@dataclass(frozen=True)
class Fold:
    """One fold's rounds and candidates.

    Attributes:
        data: The fold's collection.
        round_scores: Row label -> metric -> (queries,) MAP@25 and Recall@25, in the order of the validation queries.
        costs: Row label -> cost, where it is known.
        table: Candidates of the validation queries.
        models: Names of the fused models (feature groups); the ranking of the last is the one to improve.
    """

    data: Collection
    round_scores: dict[str, dict[str, np.ndarray]]
    costs: dict[str, Cost]
    table: Candidates
    models: list[str]


def require_distinct(folders: list[Path]) -> None:
    """Refuse folders of which one is named twice, whatever the spelling of its path: its queries would count double.

    Raises:
        UserError: The message names the folder.
    """
    for number, folder in enumerate(folders):
        if folder.resolve() in [earlier.resolve() for earlier in folders[:number]]:
            raise UserError(f"{folder}: this fold is named twice; name each once")


def read_candidates_manifest(folder: Path) -> CandidatesManifest:
    """Read the manifest of a folder of candidates.

    Raises:
        UserError: The folder holds no candidates.
    """
    manifest = store.read_manifest(folder)
    if not isinstance(manifest, CandidatesManifest):
        raise UserError(f"{folder}: no candidates there; make them with candidates.py")
    return manifest


def read_scored_candidates(folder: Path) -> Candidates:
    """Read a folder's candidates, with a reranker's scores as features where `rerank/` stands beside the folder.

    Raises:
        UserError: The reranker scored other candidates.
    """
    table, rerank_folder = read_candidates(folder / FILE), folder.with_name("rerank")
    manifest = store.read_manifest(rerank_folder)
    if manifest is None:
        return table
    if manifest.config["table"] != hashing.sha256_file(folder / FILE):
        raise UserError(f"{rerank_folder}: scored other candidates than {folder} holds now; run rerank.py again")
    return table.with_scores(RERANKER, np.load(rerank_folder / SCORES))


def read_fold(folder: Path) -> Fold:
    """Read a fold from its folder of candidates, which stands in the folder of the round that it improves.

    Raises:
        UserError: A round was evaluated on other queries than the candidates', or the collection has changed.
    """
    manifest = read_candidates_manifest(folder)
    data = collection.read(folder / manifest.collection)
    table = read_scored_candidates(folder)
    scores, costs = _read_rounds(folder, table.queries)
    if (reranked := store.read_manifest(folder.with_name("rerank"))) is not None:
        costs["rerank"] = Cost(reranked.seconds / 60, reranked.peak_mib)
    if table.queries != list(data.validation):
        raise UserError(f"{folder}: has other queries than {data.folder}; run the fold again")
    return Fold(data, scores, costs, table, manifest.members)


def _read_rounds(folder: Path, queries: list[str]) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Cost]]:
    """Read scores and costs of all rounds up to the one whose folder holds the candidates, keyed by row label."""
    scores: dict[str, dict[str, np.ndarray]] = {}
    costs: dict[str, Cost] = {}
    last = int(folder.parent.name.removeprefix("round"))
    for round_folder in [folder.parent.with_name(f"round{number}") for number in range(last + 1)]:
        for row in results.load(round_folder / "eval"):
            label = row.short_name
            if not row.in_chain or label in scores:
                continue
            if row.queries != queries:
                raise UserError(f"{round_folder}: evaluated on other queries than {folder}; run the fold again")
            scores[label] = {name: row.scores[name] for name in HEADLINE_METRICS}
            costs[label] = _round_cost(round_folder)
    return scores, costs


def _round_cost(folder: Path) -> Cost:
    """Add up the time of a round's stages, and take the most memory that one of them held."""
    manifests = [store.read_manifest(folder / name) for name in ("train", "eval")]
    manifests.append(store.read_file_manifest(folder / "finetune_data_minedHN.jsonl"))
    present = [manifest for manifest in manifests if manifest]
    peaks = [manifest.peak_mib for manifest in present if manifest.peak_mib is not None]
    return Cost(sum(manifest.seconds for manifest in present) / 60, max(peaks, default=None))
