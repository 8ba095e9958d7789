"""Train a cross-encoder on the candidates that an embedder ranks first."""

import functools
import random
from collections.abc import Callable, Iterable
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

from rounds.config.recipe import Recipe, Training
from rounds.encoding import prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.decoder_scorer import DecoderScorer
from rounds.errors import UserError
from rounds.models import cross_encoder, pooling, target_modules
from rounds.models.precision import autocast, compute_dtype, resolve_precision, training_advice
from rounds.models.weights import locate_model
from rounds.training.callbacks import StepEstimate
from rounds.training.chunks import ChunkBuilder

TUNING_METHODS = ("full", "lora", "qlora")

# Keys of `training` that a reranker never reads.
EMBEDDERS_KEYS = ("average", "false_negative_margin", "hardness_mode", "label_weight", "matryoshka_dims")

Example = tuple[str, dict[str, float]]  # a query, and text -> first-stage score of its passages, a positive first


@dataclass(frozen=True)
class RerankingGroup:
    """A query with the passages that the reranker learns to tell apart.

    Attributes:
        query: The query's text.
        positives: Text -> first-stage similarity of the relevant passages.
        negatives: Text -> first-stage similarity of candidates that are not relevant.
    """

    query: str
    positives: dict[str, float]
    negatives: dict[str, float]


@dataclass(frozen=True)
class RerankerTraining:
    """Figures of a reranker's training, for its manifest.

    Attributes:
        train_loss: Mean loss over all steps.
        groups: Number of queries that it was trained on.
        steps: Number of optimizer steps.
    """

    train_loss: float
    groups: int
    steps: int


ScorePairs = Callable[[list[tuple[str, str]]], torch.Tensor]


class ListwiseLoss(torch.nn.Module):
    """Cross-entropy of a group's first passage, the positive, against the others (ListNet, Cao et al. 2007).

    Args:
        model: The cross-encoder.
        score_pairs: Returns its scores of pairs of query and passage, (pairs,) float32.
    """

    def __init__(self, model: CrossEncoder, score_pairs: ScorePairs) -> None:
        super().__init__()
        self.model, self.score_pairs = model, score_pairs

    def forward(self, inputs: list[list], labels: list[torch.Tensor], **_) -> torch.Tensor:
        """Return the mean over the groups.

        Args:
            inputs: Queries, and the list of passages of each.
            labels: (passages,) of each query, the first stage's part of the scores, which is added to the model's.
        """
        scores = self.score_pairs([(query, text) for query, texts in zip(*inputs, strict=True) for text in texts])
        groups = zip(scores.split([len(priors) for priors in labels]), labels, strict=True)
        losses = [(group_scores + priors.to(scores.device)).log_softmax(0)[0] for group_scores, priors in groups]
        return -torch.stack(losses).mean()


def score_in_chunks(model: CrossEncoder, chunk_size: int, pairs: list[tuple[str, str]]) -> torch.Tensor:
    """Return a cross-encoder's scores, (pairs,) float32, with gradients.

    Args:
        model: The cross-encoder.
        chunk_size: Pairs a forward pass. Pairs of one query are of similar length, so little of a chunk is padding.
        pairs: Queries and passages.
    """
    chunks = [pairs[start : start + chunk_size] for start in range(0, len(pairs), chunk_size)]
    tokens = (batch_to_device(model.preprocess(chunk), model.device) for chunk in chunks)
    return torch.cat([model(chunk)["scores"].view(-1) for chunk in tokens]).float()


def score_behind_prefixes(scorer: DecoderScorer, recipe: Recipe, pairs: list[tuple[str, str]]) -> torch.Tensor:
    """Return a decoder's scores, (pairs,) float32, with gradients; it reads each query once for all of its passages."""
    settings, device = recipe.training, scorer.model.device
    embedder, ids = scorer.embedder.train(scorer.model.training), scorer.tokenize(pairs)
    longest = max(map(len, ids))
    layout = Layout.for_model(embedder, longest)
    shares_prefixes = scorer.shares_prefixes and prefix_cache.can_share(embedder, longest)
    chunks = ChunkBuilder(layout, settings.micro_batch_tokens, shares_prefixes, None).build(ids, [""] * len(ids))
    precision = resolve_precision(recipe.model.precision, device.type)
    # The trainer's autocast covers the cross-encoder's own forward pass alone. Gradient checkpointing computes again
    # outside of this region, and cannot find casts that are kept within.
    with autocast(precision, device.type, keep_casts=not settings.gradient_checkpointing):
        vectors = [prefix_cache.embed_chunk(embedder, batch_to_device(chunk, device)) for chunk in chunks.apart()]
    return scorer.apply_head(torch.cat(vectors)[torch.tensor(chunks.embedding_rows, device=device)])


