"""Wheelhouse: complete for its target, from a folder of wheels in place of an index."""

import zipfile
from pathlib import Path

import pytest
from helpers.tiny_task import refused

from rounds.kaggle import wheels
from rounds.kaggle.wheels import ANY, Target

PYPROJECT = """\
[build-system]
requires = ["setuptools>=75"]
build-backend = "setuptools.build_meta"
[project]
name = "own"
version = "1.2"
dependencies = [{dependencies}]
[project.optional-dependencies]
more = ["extra-one"]
[tool.setuptools.packages.find]
where = ["src"]
"""


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """Write a wheel that holds only metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {need}\n" for need in needs
    )
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """Return the folder that is the only place from which pip takes wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def build(tmp_path: Path, *needs: str, has: dict[str, str] | None = None, extras: set[str] = frozenset()) -> set[str]:
    """Build the wheelhouse of a project with these requirements, and return the names and versions of its wheels."""
    project, folder = tmp_path / "project", tmp_path / "wheels"
    (project / "src" / "own").mkdir(parents=True)
    (project / "src" / "own" / "__init__.py").touch()
    for name in ("README.md", "LICENSE"):
        (project / name).touch()
    (project / "pyproject.toml").write_text(PYPROJECT.format(dependencies=", ".join(f'"{need}"' for need in needs)))
    folder.mkdir()
    built = wheels.build(project, folder, Target("3.11", ("manylinux2014_x86_64",), has or {}), extras)
    assert built[0].name.startswith("own-1.2") and set(folder.iterdir()) == set(built)
    assert sorted(path.name for path in project.iterdir()) == ["LICENSE", "README.md", "pyproject.toml", "src"]
    return {"-".join(path.name.split("-")[:2]) for path in built[1:]}


def test_requirements_of_requirements_are_included(index, tmp_path):
    """They are followed to the end; markers are evaluated for the target, not for this machine."""
    wheel(index, "a", "1.0", "b>=2", 'c; sys_platform == "win32"', 'd; python_version >= "3.11"')
    wheel(index, "b", "2.1")
    wheel(index, "d", "1.0", "a")
    assert build(tmp_path, "a") == {"a-1.0", "b-2.1", "d-1.0"}


def test_what_the_target_has_is_left_out(index, tmp_path):
    """So are its own requirements; `*` stands for a family of names, and an unknown version satisfies all."""
    wheel(index, "a", "1.0", "torch>=2", "nvidia-x", "b")
    wheel(index, "c", "1.0")
    has = {"torch": ANY, "nvidia-*": ANY, "b": "3.0"}
    assert build(tmp_path, "a", "c", has=has) == {"a-1.0", "c-1.0"}


def test_too_old_a_version_on_the_target_is_replaced(index, tmp_path):
    """A package whose version does not satisfy a requirement is included as a wheel."""
    wheel(index, "a", "1.0", "b>=2")
    wheel(index, "b", "2.5")
    assert build(tmp_path, "a", has={"b": "1.9"}) == {"a-1.0", "b-2.5"}


def test_a_later_requirement_may_lower_a_version(index, tmp_path):
    """A wheel that no longer fits is downloaded again in a version that fits all requirements."""
    wheel(index, "a", "1.0", "c")
    wheel(index, "b", "1.0", "d")
    wheel(index, "d", "1.0", "c<2")
    wheel(index, "c", "1.5")
    wheel(index, "c", "2.0")
    assert build(tmp_path, "a", "b") == {"a-1.0", "b-1.0", "d-1.0", "c-1.5"}


def test_extras_bring_their_requirements(index, tmp_path):
    """The extras of a requirement are followed, and those of the project that are asked for."""
    wheel(index, "a", "1.0", 'b; extra == "fast"')
    wheel(index, "b", "1.0")
    wheel(index, "extra_one", "1.0")
    assert build(tmp_path, "a[fast]", extras={"more"}) == {"a-1.0", "b-1.0", "extra_one-1.0"}


def test_a_missing_wheel_is_named(index, tmp_path):
    """A requirement that no wheel satisfies is refused by name."""
    wheel(index, "a", "1.0", "b>=2")
    with refused("pip download b>=2", "failed"):
        build(tmp_path, "a")


def test_unsatisfied_requirements_are_listed(index):
    """The check finds a wheel that is missing and one of the wrong version."""
    wheel(index, "a", "1.0", "b>=2", "c")
    wheel(index, "b", "1.0")
    messages = list(wheels.missing(sorted(index.iterdir()), Target("3.11", (), {})))
    assert len(messages) == 2 and "b>=2" in messages[0] and messages[1].endswith("needs c")


def test_a_freeze_is_read(tmp_path):
    """Names are compared in one form; local versions and direct references are read; a broken line is named."""
    path = tmp_path / "image.txt"
    path.write_text("# image\nTorch==2.6.0+cu124\nMy_Pkg==1\nlocal @ file:///x\n-e /y\n")
    assert wheels.read_freeze(path) == {"torch": "2.6.0+cu124", "my-pkg": "1", "local": ANY}
    assert wheels.read_freeze(None)["torch"] == ANY
    path.write_text("torch==2\n<html>\n")
    with refused(path, "line 2"):
        wheels.read_freeze(path)
    with refused("nowhere", "pip freeze"):
        wheels.read_freeze(tmp_path / "nowhere")
    with refused("3.11"):
        Target("311", (), {})
