"""Training: one round's fine-tuning with sentence-transformers' Trainer, a checkpoint folder per epoch."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.losses.gradcache import CachedLossMixin, RandContext
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback, set_seed

from rounds import artefact, encoding, groups, live, losses, prefix, prompts, proof, sharding
from rounds.errors import UserError
from rounds.groups import BatchSampler, Collator, Groups
from rounds.model import backbone, checkpoint, towers, tuning, vision
from rounds.model.checkpoint import Checkpoint
from rounds.recipe import Recipe, Training, Tuning

COLLAPSED = 0.9  # mean cosine of random passages from which vectors tell little apart
COMPLETE = "complete"
CONFIG = "config.json"
STATE = "trainer"


@dataclass(frozen=True)
class Plan:
    """What a fine-tuning run is made from.

    Attributes:
        start: the checkpoint to continue from (round 1, or restart: the base model).
        recipe: how to train; its model and prompts are those of `start`.
        data: mined JSONL.
        output: folder for the epochs' checkpoints.
        config: everything that shapes the result, for the manifest.
        about: what each checkpoint's manifest says beside it (lineage, parent, split, round).
        pictures: folder that holds what vision towers saw.
        tracker: `none`, `wandb`, `trackio` or `tensorboard`.
    """

    start: Checkpoint
    recipe: Recipe
    data: Path
    output: Path
    config: dict
    about: dict
    seed: int = 42
    tracker: str = "none"
    pictures: Path | None = None


Evaluate = Callable[[SentenceTransformer, Path], dict]


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
    data = groups.read(plan.data, plan.seed, plan.recipe)
    partial = plan.output.with_name(f"{plan.output.name}.partial")
    if artefact.is_main_process():
        _prepare(partial, plan.config)
    set_seed(plan.seed)
    embedder = _trainable_model(plan)
    start = time.perf_counter()
    keeper = Keeper(plan, partial, embedder, evaluate)
    trainer = _trainer(plan, partial, embedder, data, keeper)
    _barrier()
    trainer.train(resume_from_checkpoint=None if sharding.is_on() else _last_complete(partial / STATE))
    manifest = _manifest(plan, keeper.history(), data, trainer, round(time.perf_counter() - start, 1))
    if artefact.is_main_process():
        shutil.rmtree(partial / STATE)
        (partial / CONFIG).unlink()
        (partial / live.PROGRESS).unlink(missing_ok=True)
        artefact.write_json(partial / artefact.MANIFEST, manifest)
        artefact.put_in_place(partial, plan.output)
    _barrier()
    return manifest


def _manifest(
    plan: Plan, history: list[dict], data: Groups, trainer: SentenceTransformerTrainer, seconds: float
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
        "trainable_parameters": sum(p.numel() for p in tuning.trainable(trainer.model).values()),
        "device": str(trainer.args.device),
        "seconds": seconds,
        "peak_mib": round(backbone.peak_memory(str(trainer.args.device)), 1),
    }


class ContrastiveLoss(CachedLossMixin, nn.Module):
    """Forward passes over the collator's chunks, then InfoNCE over all processes' passages.

    With `micro_batch_tokens`, the memory of one chunk is enough for any batch: gradients of the vectors are kept, and
    each chunk is embedded a second time to send them on (GradCache: Gao et al. 2021, arXiv:2101.06983).
    """

    mini_batch_size = sys.maxsize  # each chunk of the collator is one mini-batch

    def __init__(self, model: SentenceTransformer, how: Training, precision: str, normalize: bool = True) -> None:
        super().__init__()
        self.how, self.dims, self.normalize = how, how.matryoshka_dims, normalize
        self.model, self.precision = model, precision
        self.temperature, self.checkpointing = how.temperature, how.gradient_checkpointing
        self.uses_gradient_cache = bool(how.micro_batch_tokens)

    def forward(self, features: list[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        """`features` are the batch's chunks; `labels` as `groups.Collator` makes them."""
        if self.uses_gradient_cache:
            return self.forward_cached(features, labels)
        # One autocast region for all chunks casts each weight once; the Trainer's, one for each forward pass, would
        # cast them for every chunk.
        with self._computing():
            return self.calculate_loss([[self._embed(chunk)] for chunk in features], labels)

    def _embed(self, chunk: dict[str, Tensor]) -> Tensor:
        own = {name: value for name, value in chunk.items() if name not in ("prefix", "side")}
        model = towers.of(self.model, towers.KINDS[int(chunk["side"])]) if "side" in chunk else self.model
        if "prefix" not in chunk:
            return model(own)["sentence_embedding"]
        cache = prefix.compute(getattr(model, "module", model), chunk["prefix"][0].tolist())
        return prefix.embed(model, own, cache)

    def embed_minibatch(self, sentence_feature, begin, end, with_grad, copy_random_state, random_state=None):
        """One chunk in its fixed shape, where the library's own would cut it to its longest row."""
        with self._computing(), random_state or nullcontext(), torch.set_grad_enabled(with_grad):
            state = RandContext(*sentence_feature.values()) if copy_random_state else None
            return self._embed(sentence_feature), state

    def calculate_loss(self, reps: list[list[Tensor]], labels: dict[str, Tensor], *, with_backward=False) -> Tensor:
        """`reps` are the chunks' vectors."""
        vectors = torch.cat([chunk for (chunk,) in reps])
        queries, passages = vectors[labels["query_order"]], vectors[labels["passage_order"]]
        if (most := max(self.dims, default=0)) > passages.shape[1]:
            raise UserError(f"training.matryoshka_dims has {most}: the vectors have {passages.shape[1]} dimensions")
        measured = self._info_nce if self.how.loss == "info_nce" else self._distil
        sizes = self.dims or [None]
        pairs = [
            [each if dim is None else losses.cut(each, dim, self.normalize) for each in (queries, passages)]
            for dim in sizes
        ]
        loss = sum(measured(*pair, labels) for pair in pairs)
        if not torch.isfinite(loss):
            raise UserError("the loss is not a finite number: lower learning_rate or raise temperature and train again")
        if with_backward:
            loss.backward()
        return loss

    def _info_nce(self, queries: Tensor, passages: Tensor, labels: dict[str, Tensor]) -> Tensor:
        passages, keys, copies = losses.gather_passages(passages, labels["passages"])
        positive = (keys[None, :] == labels["positive"][:, None]).int().argmax(dim=1)
        known = (labels["known"][:, :, None] == keys[None, None, :]).any(dim=1)
        return losses.info_nce(queries, passages, positive, known | copies[None, :], self.temperature)

    def _distil(self, queries: Tensor, passages: Tensor, labels: dict[str, Tensor]) -> Tensor:
        group, teacher = labels["group"], labels["teacher"] / self.how.teacher_temperature
        scores = (queries.float()[:, None, :] * passages.float()[group.clamp(min=0)]).sum(dim=2)
        if self.how.loss == "margin_mse":
            return losses.margin_mse(scores, teacher, group >= 0)
        return losses.distillation(scores / self.temperature, teacher, group >= 0)

    def _computing(self):
        """Mixed precision. Gradient checkpointing computes again outside of it, and cannot find casts kept within."""
        device = next(self.model.parameters()).device.type
        return encoding.autocast(self.precision, device, keep_casts=not self.checkpointing)


