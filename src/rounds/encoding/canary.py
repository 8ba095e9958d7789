"""Proof: what each side of a checkpoint made of fixed texts and a fixed picture when it was kept, compared in use.

Files that are whole say nothing about how they were put together: queries that go through the passages' encoder, a
vision tower that fell back to its first weights.
"""

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds.config.recipe import Prompts
from rounds.encoding.encoder import encode
from rounds.errors import UserError
from rounds.models import dual_encoder, vision_tower
from rounds.models.checkpoint import Checkpoint

TEXTS = ("In which year was it founded?", "3/4 + 1/8 = 4/12", "a round emblem with three stars", "x")

LEAST = 0.99  # cosine of what was kept and what is made

DIGITS = 5


def is_needed(embedder: SentenceTransformer) -> bool:
    """Whether an encoder has parts that could be taken for one another: two sides, or two towers."""
    return dual_encoder.is_dual(embedder) or vision_tower.find_tower(embedder) is not None


def embed_canaries(embedder: SentenceTransformer, prompts: Prompts, precision: str) -> dict[str, dict[str, list]]:
    """By kind of text and tower (`words`, `picture`), vectors of `TEXTS` and of a pattern."""
    return {
        kind: _side(dual_encoder.encoder_for(embedder, kind), prompts, kind, precision) for kind in dual_encoder.KINDS
    }


def _side(side: SentenceTransformer, prompts: Prompts, kind: str, precision: str) -> dict[str, list]:
    found = {"words": encode(side, TEXTS, prompts, kind, precision, f"prove {kind} side")}
    if eyes := vision_tower.find_tower(side):
        size = eyes.tower.config.image_size
        pattern = torch.linspace(-1, 1, 3 * size * size).sin().reshape(1, 3, size, size)
        with torch.inference_mode():
            found["picture"] = eyes.project(eyes.encode(pattern)).cpu().numpy()
    return {name: np.round(vectors.astype(float), DIGITS).tolist() for name, vectors in found.items()}


def check(source: Checkpoint, embedder: SentenceTransformer) -> None:
    """Compare with what the checkpoint's manifest says.

    Raises:
        UserError: a side or a tower answers otherwise than when the checkpoint was kept.
    """
    kept = (source.manifest or {}).get("proof")
    if kept is None or source.precision != source.manifest["precision"]:
        return
    prompts, precision = source.recipe.prompts, source.precision
    for kind, parts in embed_canaries(embedder, prompts, precision).items():
        for name, vectors in parts.items():
            if _least_cosine(vectors, kept[kind][name]) >= LEAST:
                continue
            other = next(each for each in dual_encoder.KINDS if each != kind)
            others = _side(dual_encoder.encoder_for(embedder, other), prompts, kind, precision)
            swapped = dual_encoder.is_dual(embedder) and _least_cosine(others[name], kept[kind][name]) >= LEAST
            raise UserError(
                f"{source.name}: {name} of the {kind} side are encoded otherwise than when it was trained"
                + (f"; the {other} side's encoder stands in its place" if swapped else "")
            )


def _least_cosine(one: list, other: list) -> float:
    """Of rows; -1 for other sizes."""
    a, b = np.array(one), np.array(other)
    if a.shape != b.shape:
        return -1.0
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
