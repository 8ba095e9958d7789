"""Kaggle's command-line client: show each command before it runs, and report a failure in one line."""

import csv
import io
import math
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rounds.artifacts import store
from rounds.errors import UserError
from rounds.kaggle import account, bundle_file
from rounds.kaggle.bundle_file import BUNDLE
from rounds.kaggle.status import NOT_INSTALLED, REFUSED, StatusReader, Unavailable

COMPETITION = "eedi-mining-misconceptions-in-mathematics"

# How the client reports missing or refused credentials on a line of its own, when it exits with an error.
UNAUTHORIZED = re.compile(r"^(authentication required|unauthorized|forbidden|40[13] client error)", re.I | re.M)

TRACEBACK = "Traceback (most recent call last)"

# The client exits with 0 after some failures. These lines say that a command did its work ...
CONFIRMED = {
    ("datasets", "create"): re.compile(r"^Your (?:private|public) Dataset is being created", re.M),
    ("datasets", "version"): re.compile(r"^Dataset version is being created", re.M),
    ("kernels", "push"): re.compile(r"^Kernel version (\d+) successfully pushed", re.M),
}

# ... and these that it did not, or not all of it.
REJECTED = {
    ("kernels", "push"): re.compile(r"^The following are not valid", re.M),
    ("competitions", "submit"): re.compile(r"^(?:Could not |Upload unsuccessful)", re.M),
}

SCORES_HEADER = re.compile(r"^.*\bpublicScore\b.*$", re.M)  # lines before it are the client's notices

PAGE_SIZE = "200"  # submissions that the client lists at most on one page

MAX_FAILURES = 5  # unanswered requests in a row that end the waiting

FAILED_SUBMISSION = "ERROR"  # the client writes the name of its own class before it

FAILED_DATASET = ("FAILED", "DELETED")

FAILED_NOTEBOOK = ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")


