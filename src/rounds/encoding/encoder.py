"""Encoding: texts -> vectors. Each distinct text once, sorted by length, in a few fixed shapes."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm
from transformers.cache_utils import Cache

from rounds.config.recipe import Prompts
from rounds.encoding import batching, prefix_cache
from rounds.encoding.batching import Layout
from rounds.encoding.tokenization import say_once, tokenize
from rounds.models import dual_encoder, vision_tower
from rounds.models.precision import autocast

Made = TypeVar("Made")

Allocate = Callable[[tuple[int, int]], np.ndarray]

_in_memory: Allocate = functools.partial(np.empty, dtype=np.float32)


def encode(
    embedder: SentenceTransformer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    precision: str,
    title: str = "",
    before: Sequence[Sequence[str]] | None = None,
    work: Callable[..., np.ndarray] | None = None,
    allocate: Allocate = _in_memory,
) -> np.ndarray:
    """Encode texts with the recipe's prompt.

    Args:
        kind: `query` or `passage`.
        title: shown on the progress bar.
        before: each text's examples (`examples.before`).
        work: takes the place of `encode_ids`, such as `devices.encode_ids` with its helpers.
        allocate: makes the result of a shape, such as a memory-mapped file for a corpus larger than memory.

    Returns:
        (texts, dim) float32, of unit length where the recipe normalizes. A text's vector depends on the shape of
        its batch within rounding (bf16: cosine above 0.999).
    """
    embedder = dual_encoder.encoder_for(embedder, kind)
    whole = list(zip(texts, map(tuple, before) if before is not None else itertools.repeat(()), strict=False))
    place = {item: number for number, item in enumerate(dict.fromkeys(whole))}
    examples = [given for _, given in place] if before is not None else None
    ids = tokenize(embedder.tokenizer, [text for text, _ in place], prompts, kind, examples)
    work = work or encode_ids
    title, distinct = title or f"encode {kind} texts", len(place) == len(whole)
    seen = vision_tower.image_arrays(embedder, [text for text, _ in place])
    vectors = work(embedder, ids, precision, title, prompts.share_prefix, allocate if distinct else _in_memory, seen)
    if precision == "fp16":
        _without_overflow(embedder, ids, vectors, title, prompts.share_prefix, seen)
    if distinct:
        return vectors
    found = allocate((len(whole), vectors.shape[1]))
    return np.take(vectors, [place[item] for item in whole], axis=0, out=found, mode="clip")


def _without_overflow(
    embedder: SentenceTransformer,
    ids: list[list[int]],
    vectors: np.ndarray,
    title: str,
    share_prefix: bool,
    seen: dict[str, np.ndarray] | None,
) -> None:
    """Compute anew in bf16, in place, the vectors that fp16 overflowed in: bf16 has the range of fp32.

    Cards without bf16 (T4) emulate it, which is slow; the weights stay in fp16.
    """
    lost = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(lost):
        say_once(f"fp16 overflows in {len(lost)} of {len(ids)} texts; these are computed in bf16")
        part = seen and {name: values[lost] for name, values in seen.items()}
        vectors[lost] = encode_ids(embedder, [ids[row] for row in lost], "bf16", title, share_prefix, seen=part)


def encode_ids(
    embedder: SentenceTransformer,
    ids: list[list[int]],
    precision: str,
    title: str,
    share_prefix: bool = True,
    allocate: Allocate = _in_memory,
    seen: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Token ids -> vectors (rows, dim) float32, in the order given.

    Args:
        title: shown on the progress bar; without one there is no bar.
        share_prefix: compute what rows share at their start once, where the model allows it.
        seen: what stands on each row's picture (`vision.seen`).
    """
    share = share_prefix and prefix_cache.can_share(embedder, max(map(len, ids)))
    was_training = embedder.training
    embedder.eval()
    layout = Layout.of(embedder, max(map(len, ids)))
    plan = prefix_cache.group_by_prefix(ids, layout) if share else [(0, list(range(len(ids))))]
    vectors: np.ndarray | None = None
    with (
        torch.inference_mode(),
        autocast(precision, str(embedder.device)),
        tqdm(total=len(ids), desc=title, unit="text", disable=None if title else True, leave=False) as bar,
    ):
        for shared, rows in plan:
            cache = prefix_cache.compute_prefix(embedder, ids[rows[0]][:shared]) if shared else None
            own = layout.behind(shared)
            part = seen and {name: values[rows] for name, values in seen.items()}
            work = functools.partial(_embed, embedder, own, [ids[row][shared:] for row in rows], shared, cache, part)
            for places, output in _within_memory([len(ids[row]) - shared for row in rows], own, work):
                if vectors is None:
                    vectors = allocate((len(ids), output.shape[1]))
                vectors[[rows[place] for place in places]] = output
                bar.update(len(places))
    embedder.train(was_training)
    return vectors


