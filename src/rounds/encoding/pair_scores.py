"""Score pairs of query and passage with a cross-encoder; a decoder reads what several pairs share once."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from rounds.config.recipe import Recipe
from rounds.encoding.decoder_scorer import DecoderScorer
from rounds.estimate import Counter, Estimate
from rounds.models import cross_encoder
from rounds.models.precision import autocast, describe_overflow, resolve_precision, widened

BATCH = 32

SAMPLED_PAIRS = 256  # pairs that are tokenized to estimate the tokens of all


def score(name_or_path: str, pairs: list[tuple[str, str]], device: str, recipe: Recipe | None = None) -> np.ndarray:
    """Score pairs of query and passage, each distinct pair once.

    Args:
        recipe: as `cross_encoder.load` takes it.

    Returns:
        (pairs,) float32: logits with a recipe, else what the model's own activation returns.

    Raises:
        UserError: a score is not a finite number, whatever the precision.
    """
    model = cross_encoder.load(name_or_path, recipe, device)
    precision = "fp32" if recipe is None else resolve_precision(recipe.model.precision, device)
    distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    scorer = None if recipe is None else DecoderScorer.find(model, recipe)
    if scorer is None:
        with _estimating(model, list(distinct)):
            scores = _predict(model, list(distinct), precision, device)
    else:
        scores = scorer.score(list(distinct), precision)
    return scores[[distinct[pair] for pair in pairs]]


@contextmanager
def _estimating(model: CrossEncoder, pairs: list[tuple[str, str]]) -> Iterator[None]:
    """Print how long scoring takes; the tokens of all pairs are estimated from those of evenly spaced ones."""
    if len(pairs) <= SAMPLED_PAIRS:
        yield
        return
    sample = pairs[:: -(-len(pairs) // SAMPLED_PAIRS)]
    total = _count_tokens(model.preprocess(sample)) * len(pairs) / len(sample)
    estimate = Estimate(f"score {len(pairs):,} pairs", "tokens", warms_up=model.device.type != "cpu")
    tokens = Counter(estimate.update, total)

    def count_batch(module: CrossEncoder, inputs: tuple[dict[str, torch.Tensor]], output: object) -> None:
        if not estimate.is_settled:  # counting waits for a GPU
            tokens.add(_count_tokens(inputs[0]))

    hook = model.register_forward_hook(count_batch)
    try:
        yield
    finally:
        hook.remove()


def _count_tokens(features: dict[str, torch.Tensor]) -> int:
    """Return the tokens of a batch, without padding."""
    mask = features.get("attention_mask")
    return features["input_ids"].numel() if mask is None else int(mask.sum())


def _predict(model: CrossEncoder, pairs: list[tuple[str, str]], precision: str, device: str) -> np.ndarray:
    """Return the scores of pairs, (pairs,) float32; those that are not finite are computed in a wider precision."""
    with autocast(precision, device):
        scores = np.array(model.predict(pairs, batch_size=BATCH, show_progress_bar=False), dtype=np.float32)
    lost = np.flatnonzero(~np.isfinite(scores))
    if len(lost):
        lost_pairs = [pairs[row] for row in lost]
        names = [f"{query[:40]!r} with {passage[:40]!r}" for query, passage in lost_pairs]
        with widened(model, precision, names) as wider:
            scores[lost] = _predict(model, lost_pairs, wider, device)
        print(describe_overflow(model, precision, len(lost), len(pairs), "scores"))
    return scores
