"""Encode on several devices: each one but the first has a process of its own; texts are split and gathered in order."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import NoReturn

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds import process
from rounds.encoding import model_outputs
from rounds.encoding.encoder import (
    DEFAULT_OPTIONS,
    EncodingOptions,
    ImageFeatures,
    allocate_in_memory,
    encode_ids,
    select_rows,
    tell_overflow,
)
from rounds.errors import UserError
from rounds.estimate import OnProgress
from rounds.models.checkpoint import Checkpoint
from rounds.retrieval import representations
from rounds.retrieval.representation import Vectors


class EncodingWorker:
    """A process that holds a checkpoint on its device and embeds the token ids sent to it.

    The process ends with the last reference to this object.

    Args:
        threads: CPU threads of the process.

    Raises:
        UserError: from `send` and `receive`, with one line on what went wrong in the process.
    """

    def __init__(self, source: Checkpoint, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.device, self.threads, self.loaded = source.device, threads, False
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(source, threads, end), daemon=True)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is handled by the parent process
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        end.close()

    def send(
        self,
        ids: list[list[int]],
        image_features: ImageFeatures = None,
        names: Sequence[str] = (),
        kind: str = "passage",
    ) -> None:
        """Send token ids to embed, once the model is loaded; `names` and `kind` are as in `EncodingOptions`."""
        if not self.loaded:
            self.loaded = self.receive()
        try:
            self.pipe.send((ids, image_features, names, kind))
        except OSError:
            self._raise_ended()

    def receive(self) -> tuple[Vectors, int] | bool:
        """Return the vectors of the oldest token ids sent, and how many were computed again in a wider precision.

        First of all, return True when the model is loaded.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self._raise_ended()
        if isinstance(answer, str):
            raise UserError(answer)
        return answer

    def _raise_ended(self) -> NoReturn:
        self.process.join()
        code = self.process.exitcode
        raise UserError(
            f"device {self.device}: its process ended with exit code {code} (out of memory?); name fewer devices"
        ) from None


def start_workers(source: Checkpoint) -> list[EncodingWorker]:
    """Start a process for each of the checkpoint's devices but the first, which is this process's; share the cores."""
    threads = max(1, torch.get_num_threads() // len(source.options.devices))
    return [EncodingWorker(source.with_options(devices=(device,)), threads) for device in source.options.devices[1:]]


def _serve(source: Checkpoint, threads: int, pipe: Connection) -> None:
    """Load the checkpoint, send True, and answer token ids with vectors; on an error, send its message and end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    process.quiet_libraries()
    process.keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        if source.device.startswith("cuda"):
            torch.cuda.set_device(source.device)  # kernels of other libraries take the current device
        embedder = source.load()
        pipe.send(True)
        options = EncodingOptions(share_prefix=source.recipe.prompts.share_prefix)
        while True:
            ids, image_features, names, kind = pipe.recv()
            lost: list[int] = []
            named = dataclasses.replace(options, names=names, kind=kind, on_overflow=lost.append)
            pipe.send((encode_ids(embedder, ids, source.precision, named, image_features), sum(lost)))
    except Exception as error:
        line = f"device {source.device}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        with suppress(OSError):  # the parent may have ended
            pipe.send(str(error) if isinstance(error, UserError) else line)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def encode_on_workers(
    workers: Sequence[EncodingWorker],
    embedder: SentenceTransformer,
    ids: list[list[int]],
    precision: str,
    options: EncodingOptions = DEFAULT_OPTIONS,
    image_features: ImageFeatures = None,
) -> Vectors:
    """Embed token ids as `encoder.encode_ids` does, in this process and its workers at once.

    All workers are killed if one of them, or this process, fails.
    """
    parts = split_by_length(ids, len(workers) + 1)
    names = [options.names_of(rows) for rows in parts]
    lost: list[int] = []
    local_options = dataclasses.replace(
        options,
        allocate=allocate_in_memory,
        names=names[0],
        on_overflow=lost.append,
        on_tokens=_for_all_parts(options.on_tokens, sum(map(len, ids)) / sum(len(ids[row]) for row in parts[0])),
    )
    try:
        with _threads(workers[0].threads):
            for worker, rows, part_names in zip(workers, parts[1:], names[1:], strict=False):
                worker.send([ids[row] for row in rows], select_rows(image_features, rows), part_names, options.kind)
            local_ids, local_features = [ids[row] for row in parts[0]], select_rows(image_features, parts[0])
            local_vectors = encode_ids(embedder, local_ids, precision, local_options, local_features)
            counts = model_outputs.vector_counts(embedder, ids, options.kind)
            builder = representations.of(local_vectors).builder(counts, options.allocate)
            builder.put(parts[0], local_vectors)
            for worker, rows in zip(workers, parts[1:], strict=False):
                vectors, lost_count = worker.receive()
                builder.put(rows, vectors)
                lost.append(lost_count)
    except BaseException:
        for worker in workers:
            worker.process.kill()
        raise
    tell_overflow(precision, embedder, options, sum(lost), len(ids))
    return builder.finish()


def _for_all_parts(on_tokens: OnProgress, factor: float) -> OnProgress:
    """Return what multiplies this process's tokens to those of all, which encode as fast."""
    return lambda done, total: on_tokens(done * factor, total * factor)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of torch's CPU threads for the duration of a block."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def split_by_length(ids: list[list[int]], count: int) -> list[list[int]]:
    """Split token sequences into up to `count` parts of about as many tokens; equal prefixes stay together.

    Returns:
        the row numbers of each part; none is empty.

    >>> split_by_length([[1, 2], [7], [1, 3], [8]], 2)
    [[0, 2], [1, 3]]
    """
    order = np.array(sorted(range(len(ids)), key=lambda row: ids[row]))
    starts = np.cumsum([0, *(len(ids[row]) for row in order)])
    part = starts[:-1] * count // starts[-1]
    return [order[part == number].tolist() for number in np.unique(part)]