def token_states(
    embedder: SentenceTransformer, texts: Sequence[str], prompts: Prompts, kind: str, precision: str, title: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a model makes of each token before pooling; special tokens are left out where a text has others.

    Returns:
        for each text (tokens,) int64 token ids and (tokens, dim) float32 of unit length.
    """
    embedder = dual_encoder.encoder_for(embedder, kind).eval()
    ids = tokenize(embedder.tokenizer, texts, prompts, kind)
    layout, special = Layout.of(embedder, max(map(len, ids))), embedder.tokenizer.all_special_ids
    found: list[tuple[np.ndarray, np.ndarray]] = [None] * len(ids)
    work = functools.partial(_states, embedder, layout, ids)
    with (
        torch.inference_mode(),
        autocast(precision, str(embedder.device)),
        tqdm(total=len(ids), desc=title, unit="text", disable=None, leave=False) as bar,
    ):
        for rows, states in _within_memory(list(map(len, ids)), layout, work):
            for row, own in zip(rows, states, strict=True):
                kept = ~np.isin(ids[row], special)
                kept |= not kept.any()
                found[row] = np.array(ids[row])[kept], own[kept]
            bar.update(len(rows))
    return found


def _states(
    embedder: SentenceTransformer, layout: Layout, ids: list[list[int]], rows: list[int], budget: int
) -> list[np.ndarray]:
    """(tokens, dim) of each row of one batch."""
    features = batching.tensors([ids[row] for row in rows], layout, budget)
    features = {key: value.to(embedder.device) for key, value in features.items()}
    states = embedder(dict(features))["token_embeddings"].float()
    states = torch.nn.functional.normalize(states, dim=-1).cpu().numpy()
    if layout.packed:
        return np.split(states[0], np.cumsum([len(ids[row]) for row in rows]))[: len(rows)]
    masks = features["attention_mask"].bool().cpu().numpy()
    return [own[mask] for own, mask in zip(states, masks, strict=True)][: len(rows)]


def _within_memory(
    lengths: list[int], layout: Layout, work: Callable[[list[int], int], Made]
) -> Iterator[tuple[list[int], Made]]:
    """Each batch's row numbers and what `work` makes of it; where memory runs out, with half the tokens from there on.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
    """
    waiting, budget = list(range(len(lengths))), batching.TOKENS
    while waiting:
        done: set[int] = set()
        for places in batching.plan([lengths[row] for row in waiting], layout, budget):
            rows = [waiting[place] for place in places]
            try:
                output = work(rows, budget)
            except torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                torch.cuda.empty_cache()
                budget //= 2
                tqdm.write(f"out of memory with {len(rows)} texts; going on with {budget} tokens a batch")
                break
            yield rows, output
            done.update(rows)
        waiting = [row for row in waiting if row not in done]


def _embed(
    embedder: SentenceTransformer,
    layout: Layout,
    ids: list[list[int]],
    shared: int,
    cache: Cache | None,
    seen: dict[str, np.ndarray] | None,
    rows: list[int],
    budget: int,
) -> np.ndarray:
    """Vectors of one batch, behind a shared prefix where there is one."""
    features = batching.tensors([ids[row] for row in rows], layout, budget, shared)
    filled = rows + rows[:1] * (batching.texts_in(features) - len(rows))
    features |= {name: torch.from_numpy(values[filled]) for name, values in (seen or {}).items()}
    features = {key: value.to(embedder.device) for key, value in features.items()}
    output = prefix_cache.embed(embedder, features, cache) if cache else embedder(features)["sentence_embedding"]
    return output[: len(rows)].float().cpu().numpy()
