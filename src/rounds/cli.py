"""What every stage script shares: flags from a dataclass, errors as one line, exit code 2."""

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rounds.artifacts import refusals
from rounds.artifacts.store import is_main_process
from rounds.errors import Refused, UserError

Flags = TypeVar("Flags")


def run(main: Callable[[Flags], None], flags_class: type[Flags]) -> None:
    """Parse the command line into `flags_class`, call `main` with it, and turn a `UserError` into one line.

    Booleans take a value (`--use_examples_in_query=False` means false); a bare `--flag` means true.
    """
    quiet_libraries()
    keep_freed_memory()
    from transformers import HfArgumentParser  # slow to import, so not at the top
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    parser = HfArgumentParser(flags_class, description=main.__doc__, allow_abbrev=False)
    flags, unknown = parser.parse_args_into_dataclasses(return_remaining_strings=True)
    if unknown:
        parser.error(f"unknown flag {unknown[0]}")
    try:
        main(flags)
    except UserError as error:
        if is_main_process():
            print(f"error: {error}", file=sys.stderr)
            if isinstance(error, Refused) and hasattr(flags, "model_output"):
                refusals.note(Path(flags.model_output), Path(sys.argv[0]).stem, sys.argv[1:], str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # no space, no permission, a folder where a file should be: its text names the path
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks: handed back to the kernel, they cost a tenth of a step in page faults."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    largest_blocks_by_mmap, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    mallopt(largest_blocks_by_mmap, 0)
    mallopt(trim_threshold, 2**31 - 1)


def quiet_libraries() -> None:
    """Leave the screen to our own lines: the libraries' start-up notices are no news to the user."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # nothing forks without exec
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # processes that libraries start
    warnings.filterwarnings("ignore")
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    logging.getLogger("bm25s").setLevel(logging.WARNING)
