"""The user's name on Kaggle is found where Kaggle's client keeps it."""

import json
from pathlib import Path

import pytest
from helpers.tiny_task import refused

from rounds.kaggle import account


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """Return an empty home folder, without Kaggle's variables in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_token(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"username": name, "key": "k"}))


@pytest.mark.parametrize("path", [".kaggle/kaggle.json", ".config/kaggle/kaggle.json", ".kaggle/credentials.json"])
def test_the_name_is_read_from_the_clients_files(path, home):
    """Both places of kaggle.json and the file of `kaggle auth login` name the user."""
    write_token(home / path, "SomeOne")
    assert account.find_owner() == "SomeOne"


def test_the_clients_order_of_places_holds(home, monkeypatch):
    """The variable precedes files, KAGGLE_CONFIG_DIR precedes ~/.kaggle, which precedes XDG_CONFIG_HOME."""
    write_token(home / "xdg" / "kaggle" / "kaggle.json", "xdg")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert account.find_owner() == "xdg"
    write_token(home / ".kaggle" / "kaggle.json", "old")
    assert account.find_owner() == "old"
    write_token(home / "own" / "kaggle.json", "own")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "own"))
    assert account.find_owner() == "own"
    monkeypatch.setenv("KAGGLE_USERNAME", "variable")
    assert account.find_owner() == "variable"


@pytest.mark.parametrize("content", ['{"username": "some', "[]", "", "\u00e9\udcff"])
def test_a_broken_token_is_refused(content, home):
    """A file that is cut off, empty or no JSON object is named, with the way out."""
    path = home / ".kaggle" / "kaggle.json"
    path.parent.mkdir()
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with refused(path, "OWNER=name"):
        account.find_owner()


def test_no_name_at_all_is_refused(home):
    """Without variable and files, the message tells how to name the user."""
    with refused("owner", "OWNER=name", "KAGGLE_USERNAME"):
        account.find_owner()
