"""Bench: our encoding and training steps beside sentence-transformers', on the same texts in one run."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from rounds import collection, encoding, groups, prompts, training
from rounds.errors import UserError
from rounds.groups import Groups
from rounds.model import checkpoint
from rounds.model.checkpoint import Checkpoint

TEXTS = 400
STEPS = 8
WARM_UP = 3
AGREE = 0.999


def run(source: Checkpoint, mined: Path, passages: list[str]) -> list[tuple[str, float, float]]:
    """(work, our seconds, their seconds) of each row; ours in the checkpoint's precision, theirs as it comes (fp32).

    Raises:
        UserError: the two disagree on the vectors, or there are too few rows.
    """
    data = groups.read(mined, 42, source.recipe)
    size = source.recipe.training.batch_size
    if len(data.queries) < size * (WARM_UP + STEPS):
        raise UserError(f"{mined}: has {len(data.queries)} rows, {size * (WARM_UP + STEPS)} are needed to time steps")
    rows = [("encode queries and passages", *_encode(source, data.queries[:TEXTS], passages[:TEXTS]))]
    title = f"training step, {size} queries x {source.recipe.training.group_size} passages"
    rows.append((title, *_steps(source, data, size)))
    return rows


def _encode(source: Checkpoint, queries: list[str], passages: list[str]) -> tuple[float, float]:
    embedder, texts = source.load(), {"query": queries, "passage": passages}

    def ours() -> np.ndarray:
        found = [encoding.encode(embedder, t, source.recipe.prompts, k, source.precision) for k, t in texts.items()]
        return np.concatenate(found)

    def theirs() -> np.ndarray:
        return np.concatenate([_peer_encode(embedder, source, t, k) for k, t in texts.items()])

    cosine = (ours() * theirs()).sum(axis=1).min()
    if cosine <= AGREE:
        raise UserError(f"the vectors differ (least cosine {cosine:.4f}): their times cannot be compared")
    return _seconds(ours), _seconds(theirs)


def _peer_encode(embedder: SentenceTransformer, source: Checkpoint, texts: list[str], kind: str) -> np.ndarray:
    prefix, suffix = prompts.wrap(source.recipe.prompts, kind)
    embedder.max_seq_length = prompts.max_length(source.recipe.prompts, kind)
    found = embedder.encode([prefix + text + suffix for text in texts], show_progress_bar=False)
    embedder.max_seq_length = source.recipe.prompts.query_max_length
    return found


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _steps(source: Checkpoint, data: Groups, size: int) -> tuple[float, float]:
    """Median seconds of a step: collate, forward, backward, AdamW."""
    group = source.recipe.training.group_size
    ours, peer = source.load().train(), source.load().train()
    peer.max_seq_length = source.recipe.prompts.query_max_length
    collate = groups.Collator(data, ours.tokenizer, source.recipe, 42)
    loss = training.ContrastiveLoss(ours, source.recipe.training, source.precision)
    peer_loss = MultipleNegativesRankingLoss(peer, scale=1 / source.recipe.training.temperature)

    def our_loss(rows: list[int]) -> torch.Tensor:
        return loss(*chunks_and_labels(collate([{"row": row} for row in rows])))

    def their_loss(rows: list[int]) -> torch.Tensor:
        drawn = [data.draw(row, 0, group) for row in rows]
        columns = [[data.queries[row] for row in rows], [data.passages[positive] for positive, _ in drawn]]
        columns += [[data.passages[negatives[n]] for _, negatives in drawn] for n in range(group - 1)]
        return peer_loss([peer.preprocess(column) for column in columns], None)

    return _median_step(ours, our_loss, size), _median_step(peer, their_loss, size)


def chunks_and_labels(batch: dict) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """A collated batch as the Trainer hands it to the loss."""
    labels = batch.pop("label")
    chunks: dict[str, dict] = {}
    for name, value in batch.items():
        kind, number, key = name.split("_", 2)
        chunks.setdefault(f"{kind}_{number}", {})[key] = value
    return list(chunks.values()), labels


def _median_step(model: SentenceTransformer, loss: Callable[[list[int]], torch.Tensor], size: int) -> float:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    seconds = []
    for step in range(WARM_UP + STEPS):
        start = time.perf_counter()
        loss(list(range(step * size, (step + 1) * size))).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM_UP:]))


def load_and_run(recipe, mined: Path, folder: Path, device: str) -> list[tuple[str, float, float]]:
    """`run` on a collection's corpus and a mined file."""
    source = checkpoint.resolve(None, recipe, device)
    return run(source, mined, list(collection.read(folder).passages.values()))
