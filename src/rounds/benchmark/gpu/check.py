"""GPU check: measure the 7B decoder on a GPU, in sections that fail independently."""

import io
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch

from rounds.benchmark.gpu import (
    compile_section,
    encoding_section,
    fp16_section,
    round_section,
    search_section,
    training_section,
)
from rounds.benchmark.gpu.harness import GIB, Harness
from rounds.benchmark.gpu.results import TABLE, CheckResults, SectionResults, SectionSkipped
from rounds.errors import UserError
from rounds.models import checkpoint

KEPT_LINES = 12  # last lines of a traceback, and of a section's printed output, that the results keep


@dataclass(frozen=True)
class CheckSection:
    """Describe a section of the check.

    Attributes:
        measure: Function that measures, and adds rows and checks to the results.
        seconds: Estimated time on an H100; with less time left, the section is skipped.
    """

    measure: Callable[[Harness, SectionResults], None]
    seconds: float


# The most important sections come first, because a run that is cut short has only these.
SECTIONS = {
    "encode": CheckSection(encoding_section.run, 80),
    "train": CheckSection(training_section.run, 120),
    "fp16": CheckSection(fp16_section.run, 60),
    "round": CheckSection(round_section.run, 75),
    "search": CheckSection(search_section.run, 45),
    "compile": CheckSection(compile_section.run, 75),
}


@dataclass(frozen=True)
class CheckOptions:
    """Choose what to run.

    Attributes:
        minutes: Time for all sections together.
        sections: Names of sections, in any order; empty for all.
        small: Use tiny models on a CPU.
        output: Folder of the results.
    """

    minutes: float
    sections: Sequence[str]
    small: bool
    output: Path


def run(
    options: CheckOptions, log: Callable[[str], None], sections: dict[str, CheckSection] = SECTIONS
) -> CheckResults:
    """Run the sections that fit into the time budget, one after the other, and log a line after each.

    Raises:
        UserError: A section is unknown, `minutes` is not positive, or there is no GPU and `small` is not set.
    """
    start = time.perf_counter()
    _check_options(options, sections)
    results = CheckResults(options.output, describe_machine(options.small))
    with tempfile.TemporaryDirectory() as scratch:
        # Compiling takes about a minute of one core, so it runs beside the first sections.
        harness = Harness("cpu" if options.small else "cuda", options.small, Path(scratch))
        for name, section in sections.items():
            if options.sections and name not in options.sections:
                continue
            seconds_left = options.minutes * 60 - (time.perf_counter() - start)
            log(f"{name}: {run_section(results, harness, name, section, seconds_left)}")
    log(f"{options.output / TABLE}: {time.perf_counter() - start:.0f} s in all")
    return results


def _check_options(options: CheckOptions, sections: dict[str, CheckSection]) -> None:
    if unknown := [name for name in options.sections if name not in sections]:
        raise UserError(f"sections {','.join(unknown)}: no such section; there are {', '.join(sections)}")
    if not options.minutes > 0:
        raise UserError(f"minutes {options.minutes:g}: must be above 0")
    if not options.small and not torch.cuda.is_available():
        raise UserError("this machine has no CUDA GPU; pass --small to run the same on tiny models on a CPU")


def run_section(results: CheckResults, harness: Harness, name: str, section: CheckSection, seconds_left: float) -> str:
    """Run one section and return a line about it; an error ends this section only."""
    section_results, start = results.start(name), time.perf_counter()
    seconds_needed = 0 if harness.small else section.seconds
    if seconds_left < seconds_needed or seconds_left <= 0:
        reason = f"{max(seconds_left, 0):.0f} s are left, it takes about {seconds_needed:.0f}"
        return f"{section_results.end('skipped', start, reason=reason)} ({reason})"
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            section.measure(harness, section_results)
    except SectionSkipped as reason:
        return f"{section_results.end('skipped', start, reason=str(reason))} ({reason})"
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        trace = "\n".join(traceback.format_exc().splitlines()[-KEPT_LINES:])
        return f"{section_results.end('error', start, reason=reason, traceback=trace)} ({reason})"
    finally:
        section_results.content["printed"] = printed.getvalue().splitlines()[-KEPT_LINES:]
    return section_results.end("ok", start)


def describe_machine(small: bool) -> dict[str, str]:
    """Return the name of the GPU (or `CPU`) and the versions of the libraries."""
    description = {"device": "CPU"}
    if not small:
        gpu = torch.cuda.get_device_properties(0)
        description = {
            "device": gpu.name,
            "memory": f"{gpu.total_memory / GIB:.0f} GiB",
            "CUDA": str(torch.version.cuda),
        }
    return description | checkpoint.library_versions()
