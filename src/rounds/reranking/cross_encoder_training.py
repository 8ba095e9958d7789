"""Train a cross-encoder on the candidates that an embedder ranks first."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.util import batch_to_device
from transformers import ProgressCallback, set_seed

from rounds.config.recipe import Recipe
from rounds.errors import UserError
from rounds.models import cross_encoder, pooling
from rounds.models.precision import compute_dtype, resolve_precision
from rounds.models.weights import locate_model


@dataclass(frozen=True)
class Group:
    """A query with the passages that the reranker learns to tell apart.

    Attributes:
        positives: text -> the first stage's similarity, of its relevant passages.
        negatives: the same of candidates that are not.
    """

    query: str
    positives: dict[str, float]
    negatives: dict[str, float]


class Listwise(torch.nn.Module):
    """Cross-entropy of a group's first passage, the positive, against the others (ListNet, Cao et al. 2007).

    Forwards of `chunk` pairs: pairs of one query are of like length, so that little is padding.
    """

    def __init__(self, model: CrossEncoder, chunk: int) -> None:
        super().__init__()
        self.model, self.chunk = model, chunk

    def forward(self, inputs: list[list], labels: list[torch.Tensor], **_) -> torch.Tensor:
        """Mean over the groups.

        Args:
            inputs: queries, and for each its passages.
            labels: for each query (passages,), added to the scores: what the first stage says.
        """
        pairs = [(query, text) for query, texts in zip(*inputs, strict=True) for text in texts]
        parts = [pairs[start : start + self.chunk] for start in range(0, len(pairs), self.chunk)]
        tokens = (batch_to_device(self.model.preprocess(part), self.model.device) for part in parts)
        scores = torch.cat([self.model(each)["scores"].view(-1) for each in tokens]).float()
        groups = zip(scores.split([len(each) for each in labels]), labels, strict=True)
        return -torch.stack([(own + prior.to(own.device)).log_softmax(0)[0] for own, prior in groups]).mean()


def train(recipe: Recipe, groups: list[Group], output: Path, seed: int, device: str, start: Path | None = None) -> dict:
    """Train on groups drawn anew for each epoch and save the model; returns what to say of it.

    Args:
        start: folder of the weights to begin with, in the place of the recipe's.

    Raises:
        UserError: no group has a negative, or a tuning that a reranker does not have.
    """
    how = recipe.training
    if recipe.tuning.method not in ("full", "lora", "qlora"):
        raise UserError(f"recipe {recipe.name}: a reranker trains with tuning.method full, lora or qlora")
    if not recipe.reranking.template and recipe.model.pooling not in pooling.MODES:
        raise UserError(f"recipe {recipe.name}: a reranker's model.pooling is one of {', '.join(pooling.MODES)}")
    groups = [group for group in groups if group.positives and group.negatives]
    if not groups:
        raise UserError("no query has both a relevant passage and another candidate: there is nothing to learn from")
    set_seed(seed)
    model = cross_encoder.load(str(start) if start else locate_model(recipe.model), recipe, device)
    if recipe.tuning.has_lora:
        pooled, decoder = isinstance(model[-1], Dense), recipe.reranking.template
        kind = "FEATURE_EXTRACTION" if pooled else "CAUSAL_LM" if decoder else "SEQ_CLS"
        try:
            model.add_adapter(_lora(recipe, kind))
        except ValueError as error:  # peft names the targets that the model lacks
            raise UserError(f"recipe {recipe.name}: tuning.lora: {' '.join(str(error).split())[:200]}") from None
    rows = list(draw(groups, how.epochs, how.group_size, seed))
    listwise = recipe.reranking.loss == "listwise"
    data = _lists(rows, recipe.reranking.residual) if listwise else _pairs(rows)
    dtype = compute_dtype(resolve_precision(recipe.model.precision, device), device)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(output),
        num_train_epochs=1,
        per_device_train_batch_size=how.batch_size * (1 if listwise else how.group_size),
        gradient_accumulation_steps=how.gradient_accumulation_steps,
        learning_rate=how.learning_rate,
        learning_rate_mapping={r"\.linear\.": cross_encoder.HEAD_LEARNING_RATE_FACTOR * how.learning_rate}
        if isinstance(model[-1], Dense)
        else {},
        warmup_steps=int(how.warmup_ratio * len(rows) / how.batch_size),
        weight_decay=how.weight_decay,
        max_grad_norm=how.max_grad_norm,
        gradient_checkpointing=how.gradient_checkpointing,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        seed=seed,
        report_to="none",
    )
    loss = Listwise(model, 2 * how.group_size) if listwise else BinaryCrossEntropyLoss(model)
    trainer = _Trainer(model=model, args=arguments, train_dataset=data, loss=loss)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar)
    found = trainer.train()
    if not np.isfinite(found.training_loss):
        raise UserError("the reranker's loss is not a finite number: lower training.learning_rate")
    model.save_pretrained(str(output))
    return {"train loss": round(found.training_loss, 6), "groups": len(groups), "steps": found.global_step}


def _lora(recipe: Recipe, kind: str) -> LoraConfig:
    """peft's configuration."""
    how = recipe.tuning.lora
    return LoraConfig(
        r=how.r, lora_alpha=how.alpha, lora_dropout=how.dropout, target_modules=list(how.targets), task_type=kind
    )


class _Trainer(CrossEncoderTrainer):
    """Without a model card: it would sample the dataset for widget examples."""

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """Nothing."""


class _Bar(ProgressCallback):
    """The library's bar alone, without its dictionaries of logs."""

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Nothing."""


def draw(groups: list[Group], epochs: int, size: int, seed: int) -> Iterable[tuple[str, dict[str, float]]]:
    """For each epoch and group, in an order that the seed gives: the query, and `size` passages, a positive first.

    >>> group = Group("q", {"right": 0.5}, {"a": 0.4, "b": 0.3, "c": 0.2})
    >>> [(query, len(passages), next(iter(passages))) for query, passages in draw([group], 2, 3, 42)]
    [('q', 3, 'right'), ('q', 3, 'right')]
    """
    generator = random.Random(seed)
    for _ in range(epochs):
        for group in generator.sample(groups, len(groups)):
            chosen = [generator.choice(list(group.positives))]
            chosen += generator.sample(list(group.negatives), min(size - 1, len(group.negatives)))
            yield group.query, {text: (group.positives | group.negatives)[text] for text in chosen}


def _lists(rows: list[tuple[str, dict[str, float]]], residual: float) -> Dataset:
    labels = [[residual * prior for prior in passages.values()] for _, passages in rows]
    texts = [list(passages) for _, passages in rows]
    return Dataset.from_dict({"query": [query for query, _ in rows], "passages": texts, "labels": labels})


def _pairs(rows: list[tuple[str, dict[str, float]]]) -> Dataset:
    flat = [(query, text, float(not place)) for query, passages in rows for place, text in enumerate(passages)]
    return Dataset.from_dict(dict(zip(("query", "passage", "label"), map(list, zip(*flat, strict=True)), strict=True)))
