"""Server: the report on this machine only, rendered again when files change, with the progress of the current round."""

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


class ReportSite:
    """The page of an experiment, cached until a file that it is made from changes.

    Args:
        experiment, data_dir, model_output, table_tag, cv_tag: As `gather_facts` takes them.
    """

    def __init__(
        self, experiment: Path, data_dir: Path, model_output: Path, table_tag: str = "", cv_tag: str = ""
    ) -> None:
        self.experiment, self.data_dir, self.model_output = experiment, data_dir, model_output
        self.tags = (table_tag, cv_tag)
        self._lock = threading.Lock()
        self._cached_stamp, self._cached_page = "", ""

    def stamp(self) -> str:
        """Return a hash that changes whenever a file that the page is made from changes."""
        files = [file for pattern in WATCHED for file in sorted(self.experiment.glob(pattern))]
        files += [self.data_dir / store.MANIFEST, self.model_output / "ledger.csv", self.model_output / refusals.FILE]
        files += sorted(file for kind in ("sweep", "cv") for file in self.model_output.glob(f"{kind}-*.md"))
        return hashing.sha256_json([[str(file), _modified_ns(file)] for file in files])[:16]

    def page(self) -> str:
        """Return the page with its live panel; concurrent requests wait for a single rendering."""
        with self._lock:
            stamp = self.stamp()
            if stamp != self._cached_stamp:
                facts = gather_facts(self.experiment, self.data_dir, self.model_output, *self.tags)
                self._cached_page = render_page(facts, charts.draw_plots(facts), live=True)
                self._cached_stamp = stamp
            return self._cached_page

    def live(self) -> str:
        """Return JSON with the stamp and the `Progress` of the round in training, or null."""
        progress = read_progress(self.experiment)
        return json.dumps({"stamp": self.stamp(), "live": asdict(progress) if progress else None})


def _modified_ns(file: Path) -> int | None:
    """Return a file's modification time in ns; None if it does not exist (a stage may be replacing it)."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


class ReportRequestHandler(BaseHTTPRequestHandler):
    """Answers `/` with the page and `/live.json` with the progress; every other path is 404."""

    def __init__(self, site: ReportSite, *args, **kwargs) -> None:
        self.site = site
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Answer a request."""
        routes = {"/": (self.site.page, "text/html"), "/live.json": (self.site.live, "application/json")}
        route = routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(404)
        else:
            self._send(*route)

    def _send(self, make_body: Callable[[], str], content_type: str) -> None:
        try:
            status, body = 200, make_body().encode()
        except (UserError, OSError) as error:  # OSError: a stage replaced a folder while it was read
            status, content_type, body = 503, "text/plain", f"error: {error}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Log nothing, so that the terminal stays readable."""


def make_server(site: ReportSite, port: int) -> ThreadingHTTPServer:
    """Return a server on the loopback interface; port 0 picks a free one.

    Raises:
        UserError: The port is in use or not a port number.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(ReportRequestHandler, site))
    except (OSError, OverflowError) as error:
        raise port_refusal(port, error) from None


def port_refusal(port: int, error: Exception) -> UserError:
    """Return the refusal of a port that a server cannot listen on."""
    return UserError(f"port {port}: {getattr(error, 'strerror', None) or error}; choose another with PORT=")