def train(
    recipe: Recipe, groups: list[RerankingGroup], output: Path, seed: int, device: str, start: Path | None = None
) -> RerankerTraining:
    """Train a cross-encoder, save it and return the figures of its training.

    Args:
        recipe: The reranker's recipe.
        groups: Queries with their candidates; those without a positive or a negative are skipped. Each epoch draws
            other passages from them.
        output: Folder of the model.
        seed: Seed of weights, groups and batches.
        device: Where to train.
        start: Folder of the initial weights, in the place of the recipe's model.

    Raises:
        UserError: The recipe is not one of a reranker, no group has both a positive and a negative, or the loss is not
            finite.
    """
    check_recipe(recipe)
    groups = [group for group in groups if group.positives and group.negatives]
    if not groups:
        raise UserError("no query has both a relevant passage and another candidate: there is nothing to learn from")
    set_seed(seed)
    model = _load_model(recipe, start, device)
    settings = recipe.training
    examples = list(sample_groups(groups, settings.epochs, settings.group_size, seed))
    if recipe.reranking.loss == "listwise":
        dataset = _listwise_dataset(examples, recipe.reranking.residual)
        scorer = DecoderScorer.find(model, recipe)
        if scorer is None:
            score_pairs = functools.partial(score_in_chunks, model, 2 * settings.group_size)
        else:
            score_pairs = functools.partial(score_behind_prefixes, scorer, recipe)
        loss = ListwiseLoss(model, score_pairs)
    else:
        dataset, loss = _pointwise_dataset(examples), BinaryCrossEntropyLoss(model)
    arguments = _training_arguments(recipe, model, len(examples), output, seed, device)
    trainer = _CrossEncoderTrainer(model=model, args=arguments, train_dataset=dataset, loss=loss)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_ProgressBar)
    trainer.add_callback(StepEstimate(f"train the reranker on {len(groups):,} queries"))
    result = trainer.train()
    if not np.isfinite(result.training_loss):
        advice = training_advice(model, resolve_precision(recipe.model.precision, device))
        raise UserError(f"the reranker's loss is not a finite number: {advice}lower training.learning_rate")
    model.save_pretrained(str(output))
    return RerankerTraining(round(result.training_loss, 6), len(groups), result.global_step)


def check_recipe(recipe: Recipe) -> None:
    """Raise a `UserError` if a recipe is not one of a reranker."""
    if recipe.tuning.method not in TUNING_METHODS:
        raise UserError(f"recipe {recipe.name}: a reranker trains with tuning.method full, lora or qlora")
    if not recipe.reranking.template and recipe.model.pooling not in pooling.MODES:
        raise UserError(f"recipe {recipe.name}: a reranker's model.pooling is one of {', '.join(pooling.MODES)}")
    defaults = Training()
    for key in EMBEDDERS_KEYS:
        if getattr(recipe.training, key) != getattr(defaults, key):
            raise UserError(f"recipe {recipe.name}: a reranker trains without training.{key}; leave it out")
    if recipe.mining.unlabelled_share is not None:
        raise UserError(f"recipe {recipe.name}: a reranker mines nothing; leave mining.unlabelled_share out")