class Keeper(TrainerCallback):
    """Writes a checkpoint folder after each epoch, evaluates it, and reports it in one line."""

    def __init__(self, plan: Plan, partial: Path, embedder: SentenceTransformer, evaluate: Evaluate | None) -> None:
        self.plan, self.partial, self.embedder, self.evaluate = plan, partial, embedder, evaluate
        self.before = tuning.snapshot(embedder)
        self.collator: Collator | None = None
        self.trainer: SentenceTransformerTrainer | None = None
        self.started = time.perf_counter()
        self.loss: float | None = None
        self.losses: list[float] = []
        self.curve: list[tuple[int, float]] = []

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.first, self.began = state.global_step, time.perf_counter()
        hidden = None if artefact.is_main_process() else True
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step", disable=hidden)
        self._show(state)

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.collator.start(round(state.epoch or 0))
        self.losses = []
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            self.loss = float(logs["loss"])
            self.losses.append(self.loss)
            self.bar.set_postfix(loss=f"{self.loss:.4f}")
            self.curve.append((state.global_step, self.loss))
            self._show(state)

    def _show(self, state) -> None:
        """For whoever watches: how far it is, beside the epochs that are done."""
        if not artefact.is_main_process():
            return
        seconds = round(time.perf_counter() - self.began, 1)
        progress = {"step": state.global_step, "steps": state.max_steps, "first": self.first, "seconds": seconds}
        live.write(self.partial, {**progress, "losses": self.curve})

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        weights = sharding.gathered(self.trainer)
        tuning.check_moved(self.before, weights or tuning.trainable(self.embedder))
        if artefact.is_main_process():
            self._keep(round(state.epoch), round(time.perf_counter() - self.started, 1), weights)
        _barrier()

    def on_save(self, args, state, control, **kwargs) -> None:
        if artefact.is_main_process():
            folder = self.partial / STATE / f"checkpoint-{state.global_step}"
            (folder / COMPLETE).touch()

    def _keep(self, epoch: int, seconds: float, weights: dict[str, Tensor] | None) -> None:
        folder = self.partial / f"{'lora_epoch' if self.plan.recipe.tuning.has_lora else 'epoch'}_{epoch}"
        shutil.rmtree(folder, ignore_errors=True)
        about = {**self.plan.about, "epoch": epoch, "seed": self.plan.seed, "train_seconds": seconds}
        about["first_rows"] = self.collator.first
        manifest: dict = {}
        with artefact.writing(folder, manifest) as temporary:
            precision = self.plan.start.precision
            manifest.update(checkpoint.save(self.embedder, temporary, self.plan.recipe, precision, about, weights))
            if proof.is_due(self.embedder):
                manifest["proof"] = proof.of(self.embedder, self.plan.recipe.prompts, precision)
        metrics = self.evaluate(self.embedder, folder) if self.evaluate and not weights else {}
        if self.losses:
            metrics["train loss"] = round(sum(self.losses) / len(self.losses), 6)
        if metrics.get("mean cosine", 0) > COLLAPSED:
            tqdm.write(
                f"warning: random passages have a mean cosine of {metrics['mean cosine']:.3f}: the vectors collapse; "
                "lower learning_rate, or leave tuning.projection out"
            )
        artefact.write_json(folder / "metrics.json", metrics)
        tqdm.write(epoch_line(epoch, self.plan.recipe.training.epochs, self.loss, metrics, seconds))

    def history(self) -> list[dict]:
        """Each kept epoch's folder name and metrics, in order; those of a killed run's epochs included."""
        folders = sorted(
            self.partial.glob("*epoch_*/metrics.json"), key=lambda f: int(f.parent.name.rpartition("_")[2])
        )
        return [{"folder": file.parent.name, "metrics": artefact.read_json(file)} for file in folders]


