"""Exceptions for what a user can put right."""

import os
import sys


class UserError(Exception):
    """Bad input. The message is one line that names the file, row or flag, and what to do.

    Scripts print it to stderr without a traceback and exit with code 2 (`rounds.cli.run`).
    """


class Refused(UserError):
    """A refusal that keeps a number honest: training on validation questions, or unexpected weights or prompts.

    `rounds.cli.run` records it beside the ledger, where the report finds it.
    """


def install_command(extra: str) -> str:
    """Return the command that installs one of the project's extras into the environment of the running Python."""
    return f"{os.path.relpath(sys.executable)} -m pip install -e '.[{extra}]'"
