"""Provenance: which checkpoint each round continued from, and warnings about results that must not be trusted."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import CheckpointManifest, FinetuneManifest, Parent
from rounds.data import lineage
from rounds.evaluation.results import ResultRow


@dataclass(frozen=True)
class CheckpointLineage:
    """The checkpoint that a round hands on to the next one.

    Attributes:
        checkpoint: Its name for readers, e.g. `round 1, epoch 2`.
        folder: Its path within the experiment.
        weights: Hash of its weights.
        parent: The checkpoint that it was trained from: a path within the experiment, or a base model's name.
        parent_weights: Hash of the parent's weights when training began.
        questions: Number of training questions, ancestors' included; None if unknown.
        status: `clean`, or what is wrong with its lineage.
        outside: Source -> number of outside questions among them.
    """

    checkpoint: str
    folder: str
    weights: str
    parent: str
    parent_weights: str
    questions: int | None
    status: str
    outside: dict[str, int] = field(default_factory=dict)


def read_lineages(rounds: dict[int, Path], experiment: Path) -> list[CheckpointLineage]:
    """Read the lineage of each trained round from its manifest."""
    lineages = []
    for number, folder in rounds.items():
        manifest = store.read_manifest(folder / "train")
        if not isinstance(manifest, FinetuneManifest):
            continue
        name, parent = manifest.continue_with, manifest.parent
        checkpoint = store.read_manifest(folder / "train" / name)
        lineages.append(
            CheckpointLineage(
                checkpoint=f"round {number}, {name.replace('_', ' ')}",
                folder=f"{folder.name}/train/{name}",
                weights=checkpoint.weights if isinstance(checkpoint, CheckpointManifest) else "",
                parent=_parent_name(parent, folder, experiment),
                parent_weights=parent.weights,
                questions=None if manifest.lineage is None else len(manifest.lineage),
                status=manifest.lineage_status,
                outside=lineage.outside_sources(manifest.lineage),
            )
        )
    return lineages


def _parent_name(parent: Parent, folder: Path, experiment: Path) -> str:
    """Return a parent's path within the experiment, or a base model's name as the manifest has it."""
    inside = (folder / parent.name).resolve()
    if not parent.base and inside.is_relative_to(experiment.resolve()):
        return inside.relative_to(experiment.resolve()).as_posix()
    return parent.name


def find_changed_parents(lineages: list[CheckpointLineage]) -> list[str]:
    """Return a line for each checkpoint whose parent was trained again since."""
    weights = {checkpoint.folder: checkpoint.weights for checkpoint in lineages}
    return [
        f"{checkpoint.checkpoint}: {checkpoint.parent} has other weights now than those that it continues"
        for checkpoint in lineages
        if weights.get(checkpoint.parent, checkpoint.parent_weights) != checkpoint.parent_weights
    ]


def find_changed_folds(table_file: Path, model_output: Path) -> list[str]:
    """Return a line if a table over folds was made from others than the candidates and rounds on disk.

    Args:
        table_file: JSON file of the table; one that was made by hand does not say from what.
        model_output: Folder of all experiments.
    """
    folds = _as_list((store.read_made_from(table_file) or {}).get("folds"))
    if not folds:
        return []
    candidates = {_digest(place): place for place in model_output.glob("*/round*/**/candidates")}
    rounds = {_digest(place): place for place in model_output.glob("*/round*/train")}
    epochs = {
        hashing.sha256_json([key, epoch.name])[:16] for key, place in rounds.items() for epoch in place.glob("*epoch_*")
    }

    def is_changed(fold: str) -> bool:
        if fold not in candidates:
            return True
        models = _as_list((store.read_made_from(candidates[fold]) or {}).get("model_paths"))
        return not {*rounds, *epochs}.issuperset(models)

    if not (changed := sum(map(is_changed, folds))):
        return []
    what = f"candidates or rounds of {changed} of its {len(folds)} folds"
    return [f"{table_file.stem}: {what} were made anew or removed since; make cv makes the table of today's"]


def _digest(output: Path) -> str:
    """Return the digest by which what is made from a finished artefact records it, as pipeline/keys.py does."""
    if record := store.read_made_from(output):
        return hashing.made_from_digest(record)
    manifest = output / store.MANIFEST  # made by hand
    return hashing.sha256_file(manifest)[:16] if manifest.is_file() else ""


def _as_list(inputs: list[str] | str | None) -> list[str]:
    """Return the digests of a flag's inputs; of one input alone, the record has it without a list."""
    return [inputs] if isinstance(inputs, str) else inputs or []


def collect_warnings(
    rows: list[ResultRow], lineages: list[CheckpointLineage], ledger_rows: list[dict], refused: list[dict]
) -> list[str]:
    """Return what a reader must know before trusting a number, one line each.

    Args:
        rows: The experiment's results.
        lineages: The experiment's checkpoints.
        ledger_rows: The ledger's rows of the same data and split.
        refused: Refusals that name the experiment, as `refusals.read` returns them.
    """
    warnings = [f"{row.label}: {row.lineage}" for row in rows if row.lineage not in (lineage.CLEAN, "")]
    warnings += find_changed_parents(lineages)
    warnings += [
        f"{checkpoint.checkpoint}: {checkpoint.status}" for checkpoint in lineages if checkpoint.status != lineage.CLEAN
    ]
    warnings += [
        f"ledger: {row['recipe']} round {row['round']} ({row['checkpoint']}): {row['lineage']}"
        for row in ledger_rows
        if row["lineage"] not in (lineage.CLEAN, "")
    ]
    warnings += [f"refused, {refusal['when']}, {refusal['stage']}: {refusal['reason']}" for refusal in refused]
    return list(dict.fromkeys(warnings))
