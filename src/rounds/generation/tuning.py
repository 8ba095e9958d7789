"""Tuning: train a generator by transformers' Trainer, and write checkpoints with their validation losses."""

import functools
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from rounds.artifacts import hashing, store
from rounds.artifacts.prompt_manifests import GeneratorCheckpointManifest, GeneratorManifest, GeneratorStep
from rounds.config.generator import GeneratorRecipe
from rounds.data import lineage
from rounds.errors import UserError
from rounds.generation import generator, training_rows
from rounds.generation.generator import Generator
from rounds.generation.loss import target_loss
from rounds.generation.rows import PromptRow, row_digests
from rounds.generation.sequences import Example, collate
from rounds.models import peft_methods, weights
from rounds.models.precision import compute_dtype, training_advice
from rounds.training import partial_folder
from rounds.training.callbacks import StepEstimate
from rounds.training.partial_folder import SavedState
from rounds.training.plan import STATE


@dataclass(frozen=True)
class TuningJob:
    """A generator to tune.

    Attributes:
        recipe: how.
        train: rows with prompts; the recipe may choose some of them.
        validation: rows with prompts for the validation loss; empty for none.
        output: folder for the checkpoints.
        device: resolved device.
        seed: of new weights and of the order of the rows.
        overwrite: replace an output folder that was made in another way.
        made_from: what the pipeline makes the folder from, which then decides whether it is kept; None without one.
        start: lineage of the checkpoint that is the recipe's base model; empty of a model from elsewhere.
    """

    recipe: GeneratorRecipe
    train: Sequence[PromptRow]
    validation: Sequence[PromptRow]
    output: Path
    device: str
    seed: int = 42
    overwrite: bool = False
    made_from: dict | None = None
    start: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def rows(self) -> list[PromptRow]:
        """The training rows that the recipe chooses, in the order that training without shuffling reads them."""
        return training_rows.choose(self.train, self.recipe.training)

    @property
    def lineage(self) -> dict[str, str]:
        """Lineage of the checkpoints: the training rows, and those of the base model."""
        return lineage.union(self.start, row_digests(self.rows))

    @property
    def data_digest(self) -> str:
        """Digest of the training rows."""
        return _rows_digest(self.rows)

    @functools.cached_property
    def config(self) -> dict:
        """Everything that shapes the checkpoints."""
        return {
            "recipe": self.recipe.to_dict(),
            "base": generator.base_digest(self.recipe),
            "train": self.data_digest,
            "validation": _rows_digest(self.validation),
            "seed": self.seed,
        }


def _rows_digest(rows: Sequence[PromptRow]) -> str:
    return hashing.sha256_texts(
        text for row in rows for text in (row.id, row.original_text, row.rewritten_text, row.rewrite_prompt)
    )


def tune(job: TuningJob) -> GeneratorManifest | None:
    """Train a generator and put the finished folder in place; go on with an earlier call that was killed.

    Returns:
        The manifest of the output folder; None if it was there already.

    Raises:
        UserError: no training rows, a row on both sides, a loss that is not finite, weights that did not move, or an
            output folder of another configuration.
    """
    _check_rows(job)
    if store.is_finished(job.output, job.config, job.overwrite, job.made_from):
        return None
    set_seed(job.seed)
    tuned = generator.load(job.recipe, job.device, trains=True)
    train = [tuned.tokenization.example(row) for row in job.rows]
    cuts = (tuned.tokenization.cut_texts, tuned.tokenization.cut_targets)
    _say_cuts(*cuts, len(train), job.recipe)
    validation = [tuned.tokenization.example(row) for row in job.validation]
    partial = job.output.with_name(f"{job.output.name}.partial")
    partial_folder.prepare(partial, job.config)
    callback = CheckpointCallback(job, partial, tuned, validation)
    if job.recipe.training.steps not in [step.step for step in callback.checkpoints()]:  # else Trainer goes on beyond
        trainer = _make_trainer(job, partial, tuned, train, callback)
        if (state := partial_folder.find_last_state(partial / STATE)) and state.seconds:
            callback.go_on_from(state)
        trainer.train(resume_from_checkpoint=state.folder if state else None)
    checkpoints = callback.checkpoints()
    best = min(checkpoints, key=lambda step: step.validation_loss) if validation else checkpoints[-1]
    manifest = GeneratorManifest(
        config=job.config,
        checkpoints=checkpoints,
        last=checkpoints[-1].folder,
        best=best.folder,
        rows=len(train),
        cut_texts=cuts[0],
        cut_targets=cuts[1],
        trainable_parameters=sum(p.numel() for p in tuned.model.parameters() if p.requires_grad),
        device=job.device,
        seconds=callback.seconds(),
        made_from=job.made_from,
    )
    store.write_manifest(partial / store.MANIFEST, manifest)
    store.put_in_place(partial, job.output)  # before what a killed call would go on with is removed
    (job.output / partial_folder.CONFIG).unlink()
    shutil.rmtree(job.output / STATE, ignore_errors=True)
    return manifest


