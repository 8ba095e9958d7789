"""Devices: a checkpoint on several of them, each in a process of its own; texts are split and gathered in order."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NoReturn

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from rounds import process
from rounds.encoding.encoder import Allocate, encode_ids
from rounds.errors import UserError
from rounds.models.checkpoint import Checkpoint


class EncodingWorker:
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

    def send(self, ids: list[list[int]], seen: dict[str, np.ndarray] | None = None) -> None:
        """Hand over a share, once the model is loaded."""
        if not self.loaded:
            self.loaded = self.receive()
        try:
            self.pipe.send((ids, seen))
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


def start_workers(source: Checkpoint) -> list[EncodingWorker]:
    """A process for each of the checkpoint's devices but the first, which is this process's; the cores are shared."""
    threads = max(1, torch.get_num_threads() // len(source.options.devices))
    return [EncodingWorker(source.with_options(devices=(device,)), threads) for device in source.options.devices[1:]]


def _serve(source: Checkpoint, threads: int, pipe: Connection) -> None:
    """Load the checkpoint, say so, and answer each share with its vectors, or with one line on what went wrong."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    process.keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        if source.device.startswith("cuda"):
            torch.cuda.set_device(source.device)  # kernels of other libraries take the current one
        embedder = source.load()
        pipe.send(True)
        while True:
            ids, seen = pipe.recv()
            share = source.recipe.prompts.share_prefix
            pipe.send(encode_ids(embedder, ids, source.precision, "", share, seen=seen))
    except Exception as error:
        line = f"device {source.device}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        with suppress(OSError):  # nobody is left to ask
            pipe.send(str(error) if isinstance(error, UserError) else line)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def encode_on_workers(
    helpers: Sequence[EncodingWorker],
    embedder: SentenceTransformer,
    ids: list[list[int]],
    precision: str,
    title: str,
    share_prefix: bool,
    allocate: Allocate,
    seen: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """`encoding.encode_ids` in this process and its helpers at once."""
    parts = split_by_length(ids, len(helpers) + 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(helpers[0].threads)
    try:
        for helper, rows in zip(helpers, parts[1:], strict=False):
            helper.send([ids[row] for row in rows], _part(seen, rows))
        own = encode_ids(
            embedder, [ids[row] for row in parts[0]], precision, title, share_prefix, seen=_part(seen, parts[0])
        )
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


def _part(seen: dict[str, np.ndarray] | None, rows: list[int]) -> dict[str, np.ndarray] | None:
    return seen and {name: values[rows] for name, values in seen.items()}


def split_by_length(ids: list[list[int]], count: int) -> list[list[int]]:
    """Row numbers of up to `count` shares with about as many tokens each; rows that start alike stand together.

    >>> split_by_length([[1, 2], [7], [1, 3], [8]], 2)
    [[0, 2], [1, 3]]
    """
    order = np.array(sorted(range(len(ids)), key=lambda row: ids[row]))
    starts = np.cumsum([0, *(len(ids[row]) for row in order)])
    share = starts[:-1] * count // starts[-1]
    return [order[share == number].tolist() for number in np.unique(share)]
