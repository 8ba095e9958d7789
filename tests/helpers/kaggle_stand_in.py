"""A stand-in for Kaggle's HTTP API on loopback, port 80: run it inside a network namespace of its own.

    unshare -rn python tests/helpers/kaggle_stand_in.py STATE COMMAND...

It answers the requests of the real client, writes them and its answers to the folder STATE (`calls.jsonl`), refuses
credentials other than user `someone` with key `right`, and exits with COMMAND's exit code.

Files in STATE change its answers: `dataset` holds the dataset's version number, `next_version` a version that takes
effect after the next request for that number, `unavailable` how often requests for the dataset's state fail with 503,
`kernel_fails` lets the notebook fail, and `archive.zip` is what the competition's files are downloaded as.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def submission(number: int, description: str, **columns: str) -> dict:
    """Return a submission as Kaggle lists it; each was made on the day of its number."""
    date = f"2026-01-{number:02}T00:00:00Z"
    return {"ref": number, "fileName": "submission.csv", "description": description, "date": date, **columns}


SCORES = [
    {"description": "tiny-b", "status": "PENDING", "date": "2026-01-05T00:00:00Z"},
    {
        "description": "fixes error: cut queries",
        "status": "COMPLETE",
        "publicScore": "0.30000",
        "date": "2026-01-04T00:00:00Z",
    },
    {
        "description": "could not reproduce CV",
        "status": "COMPLETE",
        "publicScore": "0.20000",
        "date": "2026-01-03T00:00:00Z",
    },
    {
        "description": "tiny-a",
        "status": "COMPLETE",
        "publicScore": "0.41234",
        "privateScore": "0.39876",
        "date": "2026-01-02T00:00:00Z",
    },
    {
        "description": "tiny-a",
        "status": "COMPLETE",
        "publicScore": "0.10000",
        "privateScore": "0.10000",
        "date": "2026-01-01T00:00:00Z",
    },
]

NEW_VERSION = 7  # of the notebook, which each push makes


class Kaggle(BaseHTTPRequestHandler):
    """Answers one request."""

    state: Path
    requests: dict[str, int] = {}

    def do_POST(self) -> None:
        """Answer a call of the API: `/api/v1/SERVICE/METHOD` with JSON."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        method = self.path.rpartition("/")[2]
        user = "Basic " + base64.b64encode(b"someone:right").decode()
        if self.headers.get("Authorization") != user:
            return self._answer(401, {"code": 401, "message": "Unauthorized"})
        self.requests[method] = self.requests.get(method, 0) + 1
        if method == "DownloadDataFiles":
            self.send_response(302)
            self.send_header("Location", "http://localhost/archive.zip")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        code, reply = self._reply(method, body)
        with open(self.state / "calls.jsonl", "a") as file:
            file.write(json.dumps({"method": method, "body": body, "code": code, "reply": reply}) + "\n")
        self._answer(code, reply)

    def _reply(self, method: str, body: dict) -> tuple[int, dict]:
        if "Dataset" in method:
            return self._reply_on_dataset(method)
        if method == "GetKernelSessionStatus":
            return self._reply_on_notebook(body.get("versionLabel"))
        return 200, {
            "StartBlobUpload": {"token": "t", "createUrl": "http://localhost/upload"},
            "SaveKernel": {"versionNumber": NEW_VERSION, "url": "http://localhost/k", "ref": "/code/someone/x"},
            "CreateCodeSubmission": {"message": "Successfully submitted", "ref": 1},
            "StartSubmissionUpload": {"token": "t", "createUrl": "http://localhost/upload"},
            "CreateSubmission": {"message": "Successfully submitted", "ref": 2},
            "ListSubmissions": {
                "submissions": [
                    {"ref": number, "fileName": "submission.csv", **score} for number, score in enumerate(SCORES, 1)
                ]
            },
        }.get(method, {})

    def _reply_on_dataset(self, method: str) -> tuple[int, dict]:
        """Answer on the dataset; a version just uploaded leaves state and number of the last one for a while."""
        number, pending = self.state / "dataset", self.state / "next_version"
        unavailable = self.state / "unavailable"
        created = {"status": "ok", "ref": "/someone/x", "url": "http://localhost/x"}
        if method == "CreateDataset":
            number.write_text("1")
            return 200, created
        if method == "CreateDatasetVersion":
            pending.write_text(str(int(number.read_text()) + 1))
            return 200, created
        if method == "GetDatasetStatus" and unavailable.exists():
            left = int(unavailable.read_text()) - 1
            unavailable.write_text(str(left)) if left else unavailable.unlink()
            return 503, {"code": 503, "message": "Service Unavailable"}
        if not number.exists():
            return 403, {"code": 403, "message": "Permission denied"}
        if method == "GetDatasetStatus":
            return 200, {"status": "READY"}
        about = {"currentVersionNumber": int(number.read_text())}
        if pending.exists():
            pending.replace(number)
        return 200, about

    def _reply_on_notebook(self, label: str | None) -> tuple[int, dict]:
        """Answer on a version of the notebook; without a version, on the last session, which was complete."""
        if label is None:
            return 200, {"status": "COMPLETE"}
        if label != f"v{NEW_VERSION}":
            return 404, {"code": 404, "message": "Not found"}
        if self.requests["GetKernelSessionStatus"] == 1:
            return 200, {"status": "RUNNING"}
        if (self.state / "kernel_fails").exists():
            return 200, {"status": "ERROR", "failureMessage": "no GPU"}
        return 200, {"status": "COMPLETE"}

    def do_GET(self) -> None:
        """Send a file of the state."""
        data = (self.state / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        """Take an upload."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(200, {})

    def _answer(self, code: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        """Write no log."""


def main() -> None:
    """Bring loopback up, serve, and run the command."""
    Kaggle.state = Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 80), Kaggle)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {**os.environ, "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    sys.exit(subprocess.run(sys.argv[2:], env=environment).returncode)


if __name__ == "__main__":
    main()
