"""Wheelhouse: wheels of the project and of all requirements that the target machine lacks, for `pip --no-index`.

The target is another Python on another machine, so pip's resolver cannot see what is installed there. Its packages are
read from its `pip freeze`, and requirements are followed from wheel to wheel until all are satisfied.

uv's resolver takes a platform too, and finds the same versions for an image that has torch alone. But it excludes a
package by name only, whatever version is required, does not see which packages of the image a wheel breaks, and
downloads no wheels.
"""

import email.parser
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from rounds.errors import UserError
from rounds.kaggle import pip

ANY = ""  # an unknown version, which satisfies every requirement

TORCH = ("torch", "triton", "nvidia-*", "cuda-*")  # gigabytes that are part of every GPU image

CUDA = "cu"  # how the local version of torch's wheels for NVIDIA's GPUs begins

OLDEST_GLIBC = 5  # minor version of the oldest glibc for which there are wheels, 2.5

MANYLINUX_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # by glibc's minor version


@dataclass(frozen=True)
class Target:
    """The machine that installs from the wheelhouse.

    Attributes:
        python: Its Python version, such as `3.11`.
        platforms: Platform tags of the wheels that it installs, the best first; a manylinux tag stands for those of
            older glibc versions too.
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
    def tags(self) -> list[str]:
        """Return all platform tags of the wheels that it installs, those of the newest glibc first."""
        return list(dict.fromkeys(tag for platform in self.platforms for tag in _with_older_glibc(platform)))

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


def _with_older_glibc(platform: str) -> list[str]:
    """Return a platform tag and those of older versions of glibc, as pip knows only some of these by itself."""
    match = re.fullmatch(r"manylinux(?:_2_(\d+)|1|2010|2014)_(\w+)", platform)
    if match is None:
        return [platform]
    alias = platform.partition("_")[0]
    newest = int(match[1] or next(minor for minor, name in MANYLINUX_ALIASES.items() if name == alias))
    tags = []
    for minor in range(newest, OLDEST_GLIBC - 1, -1):
        names = [f"manylinux_2_{minor}", *filter(None, [MANYLINUX_ALIASES.get(minor)])]
        tags += [f"{name}_{match[2]}" for name in names]
    return tags


def read_freeze(path: Path | None) -> dict[str, str]:
    """Return the packages that a `pip freeze` lists, name -> version; without a file, torch and its companions.

    Raises:
        UserError: There is no such file, it is not text, or a line is not `name==version`.
    """
    if path is None:
        return dict.fromkeys(TORCH, ANY)
    if not path.is_file():
        raise UserError(f"{path}: no such file; it must hold what `pip freeze` prints in the notebook")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save what `pip freeze` prints in the notebook as such") from None
    versions = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise UserError(f"{path} line {number}: {text[:60]!r} is not name==version") from None
        pinned = [clause.version for clause in requirement.specifier if clause.operator == "=="]
        versions[canonicalize_name(requirement.name)] = pinned[0] if pinned else _version_in_url(requirement.url)
    return versions


def _version_in_url(url: str | None) -> str:
    """Return the version in the address of a wheel, from which a package was installed; `ANY` if there is none."""
    try:
        return str(parse_wheel_filename(unquote(PurePosixPath(urlsplit(url or "").path).name))[1])
    except (InvalidWheelFilename, InvalidVersion, ValueError):
        return ANY


def build(project: Path, folder: Path, target: Target, extras: set[str] = frozenset()) -> list[Path]:
    """Fill an empty folder with wheels and return them, the project's first.

    Packages of the target that a wheel breaks, as numpy 2 breaks an old numba, are replaced if code of the bundle may
    import them; the others are named in a printed line.

    pip's own configuration (index, `PIP_FIND_LINKS`) decides where wheels are downloaded from.

    Args:
        project: The project's root.
        folder: The folder to fill.
        target: The machine that installs from the folder.
        extras: The project's optional dependencies to include.

    Raises:
        UserError: A wheel cannot be built, or there is none for the target.
    """
    return collect(_build_project(project, folder), target, extras)


def collect(project_wheel: Path, target: Target, extras: set[str] = frozenset()) -> list[Path]:
    """Download what a project's wheel needs into its folder, as `build` does, and return all wheels, its own first.

    Raises:
        UserError: The target's Python is too old for the project, or there is no wheel for the target.
    """
    folder, needed = project_wheel.parent, SpecifierSet(_metadata(project_wheel).get("Requires-Python") or "")
    if not needed.contains(target.environment["python_full_version"]):
        raise UserError(f"python {target.python}: {project_wheel.name} needs Python {needed}; take a newer image")
    wheelhouse = _Wheelhouse(folder, target, {_name(project_wheel): project_wheel})
    wheelhouse.follow(_requirements(project_wheel, extras, target))
    broken = wheelhouse.replace_broken()
    wheels = list(wheelhouse.wheels.values())
    for path in set(folder.glob("*.whl")).difference(wheels):
        path.unlink()
    if unsatisfied := list(missing(wheels, target)):
        raise UserError(f"{folder}: the wheels do not satisfy each other: {unsatisfied[0]}")
    if broken:
        print(f"packages of the image that will no longer work in the notebook: {'; '.join(sorted(broken.values()))}")
    return wheels


@dataclass
class _Wheelhouse:
    """Wheels for a target, while they are collected.

    Attributes:
        folder: The folder of the wheels; those that were given up stay in it for now.
        target: The machine that installs them.
        wheels: Package name -> wheel.
        specifiers: Package name -> the specifiers of all requirements so far.
        extras: Package name -> the extras of all requirements so far.
    """

    folder: Path
    target: Target
    wheels: dict[str, Path]
    specifiers: dict[str, SpecifierSet] = field(default_factory=dict)
    extras: dict[str, set[str]] = field(default_factory=dict)

    def follow(self, requirements: Iterable[Requirement]) -> None:
        """Download what the requirements lack on the target, and what that requires, to the end.

        Raises:
            UserError: There is no wheel for the target.
        """
        queue = list(requirements)
        while queue:
            requirement = queue.pop(0)
            name = canonicalize_name(requirement.name)
            known_extras = self.extras.get(name, set())
            self.extras[name] = known_extras | requirement.extras
            self.specifiers[name] = self.specifiers.get(name, SpecifierSet()) & requirement.specifier
            if name not in self.wheels and self.target.satisfies(name, self.specifiers[name]):
                continue
            wheel = self.wheels.get(name)
            if wheel is None or not self.specifiers[name].contains(_version(wheel), prereleases=True):
                self.wheels[name] = _download(name, self.specifiers[name], self.folder, self.target)
            elif requirement.extras <= known_extras:
                continue
            queue += _requirements(self.wheels[name], self.extras[name], self.target)

    def replace_broken(self) -> dict[str, str]:
        """Add newer versions of the target's packages that a wheel breaks and that the wheels' code may import.

        Returns:
            Package name -> what it requires, of the packages that stay broken.
        """
        versions = {name: version for name, version in self.target.has.items() if version != ANY and name[-1:] != "*"}
        if not versions.keys() & self.wheels.keys():
            return {}
        requirements = _read_requirements(
            {name: v for name, v in versions.items() if name not in self.wheels}, self.target
        )
        tried: set[str] = set()
        while True:
            broken = self._find_broken(requirements)
            names = (broken.keys() & self._importable(requirements)) - tried
            if not names:
                return broken
            for name in sorted(names):
                self._replace(name, versions[name])
            tried |= names

    def _find_broken(self, requirements: dict[str, list[Requirement]]) -> dict[str, str]:
        """Return the target's packages whose requirement the target satisfies, but a wheel does not."""
        broken = {}
        for package in requirements.keys() - self.wheels.keys():
            for requirement in requirements[package]:
                wheel = self.wheels.get(name := canonicalize_name(requirement.name))
                if wheel is None or not self.target.satisfies(name, requirement.specifier):
                    continue
                if not requirement.specifier.contains(_version(wheel), prereleases=True):
                    version = self.target.has[package]
                    broken[package] = (
                        f"{package} {version} (needs {name}{requirement.specifier}, gets {_version(wheel)})"
                    )
        return broken

    def _importable(self, requirements: dict[str, list[Requirement]]) -> set[str]:
        """Return the packages that the wheels name, also as optional ones, and what these require on the target."""
        queue = [text for wheel in self.wheels.values() for text in _metadata(wheel).get_all("Requires-Dist") or []]
        queue = [canonicalize_name(Requirement(text).name) for text in queue]
        names: set[str] = set()
        while queue:
            name = queue.pop()
            if name not in names:
                names.add(name)
                queue += [canonicalize_name(requirement.name) for requirement in requirements.get(name, [])]
        return names

    def _replace(self, name: str, installed: str) -> None:
        """Add a newer version of a package that fits the wheels; if there is none, change nothing."""
        before = dict(self.wheels), dict(self.specifiers), dict(self.extras)
        pins = [f"{package}=={_version(wheel)}" for package, wheel in list(self.wheels.items())[1:]]
        try:
            packages = pip.resolve(_pip_flags(self.target), *pins, f"{name}>{Version(installed).public}")
            (version,) = [package["version"] for package in packages if canonicalize_name(package["name"]) == name]
            self.follow([Requirement(f"{name}=={version}")])
        except UserError:
            self.wheels, self.specifiers, self.extras = before


