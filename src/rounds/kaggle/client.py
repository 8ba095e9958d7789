"""Kaggle's command-line client: each command shown before it runs, and what it says in one line where it fails."""

import csv
import io
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

COMPETITION = "eedi-mining-misconceptions-in-mathematics"

REFUSED = (
    "kaggle has no valid credentials: create an API token (kaggle.com, Settings) and put it into "
    "~/.kaggle/access_token or the variable KAGGLE_API_TOKEN, then accept the competition's rules"
)

NOBODY = ("authenticate", "kaggle.json", "credentials", "401", "unauthorized", "api token")

DENIED = ("403", "forbidden")  # also what Kaggle answers to the name of something that does not exist

FAILED = ("push error", "creation error", "not valid", "could not", "upload unsuccessful", "error:")

NEWEST = "200"  # submissions that one page of the client holds


@dataclass
class Client:
    """Runs the client's commands.

    Attributes:
        dry: only print them.
        show: where each command goes before it runs.
        wait: seconds between two looks at something that Kaggle is working on.
        limit: seconds after which waiting ends.
    """

    dry: bool = False
    show: Callable[[str], None] = field(default=lambda line: print(line, flush=True))
    wait: float = 20.0
    limit: float = 12 * 3600.0

    def run(self, *arguments: object, may_fail: bool = False) -> str | None:
        """Run `kaggle ARGUMENTS`; returns what it printed, or None in a dry run or where it failed and may.

        Raises:
            UserError: the client is not installed, was refused, or failed.
        """
        command = ["kaggle", *map(str, arguments)]
        self.show(shlex.join(command))
        if self.dry:
            return None
        program = Path(sys.executable).with_name("kaggle")
        if not program.is_file():
            raise UserError("the kaggle client is not installed; run make setup, or pip install '.[kaggle]'")
        result = subprocess.run([str(program), *command[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        said = result.stdout + result.stderr
        failed = result.returncode or any(sign in result.stdout.lower() for sign in FAILED)
        if not failed:
            return result.stdout
        signs = NOBODY if may_fail else (*NOBODY, *DENIED)
        if result.returncode and any(sign in said.lower() for sign in signs):
            raise UserError(REFUSED)
        if may_fail:
            return None
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        raise UserError(f"{shlex.join(command[:3])} failed: {lines[-1] if lines else 'no message'}")

    def until(self, arguments: tuple[str, ...], done: str, failed: tuple[str, ...] = ()) -> None:
        """Ask again and again until the answer holds `done`.

        Raises:
            UserError: it holds one of `failed`, or the time is over.
        """
        end = time.monotonic() + self.limit
        while (said := self.run(*arguments)) is not None and done not in said.lower():
            if any(sign in said.lower() for sign in failed):
                raise UserError(f"kaggle {' '.join(arguments)}: {' '.join(said.split())}")
            if time.monotonic() > end:
                raise UserError(
                    f"kaggle {' '.join(arguments)}: not {done} after {self.limit:.0f} s; look at kaggle.com"
                )
            time.sleep(self.wait)


def push_submission(client: Client, bundle: Path, notebook: Path) -> None:
    """Upload the bundle, run the notebook on Kaggle, and submit what it wrote.

    Raises:
        UserError: one of the steps failed; those before it stand, and a new call goes through them again.
    """
    if not (bundle / "bundle.json").is_file():
        raise UserError(f"{bundle}: holds no bundle; make bundle writes it")
    about = store.read_json(bundle / "bundle.json")
    dataset = store.read_json(bundle / "dataset-metadata.json")["id"]
    kernel = store.read_json(notebook / "kernel-metadata.json")["id"]
    there = client.run("datasets", "status", dataset, may_fail=True)
    upload = ("-p", bundle, "-r", "zip", "-q")
    if client.dry:
        client.show("# where the dataset is not there yet:")
    if there is None:
        client.run("datasets", "create", *upload)
    if client.dry:
        client.show("# else:")
    if there is not None or client.dry:
        client.run("datasets", "version", *upload, "-m", about["submission"])
    client.until(("datasets", "status", dataset), "ready", ("error",))
    said = client.run("kernels", "push", "-p", notebook)
    version = re.search(r"version (\d+)", said or "")
    if said is not None and not version:
        raise UserError(f"kaggle kernels push named no version: {' '.join(said.split())}")
    client.until(("kernels", "status", kernel), "complete", ("error", "cancel"))
    client.run(
        "competitions", "submit", about["competition"], "-k", kernel, "-v", version[1] if version else "VERSION",
        "-f", "submission.csv", "-m", about["submission"],
    )  # fmt: skip


def read_scores(client: Client, competition: str) -> dict[str, tuple[str, str]]:
    """Public and private score by submission name (its message), the newest of a name, empty where not scored yet."""
    said = client.run("competitions", "submissions", competition, "--csv", "-q", "--page-size", NEWEST)
    found: dict[str, tuple[str, str]] = {}
    lines = [line for line in (said or "").splitlines() if line.strip()]
    start = next((number for number, line in enumerate(lines) if "publicScore" in line), len(lines))
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if name := (row.get("description") or "").strip():
            found.setdefault(name, ((row.get("publicScore") or "").strip(), (row.get("privateScore") or "").strip()))
    return found
