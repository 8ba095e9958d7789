"""Encoding: texts -> vectors. Each distinct text once, sorted by length, in a few fixed shapes, on all devices."""

import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from typing import NoReturn

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm
from transformers.cache_utils import Cache

from rounds import batches, cli
from rounds import prefix as prefix_sharing
from rounds import prompts as prompting
from rounds.batches import Layout
from rounds.errors import UserError
from rounds.model import backbone
from rounds.model.checkpoint import Checkpoint
from rounds.recipe import Prompts

EXAMPLE_END = "\n\n"  # as FlagEmbedding joins them

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
    """Token ids of each text with its prompt.

    A text that is too long loses its own last tokens; prefix, suffix and special tokens survive. How many texts had
    to be cut, and how many examples left out, is reported once.

    Args:
        before: each text's examples, best first; they have a limit of their own.
    """
    prefix, suffix = prompting.wrap(prompts, kind)
    limit = prompting.max_length(prompts, kind)
    leads = lead_texts(tokenizer, before, prompts, kind, report) if before is not None else [""] * len(texts)
    whole = tokenizer(
        [lead + prefix + text + suffix for lead, text in zip(leads, texts, strict=True)],
        return_offsets_mapping=True,
        verbose=False,
    )
    ids, cut = [], 0
    for lead, text, row, offsets in zip(leads, texts, whole["input_ids"], whole["offset_mapping"], strict=True):
        examples = sum(start < end <= len(lead) for start, end in offsets) if lead else 0
        if len(row) - examples > limit:
            cut += 1
            row = _cut(row, offsets, len(lead) + len(prefix) + len(text), limit + examples)
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
    helpers: Sequence["Helper"] = (),
    allocate: Allocate = _in_memory,
) -> np.ndarray:
    """Encode texts with the recipe's prompt.

    Args:
        kind: `query` or `passage`.
        title: shown on the progress bar.
        before: each text's examples (`examples.before`).
        helpers: processes that hold the same model; each takes a share, and so does this one.
        allocate: makes the result of a shape, such as a memory-mapped file for a corpus larger than memory.

    Returns:
        (texts, dim) float32, of unit length where the recipe normalizes. A text's vector depends on the shape of
        its batch within rounding (bf16: cosine above 0.999).
    """
    whole = list(zip(texts, map(tuple, before) if before is not None else itertools.repeat(()), strict=False))
    place = {item: number for number, item in enumerate(dict.fromkeys(whole))}
    examples = [given for _, given in place] if before is not None else None
    ids = tokenize(embedder.tokenizer, [text for text, _ in place], prompts, kind, examples)
    work = functools.partial(_spread, helpers) if helpers else encode_ids
    title, distinct = title or f"encode {kind} texts", len(place) == len(whole)
    vectors = work(embedder, ids, precision, title, prompts.share_prefix, allocate if distinct else _in_memory)
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
) -> np.ndarray:
    """Token ids -> vectors (rows, dim) float32, in the order given.

    Args:
        title: shown on the progress bar; without one there is no bar.
        share_prefix: compute what rows share at their start once, where the model allows it.
    """
    share = share_prefix and prefix_sharing.can_share(embedder, max(map(len, ids)))
    plan = prefix_sharing.groups(ids) if share else [(0, list(range(len(ids))))]
    was_training = embedder.training
    embedder.eval()
    layout = Layout.of(embedder, max(map(len, ids)))
    vectors: np.ndarray | None = None
    with (
        torch.inference_mode(),
        autocast(precision, str(embedder.device)),
        tqdm(total=len(ids), desc=title, unit="text", disable=None if title else True, leave=False) as bar,
    ):
        for shared, rows in plan:
            cache = prefix_sharing.compute(embedder, ids[rows[0]][:shared]) if shared else None
            work = functools.partial(_embed, embedder, layout, [ids[row][shared:] for row in rows], shared, cache)
            for places, output in _within_memory([len(ids[row]) - shared for row in rows], layout, work):
                if vectors is None:
                    vectors = allocate((len(ids), output.shape[1]))
                vectors[[rows[place] for place in places]] = output
                bar.update(len(places))
    embedder.train(was_training)
    return vectors