@dataclass
class Client:
    """Runs the client's commands.

    Attributes:
        dry: Only print the commands.
        show: Prints a command before it runs.
        wait: Seconds between two requests for the status of something that Kaggle works on.
        limit: Seconds after which waiting ends.
        start_limit: Seconds after which an upload must be known to Kaggle.
    """

    dry: bool = False
    show: Callable[[str], None] = field(default=lambda line: print(line, flush=True))
    wait: float = 20.0
    limit: float = 12 * 3600.0
    start_limit: float = 600.0

    def run(self, *arguments: object) -> str | None:
        """Run `kaggle ARGUMENTS` and return its standard output, or None in a dry run.

        The exit status tells whether the command failed. Its output is looked at only for the commands that exit with
        0 after a failure.

        Raises:
            UserError: The client is not installed, was refused, or failed.
        """
        command = ["kaggle", *map(str, arguments)]
        self.show(shlex.join(command))
        if self.dry:
            return None
        program = Path(sys.executable).with_name("kaggle")
        if not program.is_file():
            raise UserError(NOT_INSTALLED)
        result = subprocess.run([str(program), *command[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        output = f"{result.stdout}\n{result.stderr}"
        if result.returncode and UNAUTHORIZED.search(output):
            account.check_token()
            raise UserError(REFUSED)
        if result.returncode and TRACEBACK in result.stderr:
            account.check_token()
        confirmed, rejected = (patterns.get(tuple(command[1:3])) for patterns in (CONFIRMED, REJECTED))
        rejection = rejected.search(result.stdout) if rejected else None
        if result.returncode or rejection or (confirmed and not confirmed.search(result.stdout)):
            start = rejection.start() if rejection else 0
            lines = [line.strip() for line in output[start:].splitlines() if line.strip()]
            reason = (lines[0] if rejection else lines[-1]) if lines else "no message"
            raise UserError(f"{shlex.join(command[:3])} failed: {reason}")
        return result.stdout

    def wait_until(self, command: tuple[str, ...], is_done: Callable[[], bool]) -> None:
        """Call `is_done` again and again until it returns True.

        Args:
            command: The client's command that asks for the same status; it is shown before each call.
            is_done: Asks Kaggle for a status; raises UserError if the work failed.

        Raises:
            UserError: The work failed, Kaggle does not answer any more, or the time is over.
        """
        end = time.monotonic() + self.limit
        failures = 0
        while True:
            self.show(shlex.join(command))
            try:
                if self.dry or is_done():
                    return
                failures = 0
            except Unavailable:
                failures += 1
                if failures == MAX_FAILURES:
                    raise
            if time.monotonic() > end:
                raise UserError(f"{shlex.join(command)}: not done after {self.limit:.0f} s; look at kaggle.com")
            time.sleep(self.wait)


def push_submission(client: Client, bundle: Path, notebook: Path) -> None:
    """Upload the bundle, run the notebook on Kaggle, and submit its output.

    Raises:
        UserError: A step failed. The steps before it are done; another call repeats them.
    """
    if not (bundle / BUNDLE).is_file():
        raise UserError(f"{bundle}: holds no bundle; make bundle writes it")
    contents = bundle_file.read(bundle)
    dataset = _read_id(bundle / "dataset-metadata.json")
    name = _read_id(notebook / "kernel-metadata.json")
    reader = None if client.dry else StatusReader()
    _upload(client, reader, bundle, dataset, contents.submission)
    output = client.run("kernels", "push", "-p", notebook)
    version = CONFIRMED["kernels", "push"].search(output)[1] if output else "VERSION"
    _wait_for_notebook(client, reader, name, version)
    selection = ("-k", name, "-v", version, "-f", "submission.csv", "-m", contents.submission)
    answer = client.run("competitions", "submit", contents.competition, *selection)
    if answer:
        client.show(answer.strip().splitlines()[-1])


def _read_id(path: Path) -> str:
    """Return the id in a file of Kaggle's metadata, `owner/name`."""
    content = store.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        raise UserError(f"{path}: has no id; make the bundle again")
    return content["id"]


def _upload(client: Client, reader: StatusReader | None, bundle: Path, dataset: str, message: str) -> None:
    """Create the dataset, or a new version of it, and wait until Kaggle has processed the upload."""
    status_command = ("kaggle", "datasets", "status", dataset)
    client.show(shlex.join(status_command))
    before = reader.dataset(dataset) if reader else None
    owner = dataset.partition("/")[0]
    if reader and before is None and owner.lower() != reader.user.lower():
        raise UserError(
            f"dataset {dataset}: is not there, or not for {reader.user}, whose credentials are in use; take those of "
            f"{owner}, or make the bundle with OWNER={reader.user}"
        )
    flags = ("-p", bundle, "-r", "zip", "-q")
    if client.dry:
        client.show("# if the dataset does not exist yet:")
    if before is None:
        client.run("datasets", "create", *flags)
    if client.dry:
        client.show("# else:")
    if before is not None or client.dry:
        client.run("datasets", "version", *flags, "-m", message)
    start = time.monotonic()

    def is_ready() -> bool:
        status = reader.dataset(dataset)
        if status is None and time.monotonic() - start > client.start_limit:
            raise UserError(f"{shlex.join(status_command)}: {_denied('dataset', client)}")
        is_new = status is not None and status.version > (before.version if before else -1)
        if status is not None and status.state in FAILED_DATASET and (is_new or status.state != before.state):
            raise UserError(f"{shlex.join(status_command)}: {status.state}; look at kaggle.com")
        return is_new and status.state == "READY"

    client.wait_until(status_command, is_ready)


def _wait_for_notebook(client: Client, reader: StatusReader | None, name: str, version: str) -> None:
    """Wait until the version of the notebook that was just pushed has run."""
    command = ("kaggle", "kernels", "status", f"{name}/{version}")
    start = time.monotonic()

    def is_complete() -> bool:
        status = reader.notebook(name, int(version))
        if status is None and time.monotonic() - start > client.start_limit:
            raise UserError(f"{shlex.join(command)}: {_denied('version', client)}")
        if status is not None and status.state in FAILED_NOTEBOOK:
            reason = " ".join(status.message.split()) or "look at its log on kaggle.com"
            raise UserError(f"{shlex.join(command)}: {status.state}: {reason}")
        return status is not None and status.state == "COMPLETE"

    client.wait_until(command, is_complete)


def _denied(name: str, client: Client) -> str:
    """Return the message on something that was uploaded and that Kaggle does not show."""
    return f"no such {name}, or no permission, after {client.start_limit:.0f} s; look at kaggle.com"


def read_scores(client: Client, competition: str) -> dict[str, tuple[str, str]]:
    """Return the public and private score of each submission, keyed by its name (its message on Kaggle).

    The newest submission of a name counts that did not fail; a score that is not there yet, or is no number, is empty.
    """
    output = client.run("competitions", "submissions", competition, "--csv", "-q", "--page-size", PAGE_SIZE) or ""
    header = SCORES_HEADER.search(output)
    table = io.StringIO(output[header.start() :] if header else "", newline="")
    scores: dict[str, tuple[str, str]] = {}
    for row in csv.DictReader(table):
        has_failed = (row.get("status") or "").endswith(FAILED_SUBMISSION)
        if (name := (row.get("description") or "").strip()) and not has_failed:
            scores.setdefault(name, (_score(row.get("publicScore")), _score(row.get("privateScore"))))
    return scores


def _score(cell: str | None) -> str:
    """Return a score as Kaggle wrote it, or an empty text if the cell holds no number."""
    text = (cell or "").strip()
    try:
        return text if math.isfinite(float(text)) else ""
    except ValueError:
        return ""
