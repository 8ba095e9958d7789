"""Encoding: texts -> vectors. Each distinct text once, sorted by length, in a few fixed shapes."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Encoding
from tqdm import tqdm
from transformers.cache_utils import Cache

from rounds import batches, pictures
from rounds import prefix as prefix_sharing
from rounds import prompts as prompting
from rounds.batches import Layout
from rounds.model import backbone, towers, vision
from rounds.recipe import Prompts

EXAMPLE_END = "\n\n"  # as FlagEmbedding joins them

Made = TypeVar("Made")
Allocate = Callable[[tuple[int, int]], np.ndarray]
_in_memory: Allocate = functools.partial(np.empty, dtype=np.float32)


def tokenize(
    tokenizer,
    texts: Sequence[str],
    prompts: Prompts,
    kind: str,
    before: Sequence[Sequence[str]] | None = None,
    report: bool = True,
) -> list[list[int]]:
    """Token ids of each text's words with its prompt, and of its picture where the model reads it with them (`joint`).

    A text that is too long loses its own last tokens; prefix, suffix and special tokens survive. How many texts had
    to be cut, and how many examples left out, is reported once.

    Args:
        before: each text's examples, best first; they have a limit of their own.
    """
    prefix, suffix = prompting.wrap(prompts, kind)
    picture = getattr(tokenizer, "picture", "")
    texts = [(picture if pictures.of(text) else "") + pictures.words(text) for text in texts]
    limit = prompting.max_length(prompts, kind)
    leads = lead_texts(tokenizer, before, prompts, kind, report) if before is not None else [""] * len(texts)
    whole = tokenizer(
        [lead + prefix + text + suffix for lead, text in zip(leads, texts, strict=True)],
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids, cut = [], 0
    for number, (lead, text, row) in enumerate(zip(leads, texts, whole["input_ids"], strict=True)):
        found = whole[number]
        examples = _tokens_in(found, lead) if lead else 0
        if len(row) - examples > limit:
            cut += 1
            row = _cut(row, found.offsets, len(lead) + len(prefix) + len(text), limit + examples)
        ids.append(row)
    if cut and report:
        _say_once(f"{cut} of {len(texts)} {kind} texts are longer than {limit} tokens and were cut")
    return ids


def lead_texts(
    tokenizer, before: Sequence[Sequence[str]], prompts: Prompts, kind: str, report: bool = True
) -> list[str]:
    """What stands before each text: its examples, as many of them as `examples_max_length` holds."""
    distinct = list(dict.fromkeys(example for examples in before for example in examples))
    lengths: dict[str, int] = {}
    if distinct:
        rows = tokenizer([example + EXAMPLE_END for example in distinct], add_special_tokens=False, verbose=False)
        lengths = {example: len(row) for example, row in zip(distinct, rows["input_ids"], strict=True)}
    leads, short = [], 0
    for examples in before:
        kept, used = [], 0
        for example in examples:
            if used + lengths[example] <= prompts.examples_max_length:
                kept.append(example)
                used += lengths[example]
        short += len(kept) < len(examples)
        leads.append("".join(example + EXAMPLE_END for example in kept))
    if short and report:
        _say_once(
            f"{short} of {len(before)} {kind} texts have fewer examples than asked for: "
            f"they are longer than {prompts.examples_max_length} tokens"
        )
    return leads


def _tokens_in(found: Encoding, lead: str) -> int:
    """How many tokens end within `lead`, special ones not counted; without a copy of all offsets, which is slow."""
    covered = (token for place in range(len(lead)) if (token := found.char_to_token(place)) is not None)
    first = next(covered, None)
    if first is None:
        return 0
    places = range(len(lead) - 1, -1, -1)
    last = next(token for place in places if (token := found.char_to_token(place)) is not None)
    return last - first + (found.token_to_chars(last)[1] <= len(lead))


def _cut(row: list[int], offsets: list[tuple[int, int]], text_end: int, limit: int) -> list[int]:
    """Drop tokens from the text's end; what starts behind it (suffix, closing special tokens) stays."""
    tail = len(row)
    while tail > 0 and (offsets[tail - 1][0] >= text_end or offsets[tail - 1][0] == offsets[tail - 1][1]):
        tail -= 1
    kept = len(row) - tail
    return row[: max(limit - kept, 0)] + row[tail:]


def autocast(precision: str, device: str, keep_casts: bool = True):
    """Mixed precision on `device`; nothing where it computes in fp32.

    Args:
        keep_casts: cast each weight once for the whole region. Gradient checkpointing cannot find such casts again.
    """
    dtype = backbone.compute_dtype(precision, device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=dtype, cache_enabled=keep_casts)


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
    embedder = towers.of(embedder, kind)
    whole = list(zip(texts, map(tuple, before) if before is not None else itertools.repeat(()), strict=False))
    place = {item: number for number, item in enumerate(dict.fromkeys(whole))}
    examples = [given for _, given in place] if before is not None else None
    ids = tokenize(embedder.tokenizer, [text for text, _ in place], prompts, kind, examples)
    work = work or encode_ids
    title, distinct = title or f"encode {kind} texts", len(place) == len(whole)
    seen = vision.seen(embedder, [text for text, _ in place])
    vectors = work(embedder, ids, precision, title, prompts.share_prefix, allocate if distinct else _in_memory, seen)
    if distinct:
        return vectors
    found = allocate((len(whole), vectors.shape[1]))
    return np.take(vectors, [place[item] for item in whole], axis=0, out=found, mode="clip")


@functools.cache
def _say_once(line: str) -> None:
    tqdm.write(line)


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
    share = share_prefix and prefix_sharing.can_share(embedder, max(map(len, ids)))
    was_training = embedder.training
    embedder.eval()
    layout = Layout.of(embedder, max(map(len, ids)))
    plan = prefix_sharing.groups(ids, layout) if share else [(0, list(range(len(ids))))]
    vectors: np.ndarray | None = None
    with (
        torch.inference_mode(),
        autocast(precision, str(embedder.device)),
        tqdm(total=len(ids), desc=title, unit="text", disable=None if title else True, leave=False) as bar,
    ):
        for shared, rows in plan:
            cache = prefix_sharing.compute(embedder, ids[rows[0]][:shared]) if shared else None
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
    embedder = towers.of(embedder, kind).eval()
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
    features = batches.tensors([ids[row] for row in rows], layout, budget)
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
    waiting, budget = list(range(len(lengths))), batches.TOKENS
    while waiting:
        done: set[int] = set()
        for places in batches.plan([lengths[row] for row in waiting], layout, budget):
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
    features = batches.tensors([ids[row] for row in rows], layout, budget, shared)
    filled = rows + rows[:1] * (batches.texts_in(features) - len(rows))
    features |= {name: torch.from_numpy(values[filled]) for name, values in (seen or {}).items()}
    features = {key: value.to(embedder.device) for key, value in features.items()}
    output = prefix_sharing.embed(embedder, features, cache) if cache else embedder(features)["sentence_embedding"]
    return output[: len(rows)].float().cpu().numpy()
