"""Exceptions for what a user can put right."""


class UserError(Exception):
    """Bad input. The message is one line that names the file, row or flag, and what to do.

    Scripts print it to stderr without a traceback and exit with code 2 (`rounds.cli.run`).
    """


class Refused(UserError):
    """A refusal that keeps a number honest: training on validation questions, or unexpected weights or prompts.

    `rounds.cli.run` records it beside the ledger, where the report finds it.
    """
