"""Wheelhouse: wheels of the project and of all requirements that the target machine lacks, for `pip --no-index`.

The target is another Python on another machine, so pip's resolver cannot see what is installed there. Its packages are
read from its `pip freeze`, and requirements are followed from wheel to wheel until all are satisfied.
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

ANY = ""  # an unknown version, which satisfies every requirement

TORCH = ("torch", "triton", "nvidia-*", "cuda-*")  # gigabytes that are part of every GPU image


@dataclass(frozen=True)
class Target:
    """The machine that installs from the wheelhouse.

    Attributes:
        python: Its Python version, such as `3.11`.
        platforms: Platform tags of the wheels that it installs, the best first.
        has: Its packages, name -> version (`ANY` if unknown); a name may end in `*`.
    """

    python: str
    platforms: tuple[str, ...]
    has: dict[str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+", self.python):
            raise UserError(f"python {self.python!r}: is not a version such as 3.11")

    def version_of(self, name: str) -> str | None:
        """Return the installed version of a package, or None if it is not installed."""
        if name in self.has:
            return self.has[name]
        return next((value for key, value in self.has.items() if key[-1:] == "*" and name.startswith(key[:-1])), None)

    def satisfies(self, name: str, specifier: SpecifierSet) -> bool:
        """Return whether the installed version of a package satisfies a requirement."""
        installed = self.version_of(name)
        return installed is not None and (installed == ANY or specifier.contains(installed, prereleases=True))

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which the markers of requirements are evaluated."""
        return {
            **default_environment(),
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "platform_machine": "x86_64",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def read_freeze(path: Path | None) -> dict[str, str]:
    """Return the packages that a `pip freeze` lists, name -> version; without a file, torch and its companions.

    Raises:
        UserError: There is no such file, or a line is not `name==version`.
    """
    if path is None:
        return dict.fromkeys(TORCH, ANY)
    if not path.is_file():
        raise UserError(f"{path}: no such file; it must hold what `pip freeze` prints in the notebook")
    versions = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise UserError(f"{path} line {number}: {text[:60]!r} is not name==version") from None
        pinned = [clause.version for clause in requirement.specifier if clause.operator == "=="]
        versions[canonicalize_name(requirement.name)] = pinned[0] if pinned else ANY
    return versions


def build(project: Path, folder: Path, target: Target, extras: set[str] = frozenset()) -> list[Path]:
    """Fill an empty folder with wheels and return them, the project's first.

    pip's own configuration (index, `PIP_FIND_LINKS`) decides where wheels are downloaded from.

    Args:
        project: The project's root.
        folder: The folder to fill.
        target: The machine that installs from the folder.
        extras: The project's optional dependencies to include.

    Raises:
        UserError: A wheel cannot be built, or there is none for the target.
    """
    project_wheel = _build_project(project, folder)
    wheels = {_name(project_wheel): project_wheel}
    specifiers: dict[str, SpecifierSet] = {}  # of all requirements of a package so far
    followed_extras: dict[str, set[str]] = {}
    queue = list(_requirements(project_wheel, extras, target))
    while queue:
        requirement = queue.pop(0)
        name = canonicalize_name(requirement.name)
        new_extras = requirement.extras - followed_extras.setdefault(name, set())
        followed_extras[name] |= requirement.extras
        specifiers[name] = specifiers.get(name, SpecifierSet()) & requirement.specifier
        if name not in wheels and target.satisfies(name, specifiers[name]):
            continue
        if name not in wheels or not specifiers[name].contains(_version(wheels[name]), prereleases=True):
            if name in wheels:
                wheels.pop(name).unlink()
            wheels[name] = _download(name, specifiers[name], folder, target)
        elif not new_extras:
            continue
        queue += _requirements(wheels[name], followed_extras[name], target)
    if unsatisfied := list(missing(wheels.values(), target)):
        raise UserError(f"{folder}: the wheels do not satisfy each other: {unsatisfied[0]}")
    return list(wheels.values())


def _build_project(project: Path, folder: Path) -> Path:
    """Build the project's wheel from a copy, as building leaves files beside the sources."""
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(project / "src", Path(scratch) / "src", ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(project / name, Path(scratch) / name)
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), scratch)
    (wheel,) = folder.glob("*.whl")
    return wheel


def missing(wheels: Iterable[Path], target: Target) -> Iterable[str]:
    """Yield a message for each requirement of the wheels that neither a wheel nor the target satisfies."""
    versions = {_name(wheel): _version(wheel) for wheel in wheels}
    for wheel in wheels:
        for requirement in _requirements(wheel, set(), target):
            name = canonicalize_name(requirement.name)
            if name in versions:
                if not requirement.specifier.contains(versions[name], prereleases=True):
                    yield f"{wheel.name} needs {requirement}, but the wheel of {name} has version {versions[name]}"
            elif not target.satisfies(name, requirement.specifier):
                yield f"{wheel.name} needs {requirement}"


def _requirements(wheel: Path, extras: Iterable[str], target: Target) -> Iterable[Requirement]:
    """Yield the requirements of a wheel whose markers hold on the target, with these extras."""
    for text in _metadata(wheel).get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        environments = [{**target.environment, "extra": extra} for extra in ("", *sorted(extras))]
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(file for file in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", file))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def _name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _version(wheel: Path) -> Version:
    try:
        return parse_wheel_filename(wheel.name)[1]
    except InvalidVersion:
        raise UserError(f"{wheel}: is not a file name of a wheel") from None


def _download(name: str, specifier: SpecifierSet, folder: Path, target: Target) -> Path:
    """Download the wheel of a package and return it.

    The version that is installed here is preferred, as other versions may compute other vectors.
    """
    platforms = [flag for platform in target.platforms for flag in ("--platform", platform)]
    flags = [
        "--no-deps",
        "--only-binary=:all:",
        *platforms,
        "--python-version",
        target.python,
        "--implementation",
        "cp",
    ]
    requirements = [f"{name}{specifier}"]
    if (installed := _installed(name)) and specifier.contains(installed, prereleases=True):
        requirements.insert(0, f"{name}=={installed}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for requirement in requirements:
            try:
                _pip("download", *flags, "--dest", scratch, requirement)
                break
            except UserError:
                if requirement == requirements[-1]:
                    raise
        (wheel,) = Path(scratch).glob("*.whl")
        return wheel.rename(folder / wheel.name)


def _installed(name: str) -> str | None:
    """Return the version that is installed here, without the suffix of a local build."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip().startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else "no message"
        raise UserError(f"pip {arguments[0]} {arguments[-1]} failed: {reason}")
