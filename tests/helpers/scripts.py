"""Run the project's scripts in a process of their own."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def call(script: str, *flags: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run a script of `scripts/` with flags and return its exit status and output."""
    command = [sys.executable, str(SCRIPTS / script), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL)


def assert_one_line(result: subprocess.CompletedProcess, *parts: str) -> None:
    """Check that a script failed with a single error line that holds each of `parts`."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert all(part in result.stderr for part in parts), result.stderr
