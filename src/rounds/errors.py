"""The exception for whatever a user can put right, and its kind that guards a number."""


class UserError(Exception):
    """Bad input: a single line that names the file, row or flag and the way out.

    Scripts print it to stderr without a traceback and exit with code 2 (`rounds.cli.main`).
    """


class Refused(UserError):
    """A refusal that keeps a number honest: a leak, or weights or prompts that are not what they should be.

    `rounds.cli.run` notes it beside the ledger, where the report finds it.
    """