def _check_rows(job: TuningJob) -> None:
    if not job.train:
        raise UserError(f"{job.output}: no training rows; choose another split")
    held_out = row_digests(job.validation)
    if shared := lineage.overlap(job.lineage, held_out):
        raise UserError(
            f"{len(shared)} of {len(held_out)} validation rows are training rows, too, such as {shared[0]}; "
            "run make data again"
        )
    for row in (*job.train, *job.validation):
        if not row.rewrite_prompt.strip():
            raise UserError(f"row {row.id}: rewrite_prompt is empty, and tuning needs it")


def _say_cuts(texts: int, targets: int, rows: int, recipe: GeneratorRecipe) -> None:
    if texts:
        tqdm.write(
            f"{texts} of {rows} rows: texts cut in the middle to training.max_length {recipe.training.max_length}"
        )
    if targets:
        tqdm.write(
            f"{targets} of {rows} rows: prompts cut to generation.max_new_tokens {recipe.generation.max_new_tokens}"
        )


class _Trainer(Trainer):
    """Train on the targets' tokens, each of which counts the same in whatever part of a batch it is."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, tokens = target_loss(model, inputs)
        return loss / (tokens if num_items_in_batch is None else num_items_in_batch)

    def create_model_card(self, *args, **kwargs) -> None:
        """Write no model card."""


def _make_trainer(
    job: TuningJob, partial: Path, tuned: Generator, train: list[Example], callback: "CheckpointCallback"
) -> Trainer:
    trainer = _Trainer(
        model=tuned.model,
        args=_training_arguments(job, partial, tuned),
        train_dataset=train,
        data_collator=functools.partial(collate, pad=tuned.pad),
        callbacks=[callback, StepEstimate(f"tune on {len(train):,} rows")],
    )
    trainer.model_accepts_loss_kwargs = True  # the loss is divided by the tokens of all parts of a batch
    trainer.remove_callback(PrinterCallback)
    return trainer


def _training_arguments(job: TuningJob, partial: Path, tuned: Generator) -> TrainingArguments:
    training = job.recipe.training
    dtype = compute_dtype(tuned.precision, job.device)
    return TrainingArguments(
        output_dir=str(partial / STATE),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch_size // training.gradient_accumulation_steps,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(training.scheduler, training.scheduler),
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        train_sampling_strategy="random" if training.order == "shuffled" else "sequential",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=job.device == "cpu",
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_total_limit=2,
        logging_steps=10,  # the callback logs each checkpoint's last step as well
        logging_nan_inf_filter=False,
        seed=job.seed,
        report_to="none",
        dataloader_pin_memory=job.device != "cpu",
        remove_unused_columns=False,
        disable_tqdm=True,
    )


@dataclass
class CheckpointCallback(TrainerCallback):
    """Write a checkpoint folder whenever the Trainer saves its state, with its validation loss, and print a line.

    Attributes:
        job: what is tuned.
        partial: the unfinished output folder.
        tuned: the generator in training.
        validation: the validation rows' sequences.
        losses: (steps, their mean training loss) since the last checkpoint.
    """

    job: TuningJob
    partial: Path
    tuned: Generator
    validation: list[Example]
    losses: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the clock, at the time that earlier calls took for the checkpoints that they left."""
        self._start = time.perf_counter() - max([manifest.seconds or 0 for _, manifest in self._written()], default=0)

    def go_on_from(self, state: SavedState) -> None:
        """Count the time from a state on; what was tuned behind it is lost, and is tuned again."""
        self._start = time.perf_counter() - state.seconds

    def seconds(self) -> float:
        """Return the time of training so far, with what earlier calls had reached."""
        return round(time.perf_counter() - self._start, 1)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.before = {
            name: parameter.detach().cpu().clone()
            for name, parameter in self.tuned.model.named_parameters()
            if parameter.requires_grad
        }
        self.logged_step = state.global_step
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="tune", unit="step")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.bar.update(state.global_step - self.bar.n)
        if state.global_step % args.save_steps == 0 or state.global_step == state.max_steps:
            control.should_log = True  # the steps before a checkpoint belong to its mean loss

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            loss = float(logs["loss"])
            if not torch.isfinite(torch.tensor(loss)):
                advice = training_advice(self.tuned.model, self.tuned.precision)
                raise UserError(
                    f"the loss is {loss} after {state.global_step} steps; {advice}lower training.learning_rate"
                )
            self.losses.append((state.global_step - self.logged_step, loss))
            self.logged_step = state.global_step
            self.bar.set_postfix(loss=f"{loss:.4f}")

    def on_save(self, args, state, control, **kwargs) -> None:
        peft_methods.check_weights_moved(self.before, dict(self.tuned.model.named_parameters()))
        self._write_checkpoint(state.global_step)
        partial_folder.mark_complete(self.partial / STATE / f"checkpoint-{state.global_step}", self.seconds())

    def _write_checkpoint(self, step: int) -> None:
        loss = validation_loss(self.tuned, self.validation) if self.validation else None
        steps = sum(count for count, _ in self.losses)
        train_loss = round(sum(count * loss for count, loss in self.losses) / steps, 6) if steps else None
        self.losses = []
        folder = self.partial / f"step_{step}"
        shutil.rmtree(folder, ignore_errors=True)
        with store.replacing_folder(folder) as temporary:  # `drafting` would write the seconds of writing alone
            generator.save_weights(self.tuned.model, self.tuned.tokenization.tokenizer, temporary)
            manifest = GeneratorCheckpointManifest(
                recipe=self.job.recipe.to_dict(),
                precision=self.tuned.precision,
                base_digest=self.job.config["base"],
                weights_digest=weights.weights_digest(str(temporary)),
                data_digest=self.job.data_digest,
                lineage=self.job.lineage,
                seed=self.job.seed,
                step=step,
                train_loss=train_loss,
                validation_loss=loss,
                seconds=self.seconds(),
            )
            store.write_manifest(temporary / store.MANIFEST, manifest)
        shown = [
            f"{name} {value:.4f}" for name, value in (("loss", train_loss), ("validation", loss)) if value is not None
        ]
        tqdm.write("  ".join([f"step {step}/{self.job.recipe.training.steps}", *shown]))

    def checkpoints(self) -> list[GeneratorStep]:
        """Return the finished checkpoints, oldest first; those of a killed call are included."""
        steps = [
            GeneratorStep(
                folder=folder.name,
                step=manifest.step,
                train_loss=manifest.train_loss,
                validation_loss=manifest.validation_loss,
            )
            for folder, manifest in self._written()
        ]
        return sorted(steps, key=lambda each: each.step)

    def _written(self) -> list[tuple[Path, GeneratorCheckpointManifest]]:
        return [(file.parent, store.read_manifest(file.parent)) for file in self.partial.glob("step_*/manifest.json")]


