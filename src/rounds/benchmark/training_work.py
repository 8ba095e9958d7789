"""Training work: optimizer steps through the Trainer, and steps of queries behind few-shot examples."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback, set_seed

from rounds.benchmark.contenders import OURS, UNSHARED, Contender, timed
from rounds.benchmark.encoding_work import join_query_texts
from rounds.config.recipe import Recipe
from rounds.data.prompts import prefix_and_suffix
from rounds.encoding import batching, prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.tokenization import tokenize
from rounds.models import checkpoint
from rounds.models.precision import autocast
from rounds.training import losses, stock_baseline
from rounds.training.collator import Collator
from rounds.training.dataset import read_training_groups
from rounds.training.loss_module import EmbeddingLoss

WARM_UP = 8  # steps that are not timed: kernels are compiled for new shapes

SEED = 42


class StepRecorder(TrainerCallback):
    """Records the time at the end of each step, and each step's loss."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.times.append(time.perf_counter())

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            self.losses.append(float(logs["loss"]))


class SequentialBatchSampler(DefaultBatchSampler):
    """Yields batches of consecutive rows, so that all contenders train on the same batches."""

    def __iter__(self) -> Iterator[list[int]]:
        rows = len(self.sampler)
        return iter([list(range(start, start + self.batch_size)) for start in range(0, rows, self.batch_size)])


class UnmaskedCollator(Collator):
    """Collates without masking: like the peer's loss, scores each drawn passage for each query, repeated ones too."""

    def __call__(self, rows: list[dict[str, int]]) -> dict:
        batch = super().__call__(rows)
        drawn = [self.groups.draw(row["row"], self.epoch, self.group_size) for row in rows]
        slots = [number for positive, negatives in drawn for number in (positive, *negatives)]
        labels = batch["label"]
        order = dict(zip(labels["passages"].tolist(), labels["passage_order"].tolist(), strict=True))
        starts = np.cumsum([0, *(1 + len(negatives) for _, negatives in drawn[:-1])])
        labels["passage_order"] = torch.tensor([order[number] for number in slots])
        labels["passages"] = torch.arange(len(slots))
        labels["positive"] = torch.tensor(starts)
        labels["false_negatives"] = torch.full((len(rows), 1), -2)
        return batch


class TrainerWithoutModelCard(SentenceTransformerTrainer):
    """Writes no model card, for which the Trainer would sample the dataset."""

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """Add nothing."""


def steps(contender: Contender, recipe: Recipe, mined: Path, count: int) -> tuple[float, list[float]]:
    """Train some steps through the Trainer, without masking candidates.

    Returns:
        Median seconds of a step, and each step's loss.
    """
    set_seed(SEED)
    rows = count * recipe.training.batch_size
    make_trainer_inputs = _rounds_inputs if contender.is_ours else _stock_inputs
    trainer_inputs = make_trainer_inputs(contender, recipe, mined, rows)
    recorder = StepRecorder()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=recipe.training.batch_size,
            learning_rate=1e-5,
            bf16=contender.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            batch_sampler=lambda rows, batch_size, seed=0, **_: SequentialBatchSampler(
                rows, batch_size, False, seed=seed
            ),
        )
        trainer = TrainerWithoutModelCard(args=arguments, callbacks=[recorder], **trainer_inputs)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return float(np.median(np.diff(recorder.times)[WARM_UP - 1 :])), recorder.losses


def _rounds_inputs(contender: Contender, recipe: Recipe, mined: Path, rows: int) -> dict:
    groups = read_training_groups(mined, SEED, recipe)
    embedder = checkpoint.resolve(None, recipe, "cpu", contender.precision).load().train()
    return {
        "model": embedder,
        "train_dataset": Dataset.from_dict({"row": list(range(rows))}),
        "loss": EmbeddingLoss(embedder, recipe.training, contender.precision),
        "data_collator": UnmaskedCollator(groups, embedder, recipe, SEED),
    }


def _stock_inputs(contender: Contender, recipe: Recipe, mined: Path, rows: int) -> dict:
    groups = read_training_groups(mined, SEED, recipe)
    embedder = stock_baseline.load_stock_model(recipe, "fp32", "cpu").train()
    embedder.max_seq_length = recipe.prompts.query_max_length
    drawn = [groups.draw(row, 0, recipe.training.group_size) for row in range(rows)]
    prefix, suffix = prefix_and_suffix(recipe.prompts, "passage")
    passages = [prefix + text + suffix for text in groups.passages]
    queries = join_query_texts(embedder.tokenizer, recipe, groups.queries[:rows], None)
    columns = {"anchor": queries, "positive": [passages[positive] for positive, _ in drawn]}
    for number in range(recipe.training.group_size - 1):
        columns[f"negative_{number + 1}"] = [passages[negatives[number]] for _, negatives in drawn]
    loss = MultipleNegativesRankingLoss(embedder, scale=1 / recipe.training.temperature)
    return {"model": embedder, "train_dataset": Dataset.from_dict(columns), "loss": loss}


def examples_step(
    contender: Contender, recipe: Recipe, queries: list[str], examples: list[list[str]]
) -> tuple[float, np.ndarray]:
    """Run a forward and a backward pass of queries behind shared examples.

    Returns:
        Seconds, and (queries, dim) vectors.
    """
    if contender.is_ours:
        embedder = checkpoint.resolve(None, recipe, "cpu", contender.precision).load().train()
    else:
        embedder = stock_baseline.load_stock_model(recipe, "fp32", "cpu").train()
    ids = tokenize(embedder.tokenizer, queries, recipe.prompts, "query", examples)
    layout = Layout.for_model(embedder, max(map(len, ids)))
    shared = prefix_cache.group_by_prefix(ids, layout)[0][0]

    def forward(ids: list[list[int]]) -> torch.Tensor:
        if contender.name == OURS:
            cache = prefix_cache.compute_prefix(embedder, ids[0][:shared])
            rest = batching.to_tensors([row[shared:] for row in ids], layout, prefix_length=shared)
            return prefix_cache.embed(embedder, rest, cache)[: len(ids)]
        if contender.name == UNSHARED:
            return embedder(batching.to_tensors(ids, layout))["sentence_embedding"][: len(ids)]
        texts = join_query_texts(embedder.tokenizer, recipe, queries[: len(ids)], examples[: len(ids)])
        return embedder(embedder.preprocess(texts))["sentence_embedding"]

    def step(ids: list[list[int]]) -> np.ndarray:
        embedder.zero_grad()
        with autocast(contender.precision, "cpu"):
            vectors = forward(ids)
        unmasked = torch.zeros(len(ids), len(ids), dtype=torch.bool)
        losses.info_nce(vectors, vectors.roll(1, 0), torch.arange(len(ids)), unmasked, 0.05).backward()
        return vectors.detach().float().numpy()

    step(ids[:2])
    return timed(lambda: step(ids))
