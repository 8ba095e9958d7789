"""pip's commands: a failure becomes one line, and the index is asked about packages of another machine."""

import json
import subprocess
import sys
import tempfile

from packaging.utils import canonicalize_name

from rounds.errors import UserError

BATCH = 50  # packages that one command looks up


def run(*arguments: str) -> str:
    """Run `pip ARGUMENTS` and return its standard output.

    Raises:
        UserError: pip failed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip().startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else "no message"
        raise UserError(f"pip {arguments[0]} {arguments[-1]} failed: {reason}")
    return result.stdout


def resolve(flags: list[str], *requirements: str) -> list[dict]:
    """Return what pip would install, without downloading it: the metadata of each package.

    Args:
        flags: pip's flags for the machine that the packages are for.
        requirements: What is required, as on pip's command line.

    Raises:
        UserError: A package is not on the index, or the requirements contradict each other.
    """
    with tempfile.TemporaryDirectory() as scratch:
        plan = ["--dry-run", "--ignore-installed", "--target", scratch, "--report", "-"]
        report = json.loads(run("install", *plan, *flags, *requirements))
    return [package["metadata"] for package in report["install"]]


def read_requirements(flags: list[str], versions: dict[str, str]) -> dict[str, list[str]]:
    """Return the requirements of packages by the index; packages that it does not have are left out.

    Args:
        flags: pip's flags for the machine that the packages are for.
        versions: Package name -> version.
    """
    names = list(versions)
    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    found = {}
    while batches:
        batch = batches.pop()
        try:
            packages = resolve(["--no-deps", *flags], *(f"{name}=={versions[name]}" for name in batch))
        except UserError as error:
            # pip stops at the first package that is not there. Where it does not name one, the batch is halved.
            reason = str(error).rpartition(" failed: ")[2]
            rest = [name for name in batch if f" {name}==" not in reason]
            half = len(batch) // 2
            parts = [rest] if len(rest) < len(batch) else [batch[:half], batch[half:]] if half else []
            batches += filter(None, parts)
            continue
        found |= {canonicalize_name(package["name"]): package.get("requires_dist") or [] for package in packages}
    return found
