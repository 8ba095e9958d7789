"""Run a stage script: read flags into a dataclass, print errors as one line, and exit with code 2."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from rounds import process
from rounds.artifacts import disk_space, refusals
from rounds.artifacts.store import is_main_process
from rounds.config import loader
from rounds.errors import Refused, UserError
from rounds.flags import Replacing, Seeded
from rounds.pipeline import keys, locks
from rounds.pipeline.keys import Command

Flags = TypeVar("Flags")


def run(main: Callable[[Flags], None], flags_class: type[Flags]) -> None:
    """Parse the command line into `flags_class` and call `main` with it.

    Booleans take a value (`--use_examples_in_query=False` means false); a bare `--flag` means true. A `UserError` or
    `OSError` is printed as one line, and the process exits with code 2.
    """
    process.quiet_libraries()
    process.keep_freed_memory()
    from transformers import HfArgumentParser  # slow to import, so not at the top
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    parser = HfArgumentParser(flags_class, description=main.__doc__, allow_abbrev=False)
    flags, unknown = parser.parse_args_into_dataclasses(return_remaining_strings=True)
    if unknown:
        parser.error(f"unknown flag {unknown[0]}{_way_out(unknown[0], flags)}")
    try:
        if isinstance(flags, Seeded):
            flags.check_seed()
        with _stage(flags) if getattr(flags, "replace_stale", False) else nullcontext():
            with disk_space.required_for(_output(flags)):
                main(flags)
    except UserError as error:
        if is_main_process():
            print(f"error: {error}", file=sys.stderr)
            if isinstance(error, Refused) and hasattr(flags, "model_output"):
                refusals.record(Path(flags.model_output), Path(sys.argv[0]).stem, sys.argv[1:], str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # such as no space or no permission; its message names the path
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _way_out(unknown: str, flags: object) -> str:
    """Return how to set what an unknown flag names, where that is a key of the recipe that a script takes."""
    key = unknown.removeprefix("--").partition("=")[0].replace("-", "_")
    section = loader.section_of(key) if hasattr(flags, "recipe") else ""
    return f"; {loader.way_to_set(key, section, flags.recipe or loader.DEFAULT_RECIPE)}" if section else ""


def _output(flags: object) -> Path:
    """Return the file or folder that a script writes, as its flags name it."""
    values = (getattr(flags, name, "") for name in ("output_dir", "output_file", "output", "model_output"))
    return Path(next(filter(None, values), "."))


@contextmanager
def _stage(flags: Replacing) -> Iterator[None]:
    """Tell a pipeline stage by its flags what its output is made from, and lock the output.

    Where several processes share the work, the one that writes holds the output's lock.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    call = Command(Path(sys.argv[0]).stem, keys.parse(sys.argv[1:]), processes)
    output = Path(call.value(keys.SCRIPTS[call.script].output))
    with locks.output(output) if is_main_process() else nullcontext():
        flags.made_from = keys.made_from(call)
        yield