@torch.no_grad()
def validation_loss(tuned: Generator, examples: Sequence[Example]) -> float:
    """Return the mean loss of the targets' tokens over all rows; batches do not change it.

    Args:
        tuned: the generator.
        examples: the rows' sequences.
    """
    model, was_training = tuned.model, tuned.model.training
    model.eval()
    size = tuned.recipe.training.batch_size // tuned.recipe.training.gradient_accumulation_steps
    total, tokens = 0.0, 0
    ordered = sorted(examples, key=lambda example: -len(example.input_ids))
    for start in range(0, len(ordered), size):
        batch = {name: ids.to(tuned.device) for name, ids in collate(ordered[start : start + size], tuned.pad).items()}
        with tuned.autocast():
            loss, count = target_loss(model, batch)
        total, tokens = total + loss.item(), tokens + count
    model.train(was_training)
    return round(total / tokens, 6)


def describe(output: Path, manifest: GeneratorManifest | None) -> str:
    """Return the lines to print: the last and the best checkpoint with their losses, and the time of training.

    Args:
        output: the folder.
        manifest: what `tune` returned.
    """
    if manifest is None:
        return f"{output}: up to date"
    lines = []
    for folder in dict.fromkeys([manifest.last, manifest.best]):
        labels = [label for label in ("last", "best") if getattr(manifest, label) == folder]
        step = next(step for step in manifest.checkpoints if step.folder == folder)
        if step.validation_loss is not None:
            lines.append(f"{output / folder}  ({', '.join(labels)})  validation loss {step.validation_loss:.4f}")
    return "\n".join([*lines, f"{output}: {manifest.seconds:.0f} s of training"])
