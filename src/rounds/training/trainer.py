"""Training: one round's fine-tuning with sentence-transformers' Trainer, a checkpoint folder per epoch."""

import os
import shutil
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import PrinterCallback, set_seed

from rounds.artifacts import store
from rounds.config.recipe import Recipe, Tuning
from rounds.data.prompts import max_input_length
from rounds.encoding import prefix_cache
from rounds.errors import UserError
from rounds.models import dual_encoder, peft_methods, vision_tower, weights_io
from rounds.models.checkpoint import Checkpoint
from rounds.models.devices import peak_memory
from rounds.models.precision import compute_dtype
from rounds.models.weights import locate_model
from rounds.training import sharding
from rounds.training.batch_sampler import BatchSampler
from rounds.training.callbacks import EpochCheckpointCallback
from rounds.training.collator import Collator
from rounds.training.dataset import TrainingGroups, read_training_groups, row_dataset
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.plan import COMPLETE, STATE, Evaluate, Plan
from rounds.training.progress import PROGRESS_FILE

CONFIG = "config.json"


def finetune(plan: Plan, evaluate: Evaluate | None) -> dict:
    """Train all epochs and put the finished folder in place; resumes where an earlier call was killed.

    Args:
        evaluate: called with the model and the epoch's (temporary) folder after each epoch; returns its metrics.
            None for a split without validation.

    Returns:
        the stage's manifest: `epochs` (a list of metrics), `last`, `best`, `continue_with`.

    Raises:
        UserError: a loss that is not a number, weights that did not move, or unusable data.
    """
    _check_processes(plan.recipe)
    data = read_training_groups(plan.data, plan.seed, plan.recipe)
    partial = plan.output.with_name(f"{plan.output.name}.partial")
    if store.is_main_process():
        _prepare(partial, plan.config)
    set_seed(plan.seed)
    embedder = _trainable_model(plan)
    start = time.perf_counter()
    keeper = EpochCheckpointCallback(plan, partial, embedder, evaluate)
    trainer = _trainer(plan, partial, embedder, data, keeper)
    sharding.wait_for_all_processes()
    trainer.train(resume_from_checkpoint=None if sharding.is_on() else _last_complete(partial / STATE))
    manifest = _manifest(plan, keeper.history(), data, trainer, round(time.perf_counter() - start, 1))
    if store.is_main_process():
        shutil.rmtree(partial / STATE)
        (partial / CONFIG).unlink()
        (partial / PROGRESS_FILE).unlink(missing_ok=True)
        store.write_json(partial / store.MANIFEST, {**manifest, **store.declared(plan.output)})
        store.put_in_place(partial, plan.output)
    sharding.wait_for_all_processes()
    return manifest


def _manifest(
    plan: Plan, history: list[dict], data: TrainingGroups, trainer: SentenceTransformerTrainer, seconds: float
) -> dict:
    last = history[-1]
    best = max(history, key=lambda each: each["metrics"].get("MAP@25", 0.0)) if last.get("metrics") else last
    continued = {"last": last, "best": best}[plan.recipe.training.continue_with]
    return {
        "kind": "finetune",
        "config": plan.config,
        **plan.about,
        "epochs": history,
        "last": last["folder"],
        "best": best["folder"],
        "continue_with": continued["folder"],
        "rows": len(data.queries),
        "trainable_parameters": sum(p.numel() for p in peft_methods.trainable_parameters(trainer.model).values()),
        "device": str(trainer.args.device),
        "seconds": seconds,
        "peak_mib": round(peak_memory(str(trainer.args.device)), 1),
    }


class _Trainer(SentenceTransformerTrainer):
    """Keeps and restores weights in our own format, keys compared, in place of the library's."""

    tuning: Tuning

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """No model card: it would sample the dataset for widget examples."""

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        os.makedirs(output_dir, exist_ok=True)
        weights_io.save_weights(self.model, Path(output_dir), self.tuning)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        weights_io.load_weights(self.model, Path(checkpoint_path), self.tuning)


