"""Trainer: fine-tune one round with sentence-transformers' Trainer, and write a checkpoint folder for each epoch."""

import os
import shutil
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import PrinterCallback, set_seed

from rounds.artifacts import store
from rounds.artifacts.manifests import FinetuneManifest
from rounds.config.recipe import Recipe, Tuning
from rounds.data.prompts import max_input_length
from rounds.encoding import prefix_cache
from rounds.errors import UserError, install_command
from rounds.models import backbone, dual_encoder, peft_methods, vision_tower, weights_io
from rounds.models.checkpoint import Checkpoint
from rounds.models.precision import compute_dtype
from rounds.models.weights import hub_revision, locate_model
from rounds.training import partial_folder, sharding
from rounds.training.batch_sampler import BatchSampler
from rounds.training.callbacks import EpochCheckpointCallback, FlopsRamp, StepEstimate
from rounds.training.collator import Collator
from rounds.training.dataset import TrainingGroups, read_training_groups, row_dataset
from rounds.training.epoch_rows import EpochRows
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.plan import STATE, Evaluate, Plan
from rounds.training.progress import PROGRESS_FILE


def finetune(plan: Plan, evaluate: Evaluate | None) -> FinetuneManifest:
    """Train all epochs and put the finished folder in place; resume an earlier call that was killed.

    Args:
        evaluate: called with the model and the epoch's checkpoint folder after each epoch; returns its metrics. None
            for a split without validation.

    Returns:
        The manifest of the output folder.

    Raises:
        UserError: a loss that is not a finite number, weights that did not move, unusable data, or settings that do not
            go together.
    """
    _check_process_count(plan.recipe)
    groups = read_training_groups(plan.data, plan.seed, plan.recipe)
    partial = plan.output.with_name(f"{plan.output.name}.partial")
    if store.is_main_process():
        partial_folder.prepare(partial, plan.config)
    set_seed(plan.seed)
    embedder = _load_trainable(plan)
    callback = EpochCheckpointCallback(plan, partial, embedder, evaluate)
    trainer = _make_trainer(plan, partial, embedder, groups, callback)
    sharding.wait_for_all_processes()
    callback.earlier = None if sharding.is_on() else partial_folder.find_last_state(partial / STATE)
    trainer.train(resume_from_checkpoint=callback.earlier.folder if callback.earlier else None)
    manifest = _make_manifest(plan, callback, groups, trainer)
    if store.is_main_process():
        store.write_manifest(partial / store.MANIFEST, manifest)
        store.put_in_place(partial, plan.output)  # before what a killed call would go on with is removed
        (plan.output / partial_folder.CONFIG).unlink()
        (plan.output / PROGRESS_FILE).unlink(missing_ok=True)
        shutil.rmtree(plan.output / STATE, ignore_errors=True)
    sharding.wait_for_all_processes()
    return manifest


def _make_manifest(
    plan: Plan, callback: EpochCheckpointCallback, groups: TrainingGroups, trainer: SentenceTransformerTrainer
) -> FinetuneManifest:
    """Return the manifest of the output folder; without evaluation, the last epoch counts as the best."""
    history = callback.history()
    last = history[-1]
    best = max(history, key=lambda epoch: epoch.metrics.get("MAP@25", 0.0)) if last.metrics else last
    continued = {"last": last, "best": best}[plan.recipe.training.continue_with]
    return FinetuneManifest(
        config=plan.config,
        **plan.origin.entries(),
        epochs=history,
        last=last.folder,
        best=best.folder,
        continue_with=continued.folder,
        rows=len(groups.queries),
        trainable_parameters=sum(p.numel() for p in peft_methods.trainable_parameters(trainer.model).values()),
        device=str(trainer.args.device),
        seconds=callback.seconds(),
        peak_mib=callback.peak_mib(),
        made_from=plan.made_from,
    )


class _Trainer(SentenceTransformerTrainer):
    """Save and restore the Trainer's states in our own format of weights, which checks their names.

    Attributes:
        tuning: the recipe's tuning method, which decides which weights are saved.
    """

    tuning: Tuning

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """Write no model card: it would sample the dataset for widget examples."""

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        os.makedirs(output_dir, exist_ok=True)
        weights_io.save_weights(self.model, Path(output_dir), self.tuning)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        weights_io.load_weights(self.model, Path(checkpoint_path), self.tuning)


