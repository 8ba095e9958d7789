"""The set-up makes `.venv`, keeps one that works, and makes anew what it cannot install into."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest
from helpers.make_project import ROOT

from rounds.pipeline import virtual_environment
from rounds.pipeline.virtual_environment import fault, prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An environment without pip, as a set-up leaves it that failed half-way."""
    venv.create(str(tmp_path / ".venv"), with_pip=False, symlinks=True)
    return tmp_path / ".venv"


def stand_in(folder: Path, version: str) -> None:
    """Replace the environment's Python by a script of another version, which has pip."""
    python = folder / "bin" / "python"
    python.unlink()
    python.write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
    python.chmod(0o755)


def test_an_environment_without_pip_is_made_anew_and_says_so(folder, capsys):
    """The reason is printed before the work begins; then pip is there."""
    line = prepare(folder, "", needs_pip=True)
    assert capsys.readouterr().out == f"{folder} has no pip that runs; making it anew\n"
    assert line.startswith(f"{folder} has Python 3.") and fault(folder, "", needs_pip=True) == ""


def test_a_pip_that_was_removed_in_part_is_told(folder):
    """`import pip` still works where a set-up was stopped while pip replaced itself."""
    (package,) = (folder / "lib").glob("python*/site-packages")
    (package / "pip").mkdir()
    (package / "pip" / "__init__.py").touch()
    assert fault(folder, "", needs_pip=True) == "has no pip that runs"


@pytest.mark.parametrize("place", ["file", "link", "broken link"])
def test_what_is_no_folder_gives_way(place, tmp_path, monkeypatch):
    """A file or a link in the place of the environment is replaced, and what the link points to stays."""
    create = venv.create
    monkeypatch.setattr(venv, "create", lambda folder, **settings: create(folder, symlinks=True))  # pip takes seconds
    path, target = tmp_path / ".venv", tmp_path / "elsewhere"
    path.touch() if place == "file" else path.symlink_to(target)
    if place == "link":
        target.mkdir()
        (target / "mine").touch()
    assert prepare(path, "", needs_pip=False)
    assert fault(path, "", needs_pip=False) == "" and not path.is_symlink()
    assert place != "link" or (target / "mine").exists()


def test_an_environment_that_works_is_kept(folder):
    """uv needs no pip in it, and any Python that is new enough will do unless one is asked for."""
    (folder / "mine").touch()
    assert prepare(folder, "", needs_pip=False) == prepare(folder, sys.executable, needs_pip=False) == ""
    assert (folder / "mine").exists()


@pytest.mark.parametrize(
    ("version", "chosen", "reason"),
    [
        ("3 8 10", "", "is of Python 3.8.10"),
        ("3 99 1", "python3", "is of Python 3.99.1"),
        ("3 99 1", "", ""),
    ],
    ids=["too old", "another than asked for", "newer, none asked for"],
)
def test_another_python_s_environment_is_told(version, chosen, reason, folder):
    """One too old for the project is made anew, another good one only where PYTHON names this interpreter."""
    stand_in(folder, version)
    assert fault(folder, chosen, needs_pip=True) == reason


def test_an_environment_whose_python_is_gone_is_told(folder):
    """A system's upgrade leaves a link to nothing."""
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/nowhere/python3")
    assert fault(folder, "", needs_pip=False) == "has no Python that runs"


def test_a_python_that_is_too_old_is_one_line(folder, monkeypatch):
    """It is refused before anything is removed, with what to type."""
    monkeypatch.setattr(virtual_environment, "OLDEST", (3, 99))
    with pytest.raises(SystemExit, match=r"^error: .* name 3.99 or newer, such as PYTHON=python3.99$"):
        prepare(folder, "", needs_pip=False)
    assert (folder / "bin" / "python").exists()


def test_the_oldest_python_is_the_project_s():
    """It is the one that `pyproject.toml` requires."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">={}.{}"'.format(*virtual_environment.OLDEST) in text


def test_make_runs_the_set_up_where_the_stamp_lies(tmp_path):
    """A stamp beside a Python that is gone, or is another than PYTHON names, keeps no set-up from running."""
    for name in ("Makefile", "src", "pyproject.toml", ".ci"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".setup").touch()

    def runs_set_up(*variables: str) -> bool:
        command = ["make", "-n", "setup", *variables]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return "rounds.pipeline.virtual_environment" in result.stdout

    assert runs_set_up()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert not runs_set_up() and not runs_set_up(f"PYTHON={sys.executable}")
    assert runs_set_up("PYTHON=true")
