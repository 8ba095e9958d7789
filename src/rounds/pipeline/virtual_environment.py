"""Make `.venv`, and make it anew where a failed set-up or another Python left one that cannot be installed into.

Only the standard library is imported, and no syntax newer than Python 3.8's, so that an old Python can say that it is.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

OLDEST = (3, 11)  # requires-python in pyproject.toml

FOLDER = Path(".venv")


def prepare(folder: Path, chosen: str, needs_pip: bool) -> str:
    """Make the environment unless a working one is there, and return the line to print; empty if it was kept.

    Args:
        folder: the environment's folder.
        chosen: the interpreter that the user asked for; empty keeps an environment of any Python that is new enough.
        needs_pip: packages are installed by pip, which must then be in the environment.

    Raises:
        SystemExit: this interpreter is too old, or cannot make environments.
    """
    reason = fault(folder, chosen, needs_pip) if folder.exists() else ""
    if folder.exists() and not reason:
        return ""
    version = "Python {}.{}".format(*sys.version_info[:2])
    if sys.version_info < OLDEST:
        oldest = "{}.{}".format(*OLDEST)
        raise SystemExit(f"error: {sys.executable} is {version}; name {oldest} or newer, such as PYTHON=python{oldest}")
    if reason:
        print(f"{folder} {reason}; making it anew", flush=True)
    _remove(folder)
    try:
        venv.create(str(folder), with_pip=True, symlinks=os.name == "posix")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        _remove(folder)
        hint = "install its venv package (Debian: apt install python3-venv), or name another with PYTHON="
        raise SystemExit(f"error: {sys.executable} cannot make {folder} ({type(error).__name__}); {hint}") from None
    return f"{folder} has {version}; installing takes a minute or two"


def fault(folder: Path, chosen: str, needs_pip: bool) -> str:
    """Return why an environment cannot be used, or an empty text."""
    python = folder / "bin" / "python"
    version = _run(python, "import sys; print(*sys.version_info[:3])")
    if version is None:
        return "has no Python that runs"
    numbers = tuple(map(int, version.split()))
    if numbers < OLDEST or (chosen and numbers != tuple(sys.version_info[:3])):
        return "is of Python {}.{}.{}".format(*numbers)
    if needs_pip and _run(python, "import pip._internal.cli.main") is None:  # `import pip` needs one small file
        return "has no pip that runs"
    return ""


def _remove(folder: Path) -> None:
    """Remove a folder, or the file or link in its place; what a link points to stays."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _run(python: Path, code: str) -> "str | None":
    """Return what an interpreter prints, or None if it fails."""
    try:
        result = subprocess.run(
            [str(python), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode() if result.returncode == 0 else None


if __name__ == "__main__":
    line = prepare(FOLDER, os.environ.get("PYTHON", ""), needs_pip=shutil.which("uv") is None)
    if line:
        print(line, flush=True)
