"""Settings of a whole process: memory that stays with it, and libraries that leave the screen to our own lines."""

import ctypes
import importlib
import logging
import os
import sys
import warnings
from pathlib import Path

SPINS = "2000"  # rounds of libgomp's waiting loop, some tens of microseconds, before a thread sleeps

WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


LIBRARY_WAITING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}  # what the libraries do unless they are told


def bound_spinning() -> None:
    """Have OpenMP's threads sleep soon after their part of a loop, instead of spinning for each other.

    By default they spin for milliseconds at each of a step's thousands of loops. Beside another busy program that is
    time in which the thread that they wait for could run, and a step takes ten times as long. OpenMP libraries read the
    environment when they are loaded, so call this before torch, faiss or scikit-learn is imported; processes that are
    started later inherit it. A user's own setting of any of the variables stays.
    """
    if not any(name in os.environ for name in WAITING_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = SPINS  # GNU: the wheels for Linux
        os.environ["KMP_BLOCKTIME"] = "1"  # milliseconds; LLVM and Intel: the wheels for macOS


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks: handed back to the kernel, they cost a tenth of a step in page faults."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    largest_blocks_by_mmap, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    mallopt(largest_blocks_by_mmap, 0)
    mallopt(trim_threshold, 2**31 - 1)


def memory_mib(line: str, pid: int | str = "self") -> float:
    """Return a figure of a process's memory in MiB, by Linux's name, such as RssAnon: see proc_pid_status(5)."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(found.split()[1]) for found in status if found.startswith(f"{line}:")) / 1024


def quiet_libraries() -> None:
    """Leave the screen to our own lines: the libraries' start-up notices are no news to the user."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # nothing forks without exec
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # processes that libraries start
    warnings.filterwarnings("ignore")
    for library in ("sentence_transformers", "peft", "bitsandbytes"):  # what matters of it, we say ourselves
        logging.getLogger(library).setLevel(logging.ERROR)
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    if "transformers" in sys.modules:  # it read the variables when it was imported, as in a notebook
        transformers_logging = importlib.import_module("transformers.utils.logging")
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
