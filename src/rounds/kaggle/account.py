"""The user's name on Kaggle, read from where Kaggle's client keeps it."""

import json
import os
import sys
from pathlib import Path

from rounds.errors import UserError

ASK = "name your Kaggle user (OWNER=name, or the variable KAGGLE_USERNAME)"


def find_owner() -> str:
    """Return the user's name from KAGGLE_USERNAME, kaggle.json, or the file of `kaggle auth login`, in this order.

    Raises:
        UserError: A file is broken, or nothing names a user.
    """
    files = (config_folder() / "kaggle.json", _home() / ".kaggle" / "credentials.json")
    name = os.environ.get("KAGGLE_USERNAME") or next(filter(None, map(_username, files)), "")
    if not name:
        raise UserError(f"owner: {ASK}")
    return name


def config_folder() -> Path:
    """Return the folder of kaggle.json by the client's own rules.

    KAGGLE_CONFIG_DIR comes first, then ~/.kaggle; on Linux without that folder, `kaggle` in XDG_CONFIG_HOME.
    """
    if folder := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(folder)
    folder = _home() / ".kaggle"
    if folder.exists() or not sys.platform.startswith("linux"):
        return folder
    return Path(os.environ.get("XDG_CONFIG_HOME") or _home() / ".config") / "kaggle"


def _home() -> Path:
    """Return the home folder as the client finds it: `~` in the working folder for a user without one."""
    return Path(os.path.expanduser("~"))


def check_token() -> None:
    """Refuse a broken kaggle.json, of which the client only says that there are no credentials, or nothing at all.

    Raises:
        UserError: The file is there and holds no JSON object.
    """
    _username(config_folder() / "kaggle.json", "create it again (kaggle.com, Settings)")


def _username(path: Path, way_out: str = f"create it again (kaggle.com, Settings), or {ASK}") -> str:
    """Return the user name in a file of credentials, empty if there is no such file or it names nobody."""
    if not path.is_file():
        return ""
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("username") or ""
    except (ValueError, AttributeError):  # cut off, not text, or no JSON object
        raise UserError(f"{path}: is not a Kaggle token; {way_out}") from None
    return str(name)
