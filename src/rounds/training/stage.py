"""Fine-tuning stage: check lineage and adapter shape, train one round, report its epochs."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import FinetuneManifest, MinedManifest, Parent
from rounds.artifacts.second_stage_manifests import TeacherManifest
from rounds.config.recipe import Recipe
from rounds.data import collection, lineage
from rounds.data.collection import Collection
from rounds.errors import UserError
from rounds.evaluation.metrics import HEADLINE_METRICS
from rounds.evaluation.stage import evaluate_checkpoint
from rounds.models import checkpoint
from rounds.models.checkpoint import Checkpoint
from rounds.training.plan import Evaluate, Plan, RoundOrigin
from rounds.training.trainer import finetune


@dataclass(frozen=True)
class FinetuneJob:
    """A round to train, and how.

    Attributes:
        start: the previous round's checkpoint, or the base model.
        recipe: how to train; model and prompts of `start` replace its own.
        train_data: mined JSONL (`query`, `pos`, `neg`).
        output: folder for the epochs' checkpoints.
        model_output: folder under which base models keep their runs and image features.
        seed: of the weights, the order of the rows and the drawn negatives.
        round_number: counted from 1; the checkpoints' manifests record it.
        validation: collection whose validation queries, if it has any, evaluate each epoch; None trains without.
        processes: number of processes that train together; the manifest records it.
        tracker: `none`, `wandb`, `trackio` or `tensorboard`.
        allow_leak: train although the data contain validation questions.
        overwrite: replace an output folder that was trained in another way.
        made_from: what the pipeline makes the folder from, which then decides whether it is kept; None without one.
        title: name in tables of a checkpoint that is no round's; empty for a round's.
    """

    start: Checkpoint
    recipe: Recipe
    train_data: Path
    output: Path
    model_output: Path
    seed: int
    round_number: int = 1
    validation: Collection | None = None
    processes: int = 1
    tracker: str = "none"
    allow_leak: bool = False
    overwrite: bool = False
    made_from: dict | None = None
    title: str = ""

    @property
    def can_evaluate(self) -> bool:
        """Return whether there are validation queries to evaluate each epoch on."""
        return self.validation is not None and bool(self.validation.validation)

    def config(self) -> dict:
        """Return everything that shapes the checkpoints, for their manifest."""
        return {
            "recipe": self.recipe.to_dict(),
            "start": self.start.key,
            "train_data": hashing.sha256_file(self.train_data),
            "validation": self.validation and self.validation.validation_digest,
            "round": self.round_number,
            "seed": self.seed,
            "processes": self.processes,
        }


def finetune_round(job: FinetuneJob) -> str:
    """Train one round and return the lines to print.

    Raises:
        UserError: training data that contain validation questions, an adapter of another shape, a broken data file, or
            an output folder of another configuration.
    """
    job = dataclasses.replace(job, recipe=_recipe_for_start(job.start, job.recipe))
    job.recipe.require_epochs()
    _check_adapter_shape(job.start, job.recipe)
    questions = _trained_questions(job.train_data, job.start)
    status = lineage.CLEAN
    if job.can_evaluate:
        held_out = job.validation.questions["validation"]
        status = lineage.guard(str(job.train_data), questions, held_out, job.allow_leak)
    config = job.config()
    if store.is_finished(job.output, config, job.overwrite, job.made_from):
        return f"{job.output}: up to date"
    plan = Plan(
        start=job.start,
        recipe=job.recipe,
        data=job.train_data,
        output=job.output,
        config=config,
        origin=_describe_origin(job, status, questions),
        seed=job.seed,
        tracker=job.tracker,
        feature_cache=job.model_output / "base",
        made_from=job.made_from,
    )
    manifest = finetune(plan, _evaluator(job) if job.can_evaluate else None)
    return _describe_epochs(job.output, manifest)


def _describe_origin(job: FinetuneJob, status: str, questions: dict[str, str] | None) -> RoundOrigin:
    """Return which round, data and parent a checkpoint comes from.

    Args:
        status: the lineage's status.
        questions: digests of the questions that the checkpoint was trained on; None if unknown.
    """
    start, validation = job.start, job.validation
    return RoundOrigin(
        round=job.round_number,
        data=validation.data if validation else None,
        split=validation.split if validation else None,
        parent=Parent(
            name=os.path.relpath(start.folder, job.output.parent) if start.folder else start.name,
            weights=start.weights_digest,
            base=start.is_base,
            kind=start.kind,
        ),
        lineage_status=status,
        lineage=questions,
        title=job.title,
    )


def _evaluator(job: FinetuneJob) -> Evaluate:
    """Return a function that evaluates an epoch's checkpoint on the validation queries."""

    def evaluate(embedder: SentenceTransformer, folder: Path) -> dict:
        epoch = checkpoint.resolve(str(folder), device=job.start.device)
        return evaluate_checkpoint(epoch, job.validation, job.model_output, job.allow_leak, embedder).metrics

    return evaluate


def _describe_epochs(output: Path, manifest: FinetuneManifest) -> str:
    """Return the lines to print: the last and the best epoch with their metrics, and the time of training."""
    lines = []
    for label, folder in (("last", manifest.last), ("best", manifest.best)):
        metrics = next(epoch.metrics for epoch in manifest.epochs if epoch.folder == folder)
        scores = "  ".join(f"{name} {metrics[name]:.4f}" for name in HEADLINE_METRICS if name in metrics)
        if scores or label == "last":
            lines.append(f"{output / folder}  ({label} epoch)  {scores}".rstrip())
    return "\n".join([*lines, f"{output}: {manifest.seconds:.0f} s of training"])


def _recipe_for_start(start: Checkpoint, recipe: Recipe) -> Recipe:
    """Return the recipe with the start's model; a new adapter gets a full checkpoint as its base model."""
    if recipe.tuning.method != "full" and not start.is_adapter and start.folder is not None:
        model = dataclasses.replace(recipe.model, name_or_path=str(start.folder.resolve()), sha256=None, revision=None)
        return dataclasses.replace(recipe, model=model)
    return dataclasses.replace(recipe, model=start.recipe.model)


def _check_adapter_shape(start: Checkpoint, recipe: Recipe) -> None:
    """Refuse to continue an adapter with another rank or other targets: its weights would not fit."""
    if start.is_adapter and start.manifest is not None and recipe.tuning.method != "full":
        shapes = [start.manifest.recipe["tuning"], dataclasses.asdict(recipe.tuning)]
        changed = store.differences(*({**shape, "init_from": None} for shape in shapes), "tuning.")
        if changed:
            raise UserError(
                f"{start.name}: {'; '.join(changed)}; keep the adapter's shape or set training.start_from: base"
            )


def _trained_questions(train_data: Path, start: Checkpoint) -> dict[str, str] | None:
    """Return the questions of the start's lineage, the miner's or teacher's, and the training rows.

    None if one is unknown.
    """
    lineages = [start.lineage]
    for row in collection.read_rows(train_data, ("pos", "neg")):
        is_known = "question_id" in row and "question_digest" in row
        lineages.append({str(row["question_id"]): str(row["question_digest"])} if is_known else None)
    if (manifest := store.read_file_manifest(train_data)) is not None:
        lineages.append(manifest.lineage if isinstance(manifest, MinedManifest | TeacherManifest) else None)
    return lineage.union(*lineages)
