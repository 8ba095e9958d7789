"""GPU check: measure the flagship model on a GPU, in sections that fail independently."""

import io
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch

from rounds.benchmark import compiling, encode, half, search, train, whole_round
from rounds.benchmark.bench import Bench
from rounds.benchmark.report import TABLE, Report, Section, Skipped
from rounds.errors import UserError
from rounds.models import checkpoint

LINES = 12  # of a traceback, and of what a section's stages print, that are kept


@dataclass(frozen=True)
class Part:
    """A section of the check.

    Attributes:
        work: Measures, and adds rows and checks to the report.
        seconds: Estimated time on an H100; with less time left, the section is skipped.
    """

    work: Callable[[Bench, Section], None]
    seconds: float


# In the order of what they prove: a run that is cut short has the first ones.
PARTS = {
    "encode": Part(encode.run, 80),
    "train": Part(train.run, 120),
    "fp16": Part(half.run, 60),
    "round": Part(whole_round.run, 75),
    "search": Part(search.run, 45),
    "compile": Part(compiling.run, 75),
}


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        minutes: Time for all sections together.
        sections: Names of sections, in any order; empty for all.
        small: Use tiny models on a CPU.
        output: Folder of the report.
    """

    minutes: float
    sections: Sequence[str]
    small: bool
    output: Path


def run(options: Options, say: Callable[[str], None], parts: dict[str, Part] = PARTS) -> Report:
    """Run the sections that fit into the time budget, one after the other, and log a line after each.

    Raises:
        UserError: A section is unknown, `minutes` is not positive, or there is no GPU and `small` is not set.
    """
    started = time.perf_counter()
    _check(options, parts)
    report = Report(options.output, machine(options.small))
    with tempfile.TemporaryDirectory() as scratch:
        metrics = None if options.small else whole_round.compile_metrics()  # beside the first sections
        bench = Bench("cpu" if options.small else "cuda", options.small, Path(scratch), metrics)
        for name, part in parts.items():
            if options.sections and name not in options.sections:
                continue
            left = options.minutes * 60 - (time.perf_counter() - started)
            say(f"{name}: {run_section(report, bench, name, part, left)}")
    say(f"{options.output / TABLE}: {time.perf_counter() - started:.0f} s in all")
    return report


def _check(options: Options, parts: dict[str, Part]) -> None:
    if unknown := [name for name in options.sections if name not in parts]:
        raise UserError(f"sections {','.join(unknown)}: no such section; there are {', '.join(parts)}")
    if not options.minutes > 0:
        raise UserError(f"minutes {options.minutes:g}: must be above 0")
    if not options.small and not torch.cuda.is_available():
        raise UserError("this machine has no CUDA GPU; pass --small to run the same on tiny models on a CPU")


def run_section(report: Report, bench: Bench, name: str, part: Part, left: float) -> str:
    """Run one section and return a line about it; an error ends this section only."""
    section, start = report.start(name), time.perf_counter()
    needed = 0 if bench.small else part.seconds
    if left < needed or left <= 0:
        reason = f"{max(left, 0):.0f} s are left, it takes about {needed:.0f}"
        return f"{section.end('skipped', start, reason=reason)} ({reason})"
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            part.work(bench, section)
    except Skipped as reason:
        return f"{section.end('skipped', start, reason=str(reason))} ({reason})"
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        trace = "\n".join(traceback.format_exc().splitlines()[-LINES:])
        return f"{section.end('error', start, reason=reason, traceback=trace)} ({reason})"
    finally:
        section.content["printed"] = printed.getvalue().splitlines()[-LINES:]
    return section.end("ok", start)


def machine(small: bool) -> dict[str, str]:
    """Return the name of the GPU (or `CPU`) and the versions of the libraries."""
    found = {"device": "CPU"}
    if not small:
        card = torch.cuda.get_device_properties(0)
        found = {"device": card.name, "memory": f"{card.total_memory / 2**30:.0f} GiB", "CUDA": str(torch.version.cuda)}
    return found | checkpoint.library_versions()