def _load_model(recipe: Recipe, start: Path | None, device: str) -> CrossEncoder:
    """Load the initial model, with a new adapter where the recipe tunes with LoRA."""
    model = cross_encoder.load(str(start) if start else locate_model(recipe.model), recipe, device)
    if not recipe.tuning.has_lora:
        return model
    if _has_new_head(model):
        task_type = "FEATURE_EXTRACTION"
    else:
        task_type = "CAUSAL_LM" if recipe.reranking.template else "SEQ_CLS"
    lora = recipe.tuning.lora
    try:
        model.add_adapter(
            LoraConfig(
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=target_modules.for_peft(
                    lora.targets, target_modules.adaptable(model[0].model), "tuning.lora.targets"
                ),
                task_type=task_type,
            )
        )
    except ValueError as error:  # peft names the target modules that the model lacks
        raise UserError(f"recipe {recipe.name}: tuning.lora: {' '.join(str(error).split())[:200]}") from None
    return model


def _has_new_head(model: CrossEncoder) -> bool:
    """Return whether the model is an encoder with a linear head that starts from zero."""
    return isinstance(model[-1], Dense)


def _training_arguments(
    recipe: Recipe, model: CrossEncoder, example_count: int, output: Path, seed: int, device: str
) -> CrossEncoderTrainingArguments:
    """Translate the recipe into the trainer's arguments; the examples of all epochs are one epoch of the trainer."""
    settings = recipe.training
    pairs_per_example = 1 if recipe.reranking.loss == "listwise" else settings.group_size
    head_rates = (
        {r"\.linear\.": cross_encoder.HEAD_LEARNING_RATE_FACTOR * settings.learning_rate}
        if _has_new_head(model)
        else {}
    )
    dtype = compute_dtype(resolve_precision(recipe.model.precision, device), device)
    return CrossEncoderTrainingArguments(
        output_dir=str(output),
        num_train_epochs=1,
        per_device_train_batch_size=settings.batch_size * pairs_per_example,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        learning_rate_mapping=head_rates,
        warmup_steps=count_warmup_steps(settings, example_count),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        logging_nan_inf_filter=False,  # which would replace NaN by the mean of other steps
        use_cpu=device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        seed=seed,
        report_to="none",
    )


def count_warmup_steps(settings: Training, example_count: int) -> int:
    """Return the optimizer steps in which the learning rate rises; several batches may make one step.

    >>> count_warmup_steps(Training(batch_size=2, gradient_accumulation_steps=8, warmup_ratio=0.1), 178)
    1
    """
    return int(settings.warmup_ratio * example_count / settings.batch_size / settings.gradient_accumulation_steps)


class _CrossEncoderTrainer(CrossEncoderTrainer):
    """The library's trainer without its model card, which would sample the dataset for widget examples."""

    def add_model_card_callback(self, default_args_dict: dict) -> None:
        """Add no callback."""


class _ProgressBar(ProgressCallback):
    """The library's progress bar without its log lines."""

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Print nothing."""


def sample_groups(groups: list[RerankingGroup], epochs: int, size: int, seed: int) -> Iterable[Example]:
    """Yield each group once an epoch, in an order given by the seed, with `size` passages, a positive first.

    >>> group = RerankingGroup("q", {"right": 0.5}, {"a": 0.4, "b": 0.3, "c": 0.2})
    >>> [(query, len(passages), next(iter(passages))) for query, passages in sample_groups([group], 2, 3, 42)]
    [('q', 3, 'right'), ('q', 3, 'right')]
    """
    generator = random.Random(seed)
    for _ in range(epochs):
        for group in generator.sample(groups, len(groups)):
            texts = [generator.choice(list(group.positives))]
            texts += generator.sample(list(group.negatives), min(size - 1, len(group.negatives)))
            yield group.query, {text: (group.positives | group.negatives)[text] for text in texts}


def _listwise_dataset(examples: list[Example], residual: float) -> Dataset:
    """Return one row an example; the labels are the first stage's scores times `residual`."""
    return Dataset.from_dict(
        {
            "query": [query for query, _ in examples],
            "passages": [list(passages) for _, passages in examples],
            "labels": [[residual * prior for prior in passages.values()] for _, passages in examples],
        }
    )


def _pointwise_dataset(examples: list[Example]) -> Dataset:
    """Return one row a pair, labelled 1 for the positive and 0 for the others."""
    pairs = [(query, text, float(not place)) for query, passages in examples for place, text in enumerate(passages)]
    queries, texts, labels = map(list, zip(*pairs, strict=True))
    return Dataset.from_dict({"query": queries, "passage": texts, "label": labels})