def _within_memory(
    lengths: list[int], layout: Layout, work: Callable[[list[int], int], np.ndarray]
) -> Iterator[tuple[list[int], np.ndarray]]:
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
    rows: list[int],
    budget: int,
) -> np.ndarray:
    """Vectors of one batch, behind a shared prefix where there is one."""
    features = batches.tensors([ids[row] for row in rows], layout, budget, shared)
    features = {key: value.to(embedder.device) for key, value in features.items()}
    output = prefix_sharing.embed(embedder, features, cache) if cache else embedder(features)["sentence_embedding"]
    return output[: len(rows)].float().cpu().numpy()


class Helper:
    """A process that holds a checkpoint on its device and encodes the ids sent to it; it ends with its last reference.

    Args:
        threads: what it computes with.

    Raises:
        UserError: from `send` and `receive`: one line on what went wrong in the process.
    """

    def __init__(self, source: Checkpoint, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.device, self.threads, self.loaded = source.device, threads, False
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(source, threads, end), daemon=True)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for this process to handle
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        end.close()

    def send(self, ids: list[list[int]]) -> None:
        """Hand over a share, once the model is loaded."""
        if not self.loaded:
            self.loaded = self.receive()
        try:
            self.pipe.send(ids)
        except OSError:
            self._has_ended()

    def receive(self) -> np.ndarray | bool:
        """Vectors (rows, dim) of the oldest share that was sent."""
        try:
            found = self.pipe.recv()
        except (EOFError, OSError):
            self._has_ended()
        if isinstance(found, str):
            raise UserError(found)
        return found

    def _has_ended(self) -> NoReturn:
        self.process.join()
        code = self.process.exitcode
        raise UserError(
            f"device {self.device}: its process ended with exit code {code} (out of memory?); name fewer devices"
        ) from None


def helpers(source: Checkpoint) -> list[Helper]:
    """A process for each of the checkpoint's devices but the first, which is this process's; the cores are shared."""
    threads = max(1, torch.get_num_threads() // (len(source.devices) or 1))
    return [Helper(source.on((device,)), threads) for device in source.devices[1:]]


def _serve(source: Checkpoint, threads: int, pipe: Connection) -> None:
    """Load the checkpoint, say so, and answer each share with its vectors, or with one line on what went wrong."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cli.keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        if source.device.startswith("cuda"):
            torch.cuda.set_device(source.device)  # kernels of other libraries take the current one
        embedder = source.load()
        pipe.send(True)
        while True:
            ids = pipe.recv()
            pipe.send(encode_ids(embedder, ids, source.precision, "", source.recipe.prompts.share_prefix))
    except Exception as error:
        line = f"device {source.device}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        with suppress(OSError):  # nobody is left to ask
            pipe.send(str(error) if isinstance(error, UserError) else line)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _spread(
    helpers: Sequence[Helper],
    embedder: SentenceTransformer,
    ids: list[list[int]],
    precision: str,
    title: str,
    share_prefix: bool,
    allocate: Allocate,
) -> np.ndarray:
    """`encode_ids` in this process and its helpers at once."""
    parts = shares(ids, len(helpers) + 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(helpers[0].threads)
    try:
        for helper, rows in zip(helpers, parts[1:], strict=False):
            helper.send([ids[row] for row in rows])
        own = encode_ids(embedder, [ids[row] for row in parts[0]], precision, title, share_prefix)
        vectors = allocate((len(ids), own.shape[1]))
        vectors[parts[0]] = own
        for helper, rows in zip(helpers, parts[1:], strict=False):
            vectors[rows] = helper.receive()
    except BaseException:
        for helper in helpers:
            helper.process.kill()
        raise
    finally:
        torch.set_num_threads(threads)
    return vectors


def shares(ids: list[list[int]], count: int) -> list[list[int]]:
    """Row numbers of up to `count` shares with about as many tokens each; rows that start alike stand together.

    >>> shares([[1, 2], [7], [1, 3], [8]], 2)
    [[0, 2], [1, 3]]
    """
    order = np.array(sorted(range(len(ids)), key=lambda row: ids[row]))
    starts = np.cumsum([0, *(len(ids[row]) for row in order)])
    share = starts[:-1] * count // starts[-1]
    return [order[share == number].tolist() for number in np.unique(share)]
