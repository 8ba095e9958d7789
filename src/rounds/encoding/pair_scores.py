"""Score pairs of query and passage with a cross-encoder; a decoder reads what several pairs share once."""

import numpy as np
from sentence_transformers import CrossEncoder

from rounds.config.recipe import Recipe
from rounds.encoding.decoder_scorer import DecoderScorer
from rounds.models import cross_encoder
from rounds.models.precision import autocast, resolve_precision, widened

BATCH = 32


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
        scores = _predict(model, list(distinct), precision, device)
    else:
        scores = scorer.score(list(distinct), precision)
    return scores[[distinct[pair] for pair in pairs]]


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
        print(f"{len(lost)} of {len(pairs)} scores overflow in {precision}; these are computed in {wider}")
    return scores
