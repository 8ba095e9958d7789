"""The one exception for whatever a user can put right."""


class UserError(Exception):
    """Bad input: a single line that names the file, row or flag and the way out.

    Scripts print it to stderr without a traceback and exit with code 2 (`rounds.cli.main`).
    """
