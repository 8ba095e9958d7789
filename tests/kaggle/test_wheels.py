"""Wheelhouse: complete for its target, from a folder of wheels in place of an index."""

import zipfile
from pathlib import Path

import pytest
from helpers.tiny_task import refused
from packaging import tags

from rounds.kaggle import wheels
from rounds.kaggle.wheels import ANY, Target

PYPROJECT = """\
[build-system]
requires = ["setuptools>=75"]
build-backend = "setuptools.build_meta"
[project]
name = "own"
version = "1.2"
dependencies = ["a"]
[project.optional-dependencies]
more = ["extra-one"]
[tool.setuptools.packages.find]
where = ["src"]
"""


def wheel(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any", python: str = ">=3.8") -> None:
    """Write a wheel that holds only metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """Return the folder that is the only place from which pip takes wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def build(
    tmp_path: Path,
    *needs: str,
    has: dict[str, str] | None = None,
    extras: set[str] = frozenset(),
    platform: str = "manylinux2014_x86_64",
    python: str = "3.11",
) -> set[str]:
    """Collect what a project with these requirements needs, and return the names and versions of its wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "own", "1.2", *needs, 'extra-one; extra == "more"')
    (own,) = folder.iterdir()
    built = wheels.collect(own, Target(python, (platform,), has or {}), extras)
    assert built[0] == own and set(folder.iterdir()) == set(built)
    return {"-".join(path.name.split("-")[:2]) for path in built[1:]}


def test_the_projects_wheel_is_built_from_its_sources(index, tmp_path):
    """Its requirements and extras are read from it, and nothing is left beside the sources."""
    wheel(index, "a", "1.0")
    wheel(index, "extra_one", "1.0")
    project, folder = tmp_path / "project", tmp_path / "wheels"
    (project / "src" / "own").mkdir(parents=True)
    (project / "src" / "own" / "__init__.py").touch()
    for name in ("README.md", "LICENSE"):
        (project / name).touch()
    (project / "pyproject.toml").write_text(PYPROJECT)
    folder.mkdir()
    built = wheels.build(project, folder, Target("3.11", ("manylinux2014_x86_64",), {}), {"more"})
    names = ["-".join(path.name.split("-")[:2]) for path in built]
    assert names[0] == "own-1.2" and sorted(names[1:]) == ["a-1.0", "extra_one-1.0"]
    assert sorted(path.name for path in project.iterdir()) == ["LICENSE", "README.md", "pyproject.toml", "src"]


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


@pytest.mark.parametrize("built_for", ["manylinux_2_35", "manylinux_2_24", "manylinux2014", "manylinux_2_5"])
def test_wheels_for_every_glibc_up_to_the_targets_are_taken(built_for, index, tmp_path):
    """A machine with glibc 2.35 installs wheels that were built for it or for an older one, under any of its tags."""
    wheel(index, "a", "1.0", tag=f"py3-none-{built_for}_x86_64")
    assert build(tmp_path, "a", platform="manylinux_2_35_x86_64") == {"a-1.0"}


def test_the_tags_are_those_of_packaging():
    """A manylinux tag stands for all that the `packaging` library lists down to glibc 2.5, in its order."""
    expected = list(tags._manylinux.platform_tags(["x86_64"]))
    newest = expected[0]
    assert Target("3.11", (newest,), {}).tags == expected
    assert Target("3.11", ("win_amd64", "manylinux1_i686"), {}).tags == [
        "win_amd64",
        "manylinux_2_5_i686",
        "manylinux1_i686",
    ]


def test_a_wheel_for_a_newer_glibc_is_refused(index, tmp_path):
    """The target could not load it."""
    wheel(index, "a", "1.0", tag="py3-none-manylinux_2_28_x86_64")
    with refused("pip download a", "failed"):
        build(tmp_path, "a")


def image_with_a_package_that_breaks(index, *needs: str) -> dict[str, str]:
    """Fill the index: wheels of array 2, and of a compiler whose version in the image needs array 1."""
    wheel(index, "model", "1.0", "array>=2", *needs)
    wheel(index, "array", "2.2")
    wheel(index, "compiler", "0.60", "array<2.1")
    return {"array": "1.26", "compiler": "0.60+cu124", "not-on-the-index": "1.0", "torch": ANY}


@pytest.mark.parametrize("need", ['compiler; extra == "fast"', "user"])
def test_a_package_of_the_image_that_a_wheel_breaks_is_replaced(need, index, tmp_path):
    """It is replaced by a version that fits the wheels, if they may import it: themselves, or through the image."""
    has = image_with_a_package_that_breaks(index, need) | {"user": "1.0"}
    wheel(index, "user", "1.0", "compiler")
    wheel(index, "compiler", "0.61", "array<2.3", "llvm>=2")
    wheel(index, "compiler", "0.62", "array>=3")
    wheel(index, "llvm", "2.0")
    assert build(tmp_path, "model", has=has) == {"model-1.0", "array-2.2", "compiler-0.61", "llvm-2.0"}


@pytest.mark.parametrize("need", ['compiler; extra == "fast"', "array"])
def test_a_broken_package_that_stays_is_named(need, index, tmp_path, capsys):
    """One line names it, where no newer version fits or nothing in the bundle imports it."""
    has = image_with_a_package_that_breaks(index, need)
    assert build(tmp_path, "model", has=has) == {"model-1.0", "array-2.2"}
    (line,) = capsys.readouterr().out.splitlines()
    assert "compiler 0.60+cu124 (needs array<2.1, gets 2.2)" in line


def test_a_package_that_was_broken_before_is_not_mentioned(index, tmp_path, capsys):
    """Images come with requirements that are not satisfied; only those that the bundle breaks are reported."""
    has = image_with_a_package_that_breaks(index) | {"array": "0.9"}
    wheel(index, "compiler", "0.59", "array>=1,<2")
    assert build(tmp_path, "model", has=has | {"compiler": "0.59"}) == {"model-1.0", "array-2.2"}
    assert not capsys.readouterr().out


def test_replacements_are_the_wheels_of_packages_that_the_target_has(index):
    """The notebook installs these by name, as no requirement asks for all of them."""
    image_with_a_package_that_breaks(index)
    target = Target("3.11", (), {"array": "1.26"})
    assert wheels.replacements(sorted(index.iterdir()), target) == ["array==2.2"]


def test_a_python_that_is_too_old_for_the_project_is_refused(tmp_path):
    """pip would refuse the project's wheel in the notebook."""
    wheel(tmp_path, "own", "1.2", python=">=3.11")
    with refused("python 3.10", ">=3.11"):
        wheels.collect(next(tmp_path.iterdir()), Target("3.10", (), {}))


def test_a_torch_without_cuda_is_refused(index, tmp_path):
    """The index of a machine without a GPU has such wheels; the notebook would compute on its CPU."""
    wheel(index, "torch", "2.9+cpu")
    with refused("torch-2.9+cpu", "image", "torch>=2.8"):
        build(tmp_path, "torch>=2.8", has={"torch": "2.6.0+cu124"})


@pytest.mark.parametrize("version", ["2.9", "2.9+cu128"])
def test_a_torch_with_cuda_takes_the_place_of_an_old_one(version, index, tmp_path):
    """Wheels of PyPI, and those that name CUDA's version."""
    wheel(index, "torch", version)
    assert build(tmp_path, "torch>=2.8", has={"torch": "2.6.0+cu124"}) == {f"torch-{version}"}


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
    path.write_bytes("torch==2".encode("utf-16"))
    with refused(path, "UTF-8"):
        wheels.read_freeze(path)
    with refused("nowhere", "pip freeze"):
        wheels.read_freeze(tmp_path / "nowhere")
    with refused("3.11"):
        Target("311", (), {})


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("torch @ https://download.pytorch.org/whl/torch-2.1.0%2Bcu118-cp311-cp311-linux_x86_64.whl", "2.1.0+cu118"),
        ("numpy @ file:///build/dist/numpy-1.26.4-cp311-cp311-linux_x86_64.whl#sha256=d08e", "1.26.4"),
        ("packaging @ file:///build/work", ANY),
        ("clip @ git+https://github.com/openai/CLIP@a9b1bf5", ANY),
        ("\ufefftorch==2.6", "2.6"),
    ],
)
def test_the_version_of_a_wheel_is_read_from_its_address(line, version, tmp_path):
    """An image lists packages that were installed from a file by its address, which names their version."""
    path = tmp_path / "image.txt"
    path.write_text(f"{line}\n", encoding="utf-8")
    assert list(wheels.read_freeze(path).values()) == [version]
