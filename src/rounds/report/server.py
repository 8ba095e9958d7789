"""Dashboard: the report served on this machine, made anew when files change, with the round that trains now."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rounds.artifacts import hashing, refusals, store
from rounds.errors import UserError
from rounds.report import charts
from rounds.report.facts import gather_facts
from rounds.report.html import render_page
from rounds.training.progress import read_progress

HOST = "127.0.0.1"

WATCHED = ("round*/eval/manifest.json", "round*/train/manifest.json", "round*/finetune_data_minedHN.manifest.json")


class Site:
    """An experiment's page, kept until a file that it was made from changes.

    Args:
        experiment, data_dir, model_output: as `report.gather` takes them.
    """

    def __init__(self, experiment: Path, data_dir: Path, model_output: Path) -> None:
        self.experiment, self.data_dir, self.model_output = experiment, data_dir, model_output
        self.lock = threading.Lock()
        self.made: tuple[str, str] = ("", "")

    def stamp(self) -> str:
        """Changes whenever a file that the page is made from does."""
        files = [file for pattern in WATCHED for file in sorted(self.experiment.glob(pattern))]
        files += [
            self.data_dir / store.MANIFEST,
            *(self.model_output / name for name in ("ledger.csv", refusals.FILE)),
        ]
        files += sorted(file for kind in ("sweep", "cv") for file in self.model_output.glob(f"{kind}-*.md"))
        return hashing.sha256_json([[str(file), _changed(file)] for file in files])[:16]

    def page(self) -> str:
        """The page with its live panel; requests at the same time wait for one making."""
        with self.lock:
            stamp = self.stamp()
            if stamp != self.made[0]:
                facts = gather_facts(self.experiment, self.data_dir, self.model_output)
                self.made = (stamp, render_page(facts, charts.draw(facts), live=True))
            return self.made[1]

    def live(self) -> str:
        """JSON of the round that trains (`live.Live`, or null) and of the stamp."""
        found = read_progress(self.experiment)
        return json.dumps({"stamp": self.stamp(), "live": found and asdict(found)})


def _changed(file: Path) -> int | None:
    """When a file was written, in ns; None where it is not there (a stage may be replacing it)."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


class Handler(BaseHTTPRequestHandler):
    """Answers `/` and `/live.json`."""

    def __init__(self, site: Site, *args, **kwargs) -> None:
        self.site = site
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Send one of the two."""
        routes = {"/": (self.site.page, "text/html"), "/live.json": (self.site.live, "application/json")}
        route = routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(404)
            return
        self._send(*route)

    def _send(self, make: Callable[[], str], kind: str) -> None:
        try:
            status, body = 200, make().encode()
        except (UserError, OSError) as error:  # OSError: a stage replaced a folder while it was read
            status, kind, body = 503, "text/plain", f"error: {error}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """The terminal stays quiet."""


def make_server(site: Site, port: int) -> ThreadingHTTPServer:
    """A server for this machine alone.

    Raises:
        UserError: the port is taken, or not a port.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(Handler, site))
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port}: {getattr(error, 'strerror', None) or error}; name another with PORT=") from None
