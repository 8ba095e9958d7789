"""A stand-in for Kaggle's HTTP API on loopback, port 80: run it inside a network namespace of its own.

    unshare -rn python tests/helpers/kaggle_stand_in.py STATE COMMAND...

It answers what the real client asks for, keeps what it was sent in the folder STATE (`calls.jsonl`, uploads), refuses
other credentials than user `someone` with key `right`, and ends with COMMAND's exit code.
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
    submission(3, "tiny-b", status="PENDING"),
    submission(2, "tiny-a", status="COMPLETE", publicScore="0.41234", privateScore="0.39876"),
    submission(1, "tiny-a", status="COMPLETE", publicScore="0.10000", privateScore="0.10000"),
]


class Kaggle(BaseHTTPRequestHandler):
    """One request."""

    state: Path
    asked: dict[str, int] = {}

    def do_POST(self) -> None:
        """The API's calls: `/api/v1/SERVICE/METHOD` with JSON."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method = self.path.rpartition("/")[2]
        user = "Basic " + base64.b64encode(b"someone:right").decode()
        if self.headers.get("Authorization") != user:
            return self._answer(401, {"code": 401, "message": "Unauthorized"})
        with open(self.state / "calls.jsonl", "a") as file:
            file.write(json.dumps({"method": method, "body": json.loads(body or b"{}")}) + "\n")
        self.asked[method] = self.asked.get(method, 0) + 1
        self._answer(*self._reply(method))

    def _reply(self, method: str) -> tuple[int, dict]:
        created = (self.state / "dataset").exists()
        if method == "GetDatasetStatus":
            return (200, {"status": "READY"}) if created else (403, {"code": 403, "message": "Permission denied"})
        if method in ("CreateDataset", "CreateDatasetVersion"):
            (self.state / "dataset").touch()
            return 200, {"status": "ok", "ref": "/someone/x", "url": "http://localhost/x"}
        if method == "GetKernelSessionStatus":
            running = self.asked[method] < 2
            failed = (self.state / "kernel_fails").exists()
            status = "RUNNING" if running else "ERROR" if failed else "COMPLETE"
            return 200, {"status": status, "failureMessage": "no GPU" if status == "ERROR" else None}
        return 200, {
            "StartBlobUpload": {"token": "t", "createUrl": "http://localhost/upload"},
            "SaveKernel": {"versionNumber": 7, "url": "http://localhost/k", "ref": "/code/someone/x"},
            "CreateCodeSubmission": {"message": "Successfully submitted", "ref": 1},
            "StartSubmissionUpload": {"token": "t", "createUrl": "http://localhost/upload"},
            "CreateSubmission": {"message": "Successfully submitted", "ref": 2},
            "ListSubmissions": {"submissions": SCORES},
        }.get(method, {})

    def do_PUT(self) -> None:
        """An upload."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with open(self.state / "uploads.txt", "a") as file:
            file.write(f"{len(body)}\n")
        self._answer(200, {})

    def _answer(self, code: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        """Quiet."""


def main() -> None:
    """Bring loopback up, serve, run the command."""
    Kaggle.state = Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 80), Kaggle)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {**os.environ, "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    sys.exit(subprocess.run(sys.argv[2:], env=environment).returncode)


if __name__ == "__main__":
    main()
