"""Fine-tuning stage: check lineage and shapes, train one round, report its epochs."""

import dataclasses
import os
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.artifacts import hashing, store
from rounds.artifacts.store import file_manifest
from rounds.config.recipe import Recipe
from rounds.data import collection, lineage
from rounds.data.collection import Collection
from rounds.errors import UserError
from rounds.evaluation.metrics import HEADLINE_METRICS
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.training.plan import Plan
from rounds.training.trainer import finetune


def finetune_round(
    start: Checkpoint, recipe: Recipe, train_data: Path, output: Path, *, validation: Collection | None,
    round_number: int, seed: int, processes: int, tracker: str, allow_leak: bool, overwrite: bool, model_output: Path,
) -> str:  # fmt: skip
    """Train one round; returns the lines to print.

    Args:
        start: the previous round's checkpoint, or the base model.
        validation: evaluates each epoch on its validation queries (where it has any).
    """
    recipe = _on_top_of(start, recipe)
    _check_continued(start, recipe)
    trained = _trained_questions(train_data, start)
    status = lineage.CLEAN
    if validation is not None and validation.validation:
        status = lineage.guard(str(train_data), trained, validation.questions["validation"], allow_leak)
    config = {
        "recipe": recipe.to_dict(),
        "start": start.key,
        "train_data": hashing.sha256_file(train_data),
        "validation": validation and collection.validation_digest(validation),
        "round": round_number,
        "seed": seed,
        "processes": processes,
    }
    if store.is_finished(output, config, overwrite):
        return f"{output}: up to date"
    about = {
        "round": round_number,
        "data": validation.data if validation else None,
        "split": validation.split if validation else None,
        "parent": {
            "name": os.path.relpath(start.folder, output.parent) if start.folder else start.name,
            "weights": start.weights_digest,
            "base": start.is_base,
            "kind": start.kind,
        },
        "lineage_status": status,
        "lineage": trained,
    }
    plan = Plan(start, recipe, train_data, output, config, about, seed, tracker, model_output / "base")
    evaluate = None
    if validation is not None and validation.validation:

        def evaluate(embedder: SentenceTransformer, folder: Path) -> dict:
            source = checkpoint.resolve(str(folder), device=start.device)
            return evaluate_checkpoint(source, validation, model_output, allow_leak, embedder).metrics

    manifest = finetune(plan, evaluate)
    return _finetune_lines(output, manifest)


def _finetune_lines(output: Path, manifest: dict) -> str:
    lines = []
    for label in ("last", "best"):
        folder = manifest[label]
        metrics = next(each["metrics"] for each in manifest["epochs"] if each["folder"] == folder)
        scores = "  ".join(f"{name} {metrics[name]:.4f}" for name in HEADLINE_METRICS if name in metrics)
        if scores or label == "last":
            lines.append(f"{output / folder}  ({label} epoch)  {scores}".rstrip())
    return "\n".join([*lines, f"{output}: {manifest['seconds']:.0f} s of training"])


def _on_top_of(start: Checkpoint, recipe: Recipe) -> Recipe:
    """An adapter over a whole checkpoint takes that checkpoint as its base model."""
    if recipe.tuning.method != "full" and not start.is_adapter and start.folder is not None:
        model = dataclasses.replace(recipe.model, name_or_path=str(start.folder.resolve()), sha256=None, revision=None)
        return dataclasses.replace(recipe, model=model)
    return dataclasses.replace(recipe, model=start.recipe.model)


def _check_continued(start: Checkpoint, recipe: Recipe) -> None:
    """An adapter goes on as it is: another rank or other targets need a new one."""
    if start.is_adapter and start.manifest is not None and recipe.tuning.method != "full":
        shapes = [start.manifest["recipe"]["tuning"], dataclasses.asdict(recipe.tuning)]
        changed = store.differences(*({**shape, "init_from": None} for shape in shapes), "tuning.")
        if changed:
            raise UserError(
                f"{start.name}: {'; '.join(changed)}; keep the adapter's shape or set training.start_from: base"
            )


def _trained_questions(train_data: Path, start: Checkpoint) -> dict[str, str] | None:
    """The union of the start's lineage, the miner's and the rows' own questions; None where one is unknown."""
    parts = [start.lineage]
    for row in collection.read_rows(train_data, ("pos", "neg")):
        known = "question_id" in row and "question_digest" in row
        parts.append({str(row["question_id"]): str(row["question_digest"])} if known else None)
    if file_manifest(train_data).is_file():
        parts.append(store.read_json(file_manifest(train_data)).get("lineage"))
    return lineage.union(*parts)