def _trainer(
    plan: Plan, partial: Path, embedder: SentenceTransformer, data: TrainingGroups, keeper: EpochCheckpointCallback
) -> SentenceTransformerTrainer:
    training = plan.recipe.training
    processes = sharding.process_count()
    keeper.collator = Collator(data, embedder, plan.recipe, plan.seed, _shares_prefixes(plan.recipe, embedder))
    per_process = training.batch_size // processes
    dtype = compute_dtype(plan.start.precision, plan.start.device)
    steps = -(-len(data.queries) // training.batch_size) * training.epochs // training.gradient_accumulation_steps
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(partial / STATE),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=per_process,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        warmup_steps=int(training.warmup_ratio * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        batch_sampler=lambda rows, batch_size, seed=0, **_: BatchSampler(len(rows), batch_size, processes, seed),
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=plan.start.device == "cpu",
        ddp_backend="gloo" if processes > 1 and plan.start.device == "cpu" else None,
        save_strategy="no" if sharding.is_on() else "epoch",
        save_total_limit=2,
        logging_steps=max(1, min(10, steps // training.epochs)),  # at least once an epoch
        logging_nan_inf_filter=False,
        seed=plan.seed,
        report_to=plan.tracker,
        run_name=str(plan.output),
        dataloader_pin_memory=plan.start.device != "cpu",
        remove_unused_columns=False,
        disable_tqdm=True,
        router_mapping={"row": "query"}
        if dual_encoder.is_dual(embedder)
        else {},  # the collator says which side a text is of
    )
    os.environ.setdefault("WANDB_PROJECT", "rounds")
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(plan.output.with_name(f"{plan.output.name}-tensorboard")))
    os.environ.setdefault("TRACKIO_PROJECT", "rounds")
    try:
        trainer = _Trainer(
            model=embedder,
            args=arguments,
            train_dataset=row_dataset(data),
            loss=EmbeddingLoss(embedder, training, plan.start.precision, plan.recipe.normalizes),
            data_collator=keeper.collator,
            callbacks=[keeper],
        )
    except (RuntimeError, ImportError, ValueError) as error:
        if plan.tracker == "none":
            raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"track {plan.tracker}: {reason} (pip install '.[track]' brings the trackers)") from None
    keeper.trainer, trainer.tuning = trainer, plan.recipe.tuning
    trainer.remove_callback(PrinterCallback)  # Keeper has the bar and the epochs' lines
    return trainer


def _shares_prefixes(recipe: Recipe, embedder: SentenceTransformer) -> bool:
    """Whether queries' common beginnings are computed once; a sharded model must be called as a whole."""
    shares = recipe.prompts.share_prefix and not sharding.is_on()
    return shares and prefix_cache.can_share(
        dual_encoder.encoder_for(embedder, "query"), max_input_length(recipe.prompts)
    )


def _trainable_model(plan: Plan) -> SentenceTransformer:
    """The start's weights with the recipe's tuning; a previous adapter goes on, it is not stacked."""
    method, start = plan.recipe.tuning.method, plan.start
    if start.is_adapter and method == "full":
        raise UserError(
            f"{start.name}: is an adapter, and tuning.method full cannot continue it; "
            f"use {start.recipe.tuning.method} or start_from base"
        )
    if start.is_adapter:
        embedder = _attached(start, start.folder)
        if start.is_dual_encoder:
            dual_encoder.set_encoders(
                embedder, {kind: _attached(start, start.folder / kind) for kind in dual_encoder.KINDS}
            )
    else:
        embedder = start.load()
        peft_methods.apply(embedder, plan.recipe.tuning, locate_model(start.recipe.model))
    if plan.pictures:
        vision_tower.set_feature_cache(embedder, plan.pictures)
    if plan.recipe.training.compile:
        dual_encoder.apply_to_each(embedder, lambda side, _: side[0].model.compile(dynamic=True))
    return embedder.train()


def _attached(start: Checkpoint, folder: Path) -> SentenceTransformer:
    """The base model under an adapter whose weights go on."""
    embedder = Checkpoint.load(base_of(start))
    if not (start.is_dual_encoder and folder == start.folder):
        weights_io.attach_adapter(embedder, folder, start.tuning, trainable=True)
    return embedder


def base_of(start: Checkpoint) -> Checkpoint:
    """The base model under an adapter checkpoint."""
    return Checkpoint(start.recipe, "", start.options, lineage={})


def _prepare(partial: Path, config: dict) -> None:
    """Keep a killed run's folder only if it trained the same thing."""
    file = partial / CONFIG
    if file.is_file() and store.differences(store.read_json(file), config):
        shutil.rmtree(partial)
    elif partial.exists() and not file.is_file():
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    store.write_json(file, config)


def _last_complete(folder: Path) -> str | None:
    """The newest Trainer state that was written to its end."""
    states = sorted(folder.glob(f"checkpoint-*/{COMPLETE}"), key=lambda f: int(f.parent.name.rpartition("-")[2]))
    for unfinished in folder.glob("checkpoint-*"):
        if not (unfinished / COMPLETE).is_file() and store.is_main_process():
            shutil.rmtree(unfinished)
    return str(states[-1].parent) if states else None


def _check_processes(recipe: Recipe) -> None:
    if recipe.tuning.separate and sharding.process_count() > 1:
        raise UserError("tuning.separate trains in one process; leave NPROC at 1")
    if recipe.training.batch_size % sharding.process_count():
        raise UserError(
            f"batch_size {recipe.training.batch_size} cannot be divided among {sharding.process_count()} processes"
        )