def _make_trainer(
    plan: Plan, partial: Path, embedder: SentenceTransformer, groups: TrainingGroups, callback: EpochCheckpointCallback
) -> SentenceTransformerTrainer:
    """Return the trainer, connected with the callback and its collator.

    Raises:
        UserError: the tracker is not installed or cannot be reached.
    """
    callback.collator = Collator(groups, embedder, plan.recipe, plan.seed, _can_share_prefixes(plan.recipe, embedder))
    epochs = plan.recipe.training.epochs
    rows = EpochRows(groups.is_outside, plan.recipe.outside, plan.seed, plan.origin.round, epochs)
    arguments = _training_arguments(plan, partial, rows, dual_encoder.is_dual(embedder))
    os.environ.setdefault("WANDB_PROJECT", "rounds")
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(plan.output.with_name(f"{plan.output.name}-tensorboard")))
    os.environ.setdefault("TRACKIO_PROJECT", "rounds")
    training = plan.recipe.training
    title = f"train on {len(rows):,} queries"
    loss = EmbeddingLoss(embedder, training, plan.start.precision, plan.recipe.normalizes)
    try:
        trainer = _Trainer(
            model=embedder,
            args=arguments,
            train_dataset=row_dataset(groups),
            loss=loss,
            data_collator=callback.collator,
            callbacks=[callback, FlopsRamp(loss), StepEstimate(title, training.compile)],
        )
    except (RuntimeError, ImportError, ValueError) as error:
        if plan.tracker == "none":
            raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"track {plan.tracker}: {reason}; install the trackers with {install_command('track')}"
        ) from None
    callback.trainer, trainer.tuning = trainer, plan.recipe.tuning
    trainer.remove_callback(PrinterCallback)  # the callback shows a progress bar and a line per epoch instead
    return trainer


def _training_arguments(
    plan: Plan, partial: Path, rows: EpochRows, has_sides: bool
) -> SentenceTransformerTrainingArguments:
    """Return the Trainer's arguments.

    Args:
        partial: the unfinished output folder.
        rows: the rows of each epoch.
        has_sides: the model is a dual encoder.
    """
    training, device = plan.recipe.training, plan.start.device
    processes = sharding.process_count()
    dtype = compute_dtype(plan.start.precision, device)
    steps = -(-len(rows) // training.batch_size) * training.epochs // training.gradient_accumulation_steps
    return SentenceTransformerTrainingArguments(
        output_dir=str(partial / STATE),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size // processes,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        warmup_steps=int(training.warmup_ratio * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        batch_sampler=lambda _, batch_size, seed=0, **__: BatchSampler(len(rows), batch_size, processes, seed, rows.of),
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=device == "cpu",
        ddp_backend="gloo" if processes > 1 and device == "cpu" else None,
        save_strategy="no" if sharding.is_on() else "epoch",
        save_total_limit=2,
        logging_steps=10,  # the callback logs each epoch's last step as well
        logging_nan_inf_filter=False,
        seed=plan.seed,
        report_to=plan.tracker,
        run_name=str(plan.output),
        dataloader_pin_memory=device != "cpu",
        remove_unused_columns=False,
        disable_tqdm=True,
        # A dual encoder's Trainer wants a mapping, but the collator says to which side a text belongs.
        router_mapping={"row": "query"} if has_sides else {},
    )


def _can_share_prefixes(recipe: Recipe, embedder: SentenceTransformer) -> bool:
    """Return whether the start that queries share is computed once; a sharded model must be called as a whole."""
    is_wanted = recipe.prompts.share_prefix and not sharding.is_on()
    return is_wanted and prefix_cache.can_share(
        dual_encoder.encoder_for(embedder, "query"), max_input_length(recipe.prompts)
    )


def _load_trainable(plan: Plan) -> SentenceTransformer:
    """Load the start with the recipe's tuning method applied; continue an adapter rather than add a second one.

    Raises:
        UserError: full fine-tuning cannot continue an adapter.
    """
    method, start = plan.recipe.tuning.method, plan.start
    if start.is_adapter and method == "full":
        raise UserError(
            f"{start.name}: is an adapter, which tuning.method full cannot continue; "
            f"use {start.recipe.tuning.method}, or set training.start_from: base"
        )
    if start.is_adapter:
        embedder = _load_with_adapter(start, start.folder)
        if start.is_dual_encoder:
            encoders = {kind: _load_with_adapter(start, start.folder / kind) for kind in dual_encoder.KINDS}
            dual_encoder.set_encoders(embedder, encoders)
    else:
        embedder, base = start.load(), locate_model(start.recipe.model)
        peft_methods.apply(embedder, plan.recipe.tuning, base, hub_revision(base, start.recipe.model))
    peft_methods.leave_casts_to_autocast(embedder, start.precision)
    if plan.feature_cache:
        vision_tower.set_feature_cache(embedder, plan.feature_cache)
    if plan.recipe.training.compile:
        dual_encoder.apply_to_each(embedder, lambda encoder, _: encoder[0].model.compile(dynamic=True))
    return embedder.train()


def _load_with_adapter(start: Checkpoint, folder: Path) -> SentenceTransformer:
    """Load the base model of an adapter checkpoint, with the trainable adapter of a folder attached.

    A dual encoder's adapters are in its subfolders, so its own folder gives the base model alone.
    """
    embedder = backbone.load(start.recipe, start.precision, start.device)
    if not (start.is_dual_encoder and folder == start.folder):
        weights_io.attach_adapter(embedder, folder, start.tuning, trainable=True)
    return embedder


def _check_process_count(recipe: Recipe) -> None:
    """Raise a `UserError` if the recipe cannot be trained by this number of processes."""
    if recipe.tuning.separate and sharding.process_count() > 1:
        raise UserError("tuning.separate trains in one process; leave NPROC at 1")
    if recipe.training.batch_size % sharding.process_count():
        raise UserError(
            f"batch_size {recipe.training.batch_size} cannot be divided among {sharding.process_count()} processes"
        )
