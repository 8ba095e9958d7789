"""Canary embeddings: outputs for fixed inputs, saved with a checkpoint and compared when it is loaded.

Intact files do not show how a model was put together: queries may go through the passages' encoder, or a vision tower
may have fallen back to its initial weights.
"""

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.config.recipe import Prompts
from rounds.encoding.encoder import EncodingOptions, encode
from rounds.errors import UserError
from rounds.models import dual_encoder, splade, vision_tower
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors
from rounds.retrieval.vectors import cosines

TEXTS = ("In which year was it founded?", "3/4 + 1/8 = 4/12", "a round emblem with three stars", "x")

MIN_COSINE = 0.99  # of a saved vector and the loaded model's

DIGITS = 5  # of a saved vector's numbers


def is_needed(embedder: SentenceTransformer) -> bool:
    """Return whether parts of an encoder can be mistaken for others: two sides, a vision tower, a masked-LM head."""
    has_other_parts = vision_tower.find_tower(embedder) is not None or splade.is_sparse(embedder)
    return dual_encoder.is_dual(embedder) or has_other_parts


def embed_canaries(embedder: SentenceTransformer, prompts: Prompts, precision: str) -> dict[str, dict[str, list]]:
    """Embed `TEXTS`, and a fixed image pattern if there is a vision tower, with the encoder of each kind of text.

    Returns:
        kind -> `words` and, with a vision tower, `picture` -> vectors, rounded.
    """
    return {
        kind: _embed_with(dual_encoder.encoder_for(embedder, kind), prompts, kind, precision)
        for kind in dual_encoder.KINDS
    }


def _embed_with(side: SentenceTransformer, prompts: Prompts, kind: str, precision: str) -> dict[str, list]:
    options = EncodingOptions(title=f"check {kind} encoder")
    vectors = encode(side, TEXTS, prompts, kind, precision, options=options)
    embeddings = {"words": vectors if representations.is_dense(vectors) else _rows(vectors)}
    if vision := vision_tower.find_tower(side):
        size = vision.tower.config.image_size
        pattern = torch.linspace(-1, 1, 3 * size * size).sin().reshape(1, 3, size, size)
        with torch.inference_mode():
            embeddings["picture"] = vision.project(vision.encode_pixels(pattern)).cpu().numpy()
    return {name: np.round(vectors.astype(float), DIGITS).tolist() for name, vectors in embeddings.items()}


def _rows(vectors: Vectors) -> np.ndarray:
    """Return vectors over a vocabulary as rows of fewer numbers, (texts, numbers)."""
    kind = representations.of(vectors)
    return np.stack([kind.probe(vectors, row) for row in range(kind.count(vectors))])


def check(source: Checkpoint, embedder: SentenceTransformer) -> None:
    """Compare a loaded model with the canary embeddings in its checkpoint's manifest.

    Checkpoints without canaries, and models in another precision than the saved one, are not compared.

    Raises:
        UserError: an encoder or a vision tower gives other vectors than when the checkpoint was saved.
    """
    saved = source.manifest and source.manifest.proof
    if saved is None or source.precision != source.manifest.precision:
        return
    prompts, precision = source.recipe.prompts, source.precision
    for kind, embeddings in embed_canaries(embedder, prompts, precision).items():
        for name, vectors in embeddings.items():
            if _min_cosine(vectors, saved[kind][name]) >= MIN_COSINE:
                continue
            other = next(candidate for candidate in dual_encoder.KINDS if candidate != kind)
            others = _embed_with(dual_encoder.encoder_for(embedder, other), prompts, kind, precision)
            swapped = dual_encoder.is_dual(embedder) and _min_cosine(others[name], saved[kind][name]) >= MIN_COSINE
            raise UserError(
                f"{source.name}: the {kind} encoder's vectors for {name} differ from those of its training"
                + (f"; the {other} encoder is in its place" if swapped else "")
            )


def _min_cosine(one: list, other: list) -> float:
    """Return the lowest cosine between corresponding rows; -1 if the shapes differ."""
    vectors, others = np.array(one), np.array(other)
    return float(cosines(vectors, others).min()) if vectors.shape == others.shape else -1.0
