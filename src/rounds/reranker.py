"""Reranker: a sentence-transformers CrossEncoder, which reads query and passage together, trained and scoring."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, ListNetLoss
from transformers import ProgressCallback, set_seed

from rounds import encoding
from rounds.errors import UserError
from rounds.model import backbone
from rounds.recipe import Recipe

BATCH = 32
ONLY = 30.0  # label of the positive: the softmax over a group's labels, which ListNet learns, is then all its own
MARKS = {"{query}": "query", "{passage}": "document"}


@dataclass(frozen=True)
class Group:
    """A query with the passages that the reranker learns to tell apart.

    Attributes:
        positives: texts of its relevant passages.
        negatives: texts of candidates that are not.
    """

    query: str
    positives: list[str]
    negatives: list[str]


def train(recipe: Recipe, groups: list[Group], output: Path, seed: int, device: str) -> dict:
    """Train on groups drawn anew for each epoch and save the model; returns what to say of it.

    Raises:
        UserError: no group has a negative, or a tuning that a reranker does not have.
    """
    how = recipe.training
    if recipe.tuning.method not in ("full", "lora", "qlora"):
        raise UserError(f"recipe {recipe.name}: a reranker trains with tuning.method full, lora or qlora")
    groups = [group for group in groups if group.positives and group.negatives]
    if not groups:
        raise UserError("no query has both a relevant passage and another candidate: there is nothing to learn from")
    set_seed(seed)
    model = load(backbone.locate(recipe.model), recipe, device)
    if recipe.tuning.has_lora:
        model.add_adapter(_lora(recipe, "SEQ_CLS" if len(model) == 1 else "CAUSAL_LM"))
    rows = list(draw(groups, how.epochs, how.group_size, seed))
    listwise = recipe.reranking.loss == "listwise"
    data = _lists(rows) if listwise else _pairs(rows)
    dtype = backbone.compute_dtype(backbone.resolve_precision(recipe.model.precision, device), device)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(output),
        num_train_epochs=1,
        per_device_train_batch_size=how.batch_size * (1 if listwise else how.group_size),
        gradient_accumulation_steps=how.gradient_accumulation_steps,
        learning_rate=how.learning_rate,
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
    # Two groups at once: pairs of one query are of like length, so that little is padding.
    loss = ListNetLoss(model, mini_batch_size=2 * how.group_size) if listwise else BinaryCrossEntropyLoss(model)
    trainer = _Trainer(model=model, args=arguments, train_dataset=data, loss=loss)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar)
    found = trainer.train()
    if not np.isfinite(found.training_loss):
        raise UserError("the reranker's loss is not a finite number: lower training.learning_rate")
    model.save_pretrained(str(output))
    return {"train loss": round(found.training_loss, 6), "groups": len(groups), "steps": found.global_step}


def _lora(recipe: Recipe, kind: str) -> LoraConfig:
    """peft's configuration; the kind SEQ_CLS trains and keeps the classifier too."""
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


def draw(groups: list[Group], epochs: int, size: int, seed: int) -> Iterable[tuple[str, list[str]]]:
    """For each epoch and group, in an order that the seed gives: the query, and `size` passages, a positive first.

    >>> group = Group("q", ["right"], ["a", "b", "c"])
    >>> [(query, len(passages), passages[0]) for query, passages in draw([group], 2, 3, 42)]
    [('q', 3, 'right'), ('q', 3, 'right')]
    """
    generator = random.Random(seed)
    for _ in range(epochs):
        for group in generator.sample(groups, len(groups)):
            negatives = generator.sample(group.negatives, min(size - 1, len(group.negatives)))
            yield group.query, [generator.choice(group.positives), *negatives]


def _lists(rows: list[tuple[str, list[str]]]) -> Dataset:
    labels = [[ONLY, *[0.0] * (len(passages) - 1)] for _, passages in rows]
    return Dataset.from_dict({"query": [q for q, _ in rows], "passages": [p for _, p in rows], "labels": labels})


def _pairs(rows: list[tuple[str, list[str]]]) -> Dataset:
    flat = [(query, text, float(not place)) for query, passages in rows for place, text in enumerate(passages)]
    return Dataset.from_dict(dict(zip(("query", "passage", "label"), map(list, zip(*flat, strict=True)), strict=True)))


def load(name_or_path: str, recipe: Recipe | None, device: str) -> CrossEncoder:
    """A CrossEncoder whose scores are logits, or by its own activation where there is no recipe.

    Raises:
        UserError: no such folder or model.
    """
    own: dict = {}
    if recipe is not None:
        precision = backbone.resolve_precision(recipe.model.precision, device)
        own = {"max_length": recipe.reranking.max_length, "activation_fn": torch.nn.Identity(),
               "model_kwargs": backbone.weights_arguments(recipe, precision, device),
               "config_kwargs": backbone.dropout(recipe.model.dropout)}  # fmt: skip
        if recipe.reranking.template:
            own["processor_kwargs"] = {"chat_template": chat_template(recipe.reranking.template)}
    if name_or_path.startswith((".", "/")) and not Path(name_or_path).is_dir():
        raise UserError(f"reranker {name_or_path}: no such folder")
    try:
        return CrossEncoder(name_or_path, device=device, num_labels=1, **own)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"reranker {name_or_path}: cannot be loaded ({reason})") from None


def chat_template(text: str) -> str:
    """`{query}` and `{passage}` as places in the form in which tokenizers keep such texts (Jinja).

    >>> from jinja2 import Template
    >>> pair = [{"role": "query", "content": "1 + 1 = 11"}, {"role": "document", "content": "joins digits"}]
    >>> Template(chat_template("Q: {query} P: {passage}")).render(messages=pair)
    'Q: 1 + 1 = 11 P: joins digits'
    """
    parts = []
    while text:
        mark = min((m for m in MARKS if m in text), key=text.index, default="")
        before, _, text = text.partition(mark) if mark else (text, "", "")
        if before:
            parts.append(f"{{{{ {json.dumps(before)} }}}}")
        if mark:
            role = f'selectattr("role", "eq", "{MARKS[mark]}")'
            parts.append(f'{{{{ messages | {role} | map(attribute="content") | first }}}}')
    return "".join(parts)


def score(name_or_path: str, pairs: list[tuple[str, str]], device: str, recipe: Recipe | None = None) -> np.ndarray:
    """Scores (pairs,) float32; each distinct pair is scored once.

    Args:
        recipe: the reranker's own: its scores are then logits. None: as the model's own activation makes them.
    """
    model = load(name_or_path, recipe, device)
    precision = "fp32" if recipe is None else backbone.resolve_precision(recipe.model.precision, device)
    distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    with encoding.autocast(precision, device):
        found = model.predict(list(distinct), batch_size=BATCH, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)[[distinct[pair] for pair in pairs]]


def digest(name_or_path: str) -> str:
    """SHA-256 over its weights."""
    return backbone.weights_digest(name_or_path)
