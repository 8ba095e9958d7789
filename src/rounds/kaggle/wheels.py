"""Wheelhouse: a wheel of the project and of all that it needs and the target machine lacks, for `pip --no-index`.

The target is another Python on another machine, so pip's resolver cannot look at what is installed there: what the
machine has is read from its `pip freeze`, and requirements are followed from wheel to wheel until none is open.
"""

import email.parser
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from rounds.errors import UserError

ANY = ""  # the version of a package that the machine has, in whatever version

TORCH = ("torch", "triton", "nvidia-*", "cuda-*")  # gigabytes that every GPU image brings


@dataclass(frozen=True)
class Target:
    """The machine that installs from the wheelhouse.

    Attributes:
        python: `3.11`.
        platforms: wheel platforms that it takes, the best first.
        has: its packages, name -> version (`ANY` where unknown); names may end in `*`.
    """

    python: str
    platforms: tuple[str, ...]
    has: dict[str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+", self.python):
            raise UserError(f"python {self.python!r}: is not a version such as 3.11")

    def version_of(self, name: str) -> str | None:
        """The version it has of a package; None where it has none."""
        if name in self.has:
            return self.has[name]
        return next((value for key, value in self.has.items() if key[-1:] == "*" and name.startswith(key[:-1])), None)

    def satisfies(self, name: str, wanted: SpecifierSet) -> bool:
        """Whether what it has will do."""
        own = self.version_of(name)
        return own is not None and (own == ANY or wanted.contains(own, prereleases=True))

    @property
    def environment(self) -> dict[str, str]:
        """What markers of requirements are answered with."""
        return {
            **default_environment(), "python_version": self.python, "python_full_version": f"{self.python}.0",
            "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64",
            "implementation_name": "cpython", "platform_python_implementation": "CPython",
        }  # fmt: skip


def read_freeze(path: Path | None) -> dict[str, str]:
    """Packages of a `pip freeze`; without a file, torch and what comes with it.

    Raises:
        UserError: no such file, or a line that is no `name==version`.
    """
    if path is None:
        return dict.fromkeys(TORCH, ANY)
    if not path.is_file():
        raise UserError(f"{path}: no such file; it must hold what `pip freeze` prints in the notebook")
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise UserError(f"{path} line {number}: {text[:60]!r} is not name==version") from None
        pinned = [each.version for each in requirement.specifier if each.operator == "=="]
        found[canonicalize_name(requirement.name)] = pinned[0] if pinned else ANY
    return found


def build(project: Path, folder: Path, target: Target, extras_of_project: set[str] = frozenset()) -> list[Path]:
    """Fill an empty folder with wheels; returns them, the project's first.

    pip's own configuration (index, `PIP_FIND_LINKS`) says where wheels come from.

    Raises:
        UserError: a wheel cannot be built or is not to be had for the target.
    """
    with tempfile.TemporaryDirectory() as scratch:  # building leaves files beside the sources
        shutil.copytree(
            project / "src", Path(scratch) / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
        )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(project / name, Path(scratch) / name)
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), scratch)
    (own,) = folder.glob("*.whl")
    wheels = {_name(own): own}
    wanted: dict[str, SpecifierSet] = {}
    extras: dict[str, set[str]] = {}
    waiting = list(_requirements(own, extras_of_project, target))
    while waiting:
        requirement = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        news = requirement.extras - extras.setdefault(name, set())
        extras[name] |= requirement.extras
        wanted[name] = wanted.get(name, SpecifierSet()) & requirement.specifier
        if name not in wheels and target.satisfies(name, wanted[name]):
            continue
        if name not in wheels or not wanted[name].contains(_version(wheels[name]), prereleases=True):
            if name in wheels:
                wheels.pop(name).unlink()
            wheels[name] = _download(name, wanted[name], folder, target)
        elif not news:
            continue
        waiting += _requirements(wheels[name], extras[name], target)
    if left := list(missing(wheels.values(), target)):
        raise UserError(f"{folder}: the wheelhouse is not closed: {left[0]}")
    return list(wheels.values())


def missing(wheels: Iterable[Path], target: Target) -> Iterable[str]:
    """Requirements of the wheels that neither a wheel nor the target satisfies."""
    there = {_name(wheel): _version(wheel) for wheel in wheels}
    for wheel in wheels:
        for requirement in _requirements(wheel, set(), target):
            name = canonicalize_name(requirement.name)
            if name in there:
                if not requirement.specifier.contains(there[name], prereleases=True):
                    yield f"{wheel.name} needs {requirement}, {name} {there[name]} is there"
            elif not target.satisfies(name, requirement.specifier):
                yield f"{wheel.name} needs {requirement}"


def _requirements(wheel: Path, extras: Iterable[str], target: Target) -> Iterable[Requirement]:
    """What a wheel needs on the target."""
    for text in _metadata(wheel).get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        marks = [{**target.environment, "extra": extra} for extra in ("", *sorted(extras))]
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in marks):
            yield requirement


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def _name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _version(wheel: Path) -> Version:
    try:
        return parse_wheel_filename(wheel.name)[1]
    except InvalidVersion:
        raise UserError(f"{wheel}: is not a wheel's name") from None


def _download(name: str, wanted: SpecifierSet, folder: Path, target: Target) -> Path:
    """Fetch a wheel, in the version that is installed here where that will do: other versions give other vectors."""
    platforms = [part for each in target.platforms for part in ("--platform", each)]
    fixed = [f"{name}=={here}"] if (here := _installed(name)) and wanted.contains(here, prereleases=True) else []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for text in (*fixed, f"{name}{wanted}"):
            try:
                _pip(
                    "download", "--no-deps", "--only-binary=:all:", *platforms, "--python-version", target.python,
                    "--implementation", "cp", "--dest", scratch, text,
                )  # fmt: skip
                break
            except UserError:
                if text not in fixed:
                    raise
        (found,) = Path(scratch).glob("*.whl")
        return found.rename(folder / found.name)


def _installed(name: str) -> str | None:
    """The version here, without what a local build appends to it."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip().startswith("ERROR")]
        said = lines[-1].removeprefix("ERROR: ") if lines else "no message"
        raise UserError(f"pip {arguments[0]} {arguments[-1]} failed: {said}")