def epoch_line(epoch: int, epochs: int, loss: float | None, metrics: dict, seconds: float) -> str:
    """The log line of an epoch.

    >>> epoch_line(1, 2, 1.5, {"MAP@25": 0.25, "Recall@25": 0.5}, 61.0)
    'epoch 1/2  loss 1.5000  MAP@25 0.2500  Recall@25 0.5000  61 s'
    """
    parts = [f"epoch {epoch}/{epochs}"]
    if loss is not None:
        parts.append(f"loss {loss:.4f}")
    parts += [f"{name} {metrics[name]:.4f}" for name in ("MAP@25", "Recall@25") if name in metrics]
    return "  ".join([*parts, f"{seconds:.0f} s"])


class _Trainer(SentenceTransformerTrainer):
    """Keeps and restores weights in our own format, keys compared, in place of the library's."""

    tuning: Tuning

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """No model card: it would sample the dataset for widget examples."""

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        os.makedirs(output_dir, exist_ok=True)
        checkpoint.save_weights(self.model, Path(output_dir), self.tuning)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        checkpoint.load_weights(self.model, Path(checkpoint_path), self.tuning)


def _trainer(
    plan: Plan, partial: Path, embedder: SentenceTransformer, data: Groups, keeper: Keeper
) -> SentenceTransformerTrainer:
    training = plan.recipe.training
    processes = _processes()
    keeper.collator = Collator(data, embedder, plan.recipe, plan.seed, _shares_prefixes(plan.recipe, embedder))
    per_process = training.batch_size // processes
    dtype = backbone.compute_dtype(plan.start.precision, plan.start.device)
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
        router_mapping={"row": "query"} if towers.are_in(embedder) else {},  # the collator says which side a text is of
    )
    os.environ.setdefault("WANDB_PROJECT", "rounds")
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(plan.output.with_name(f"{plan.output.name}-tensorboard")))
    os.environ.setdefault("TRACKIO_PROJECT", "rounds")
    try:
        trainer = _Trainer(
            model=embedder,
            args=arguments,
            train_dataset=groups.dataset(data),
            loss=ContrastiveLoss(embedder, training, plan.start.precision, plan.recipe.normalizes),
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
    return shares and prefix.can_share(towers.of(embedder, "query"), prompts.longest(recipe.prompts))


def _trainable_model(plan: Plan) -> SentenceTransformer:
    """The start's weights with the recipe's tuning; a previous adapter goes on, it is not stacked."""
    method, start = plan.recipe.tuning.method, plan.start
    if start.adapter and method == "full":
        raise UserError(
            f"{start.name}: is an adapter, and tuning.method full cannot continue it; "
            f"use {start.recipe.tuning.method} or start_from base"
        )
    if start.adapter:
        embedder = _attached(start, start.folder)
        if start.has_sides:
            towers.join(embedder, {kind: _attached(start, start.folder / kind) for kind in towers.KINDS})
    else:
        embedder = start.load()
        tuning.apply(embedder, plan.recipe.tuning, backbone.locate(start.recipe.model))
    if plan.pictures:
        vision.keep_in(embedder, plan.pictures)
    if plan.recipe.training.compile:
        towers.each(embedder, lambda side, _: side[0].model.compile(dynamic=True))
    return embedder.train()


def _attached(start: Checkpoint, folder: Path) -> SentenceTransformer:
    """The base model under an adapter whose weights go on."""
    embedder = Checkpoint.load(base_of(start))
    if not (start.has_sides and folder == start.folder):
        checkpoint.attach_adapter(embedder, folder, start.own_tuning, trainable=True)
    return embedder


def base_of(start: Checkpoint) -> Checkpoint:
    """The base model under an adapter checkpoint."""
    return Checkpoint(start.recipe, None, False, None, {}, "", start.precision, start.device)


def _prepare(partial: Path, config: dict) -> None:
    """Keep a killed run's folder only if it trained the same thing."""
    file = partial / CONFIG
    if file.is_file() and artefact.differences(artefact.read_json(file), config):
        shutil.rmtree(partial)
    elif partial.exists() and not file.is_file():
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    artefact.write_json(file, config)


def _last_complete(folder: Path) -> str | None:
    """The newest Trainer state that was written to its end."""
    states = sorted(folder.glob(f"checkpoint-*/{COMPLETE}"), key=lambda f: int(f.parent.name.rpartition("-")[2]))
    for unfinished in folder.glob("checkpoint-*"):
        if not (unfinished / COMPLETE).is_file() and artefact.is_main_process():
            shutil.rmtree(unfinished)
    return str(states[-1].parent) if states else None


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _barrier() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def _check_processes(recipe: Recipe) -> None:
    if recipe.tuning.separate and _processes() > 1:
        raise UserError("tuning.separate trains in one process; leave NPROC at 1")
    if recipe.training.batch_size % _processes():
        raise UserError(f"batch_size {recipe.training.batch_size} cannot be divided among {_processes()} processes")
