"""Folds: read the candidates of a cross-validation fold, with the scores and costs of the rounds that led to them."""

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rounds.artifacts import hashing, store
from rounds.artifacts.second_stage_manifests import CandidatesManifest, RerankerManifest
from rounds.data import collection, lineage
from rounds.data.collection import Collection
from rounds.data.few_shot import QueryMetadata
from rounds.data.source import MINED
from rounds.errors import Refused, UserError
from rounds.evaluation import results
from rounds.evaluation.metrics import HEADLINE_METRICS
from rounds.reranking.candidates import FILE, Candidates, read_candidates

SCORES = "scores.npy"  # a reranker's scores of the candidates

RERANKER = "reranker"  # feature group of these scores

SIBLINGS = "siblings"  # key of the candidates' config where wrong answers without a label are siblings too


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
        seeds: Number of seeds that each round was trained with; `round_scores` are means over them.
    """

    data: Collection
    round_scores: dict[str, dict[str, np.ndarray]]
    costs: dict[str, Cost]
    table: Candidates
    models: list[str]
    seeds: int = 1


def require_distinct(folders: list[Path]) -> None:
    """Refuse folders of which one is named twice, whatever the spelling of its path: its queries would count double.

    Raises:
        UserError: The message names the folder.
    """
    for number, folder in enumerate(folders):
        if folder.resolve() in [earlier.resolve() for earlier in folders[:number]]:
            raise UserError(f"{folder}: this fold is named twice; name each once")


def require_disjoint(collections: list[Collection]) -> None:
    """Refuse folds with a question in common, also one fold that is named twice.

    Raises:
        Refused: The message names both folds.
    """
    for one, other in itertools.combinations(collections, 2):
        if shared := lineage.overlap(one.questions["validation"], other.questions["validation"]):
            raise Refused(
                f"{one.folder} and {other.folder}: share {len(shared)} validation questions, so the fusion would learn "
                "from the labels that it is tested on; name each fold once, and folds of one SEED only"
            )


def read_candidates_manifest(folder: Path) -> CandidatesManifest:
    """Read the manifest of a folder of candidates.

    Raises:
        UserError: The folder holds no candidates.
    """
    manifest = store.read_manifest(folder)
    if not isinstance(manifest, CandidatesManifest):
        raise UserError(f"{folder}: no candidates there; make them with candidates.py")
    return manifest


def read_collection(folder: Path, manifest: CandidatesManifest) -> Collection:
    """Read the collection of a folder of candidates.

    Raises:
        UserError: There is no collection, or it has other queries, labels or passages than the candidates.
    """
    place = Path(os.path.normpath(folder / manifest.collection))  # before links are followed, as paths are written
    data = collection.read(place if place.is_dir() else folder / manifest.collection)
    ranked = queries_digest({query: data.metadata[query] for query in data.validation or data.test})
    today = {"relevant": data.validation_digest, "queries": ranked}
    if any(manifest.config.get(name, digest) != digest for name, digest in today.items()):
        raise UserError(
            f"{folder}: its candidates are of other queries, labels or passages than {data.folder} has now; remove "
            "that folder and make them again"
        )
    return data


def queries_digest(queries: Mapping[str, QueryMetadata]) -> str:
    """Return the digest of the queries that candidates were made for, their texts and order."""
    return hashing.sha256_json([[query, metadata.text] for query, metadata in queries.items()])


def check_siblings(folders: list[Path]) -> bool:
    """Refuse folds of which only some have wrong answers without a label as siblings; return whether all have.

    Raises:
        UserError: The message names a fold of either kind.
    """
    kinds = [SIBLINGS in read_candidates_manifest(folder).config for folder in folders]
    if len(set(kinds)) > 1:
        raise UserError(
            f"{folders[kinds.index(False)]}: siblings of its queries are wrong answers with a label alone, unlike "
            f"those of {folders[kinds.index(True)]}; make both with candidates.py --raw_dir, or both without"
        )
    return any(kinds)


def count_seeds(manifest: CandidatesManifest) -> int:
    """Return the number of seeds that each round was trained with."""
    return len(manifest.rounds or [""])


def read_reranker_manifest(folder: Path) -> RerankerManifest:
    """Read the manifest of a reranker's folder.

    Raises:
        UserError: The folder holds no reranker.
    """
    manifest = store.read_manifest(folder)
    if not isinstance(manifest, RerankerManifest):
        raise UserError(f"{folder}: no reranker there; make it with rerank.py")
    return manifest


def read_reranked(folder: Path, reranker: Path) -> tuple[Candidates, Cost]:
    """Read a folder's candidates with a reranker's scores of them as features, and what the reranker cost.

    Raises:
        UserError: There is no reranker, or it scored other candidates.
    """
    manifest = read_reranker_manifest(reranker)
    if manifest.config["table"] != hashing.sha256_file(folder / FILE):
        raise UserError(f"{reranker}: scored other candidates than {folder} holds now; run rerank.py again")
    table = read_candidates(folder / FILE).with_scores(RERANKER, np.load(reranker / SCORES))
    return table, Cost(manifest.seconds / 60, manifest.peak_mib)


def read_fold(folder: Path, reranker: Path | None = None) -> Fold:
    """Read a fold from its folder of candidates, which stands in the folder of the round that it improves.

    Scores of several training seeds are means over these, query by query, and their minutes add up.

    Args:
        folder: The candidates.
        reranker: Folder of a reranker that scored them; None for none.

    Raises:
        UserError: A round was evaluated on other queries than the candidates', the collection has changed, or the
            reranker scored other candidates.
    """
    manifest = read_candidates_manifest(folder)
    data = read_collection(folder, manifest)
    table, reranking = (read_candidates(folder / FILE), None) if reranker is None else read_reranked(folder, reranker)
    seeds = [folder / round_folder for round_folder in manifest.rounds or [".."]]
    scores, costs = _mean_of_seeds([_read_rounds(seed, data, table.queries) for seed in seeds])
    if reranking is not None:
        costs["rerank"] = reranking
    if table.queries != list(data.validation):
        raise UserError(f"{folder}: has other queries than {data.folder}; run the fold again")
    return Fold(data, scores, costs, table, manifest.members, count_seeds(manifest))


def _mean_of_seeds(
    seeds: list[tuple[dict[str, dict[str, np.ndarray]], dict[str, Cost]]],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Cost]]:
    """Return the scores and costs of the rounds of several seeds as those of one."""
    (scores, costs), *_ = seeds
    peaks = {name: [each[name].peak_mib for _, each in seeds if each[name].peak_mib is not None] for name in costs}
    return (
        {
            label: {name: np.mean([each[label][name] for each, _ in seeds], axis=0) for name in by_metric}
            for label, by_metric in scores.items()
        },
        {
            label: Cost(sum(each[label].minutes for _, each in seeds), max(peaks[label], default=None))
            for label in costs
        },
    )


def _read_rounds(
    last_round: Path, data: Collection, queries: list[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Cost]]:
    """Read scores and costs of all rounds up to the last, whose folder is given, keyed by row label.

    Raises:
        UserError: The folder is not called `roundN`, or a round was evaluated on other queries or labels.
    """
    scores: dict[str, dict[str, np.ndarray]] = {}
    costs: dict[str, Cost] = {}
    place = Path(os.path.normpath(last_round))
    if not (name := re.fullmatch(r"round(\d+)", place.name)):
        raise UserError(
            f"{place}: candidates lie in the folder of the round that they improve, such as round2/candidates, beside "
            "the rounds before; make them there (candidates.py --output_dir)"
        )
    for round_folder in [place.with_name(f"round{number}") for number in range(int(name[1]) + 1)]:
        for row in results.load(round_folder / "eval"):
            label = row.short_name
            if not row.in_chain or label in scores:
                continue
            if row.queries != queries or row.labels not in ("", data.labels_digest):
                raise UserError(
                    f"{round_folder}: evaluated on other queries or labels than its candidates; run the fold again"
                )
            scores[label] = {name: row.scores[name] for name in HEADLINE_METRICS}
            costs[label] = _round_cost(round_folder)
    return scores, costs


def _round_cost(folder: Path) -> Cost:
    """Add up the time of a round's stages, and take the most memory that one of them held."""
    manifests = [store.read_manifest(folder / name) for name in ("train", "eval")]
    manifests.append(store.read_file_manifest(folder / MINED))
    present = [manifest for manifest in manifests if manifest]
    peaks = [manifest.peak_mib for manifest in present if manifest.peak_mib is not None]
    return Cost(sum(manifest.seconds for manifest in present) / 60, max(peaks, default=None))
