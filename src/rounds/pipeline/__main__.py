"""`python -m rounds.pipeline TARGET NAME=value ...`: what the rules of the Makefile call."""

import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from rounds.errors import UserError
from rounds.pipeline import hosts, settings, status, targets, variables
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.runner import Failed, Runner
from rounds.pipeline.session import Session

INTERRUPTED = 130
GOALS = "ROUNDS_GOALS"  # environment variable with all targets of make's command line


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a target; returns the exit status: 2 for what the user can put right, else the failing script's."""
    try:
        return _run(arguments, environment)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # no space, no permission: its text names the path
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failed as failure:
        return failure.status
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    names = [argument for argument in arguments if "=" not in argument]
    if len(names) != 1:
        raise UserError(f"name one target, not {len(names)}; make help lists all")
    (name,) = names
    flags, named = make_flags(environment.get("MAKEFLAGS", ""))
    if "t" in flags or "q" in flags:
        raise UserError("make -t and make -q judge by files' times, and stages are judged by content: use make status")
    for variable in named:
        settings.check_name(variable)
    given = settings.read([argument for argument in arguments if "=" in argument], environment)
    if name != "status" and not targets.is_known(name):
        near = difflib.get_close_matches(name, ["status", "round1", *targets.TARGETS], n=1, cutoff=0.0)[0]
        raise UserError(f"{name}: no such target; did you mean {near}? make help lists all")
    named += [argument.partition("=")[0] for argument in arguments if "=" in argument]
    variables.check(named, [name, *environment.get(GOALS, "").split()])
    if given.hosts and (number := hosts.copy_number(environment)):
        print(f"{name}: copy {number} of this make ends here; the first trains on all of HOSTS", flush=True)
        return 0
    given = given.resolve(name)
    if name == "status":
        status.show(Experiment(given), Console())
    else:
        targets.run(name, Session(given, Runner(given.dry or "n" in flags)))
    return 0


def make_flags(text: str) -> tuple[str, list[str]]:
    """Single-letter flags of the make that called, and names of the variables on its command line.

    >>> make_flags(r"ks -j2 -- RUNS=a\\ b=c SPLIT=v1")
    ('ks', ['RUNS', 'SPLIT'])
    """
    options, _, overrides = text.partition("-- ")
    first = options.split(" ")[0]
    letters = first if re.fullmatch(r"[A-Za-z]+", first) else ""
    words = re.split(r"(?<!\\) ", overrides)
    return letters, [word.partition("=")[0].rstrip(":+?") for word in words if "=" in word]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