def _read_requirements(versions: dict[str, str], target: Target) -> dict[str, list[Requirement]]:
    """Return the requirements of the target's packages that hold on it; unknown packages are left out."""
    local = {name: requires(name) or [] for name, version in versions.items() if _installed(name) == version}
    public = {name: version.partition("+")[0] for name, version in versions.items() if name not in local}
    texts = local | pip.read_requirements(_pip_flags(target), public)
    return {name: list(_applicable(lines, (), target)) for name, lines in texts.items()}


def _build_project(project: Path, folder: Path) -> Path:
    """Build the project's wheel from a copy, as building leaves files beside the sources."""
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(project / "src", Path(scratch) / "src", ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(project / name, Path(scratch) / name)
        pip.run("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), scratch)
    (wheel,) = folder.glob("*.whl")
    return wheel


def replacements(wheels: Iterable[Path], target: Target) -> list[str]:
    """Return `name==version` of the wheels that take the place of a package of the target."""
    return [f"{_name(wheel)}=={_version(wheel)}" for wheel in wheels if target.version_of(_name(wheel)) is not None]


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
    return _applicable(_metadata(wheel).get_all("Requires-Dist") or [], extras, target)


def _applicable(texts: Iterable[str], extras: Iterable[str], target: Target) -> Iterable[Requirement]:
    """Yield the requirements whose markers hold on the target, with these extras."""
    environments = [{**target.environment, "extra": extra} for extra in ("", *sorted(extras))]
    for requirement in map(Requirement, texts):
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

    Raises:
        UserError: There is no wheel for the target, or only one of torch that would leave its GPU unused.
    """
    flags = ["--no-deps", *_pip_flags(target)]
    requirements = [f"{name}{specifier}"]
    if (installed := _installed(name)) and specifier.contains(installed, prereleases=True):
        requirements.insert(0, f"{name}=={installed}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for requirement in requirements:
            try:
                pip.run("download", *flags, "--dest", scratch, requirement)
                break
            except UserError:
                if requirement == requirements[-1]:
                    raise
        (wheel,) = Path(scratch).glob("*.whl")
        build = _version(wheel).local or CUDA  # the wheels of PyPI name none
        if name == "torch" and not build.startswith(CUDA):
            raise UserError(
                f"{wheel.name}: is not built for the notebook's GPU; take an image with torch{specifier}, or another "
                "index (PIP_INDEX_URL)"
            )
        return wheel.rename(folder / wheel.name)


def _installed(name: str) -> str | None:
    """Return the version that is installed here, without the suffix of a local build."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _pip_flags(target: Target) -> list[str]:
    """Return the flags by which pip selects wheels for the target."""
    platforms = [flag for tag in target.tags for flag in ("--platform", tag)]
    return ["--only-binary=:all:", *platforms, "--python-version", target.python, "--implementation", "cp"]
