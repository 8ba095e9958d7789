"""A stand-in for the Hugging Face hub's HTTP API on loopback, in a thread of the test."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_right"


class Hub:
    """What the hub knows, and what it answers.

    Attributes:
        url: its address.
        repos: repository -> its files by name; of a large file, its content too.
        private: repository -> whether it is private.
        commits: header of each commit, in order.
        requests: method and path of each request, in order.
        fail: a part of a path -> the status that requests for it are answered with.
    """

    def __init__(self) -> None:
        self.url = ""
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[dict] = []
        self.requests: list[str] = []
        self.large: dict[str, bytes] = {}
        self.fail: dict[str, int] = {}

    def answer(self, method: str, path: str, body: bytes, is_allowed: bool) -> tuple[int, object]:
        """Return status and JSON content of the answer to a request."""
        self.requests.append(f"{method} {path}")
        if failing := next((part for part in self.fail if part in path), None):
            return self.fail[failing], {"error": "as the test wants it"}
        if method == "PUT" and path.startswith("/large/"):  # by the address that the batch call gave, without a token
            self.large[path.removeprefix("/large/")] = body
            return 200, {}
        if not is_allowed:
            return 401, {"error": "Invalid credentials"}
        if path == "/api/whoami-v2":
            return 200, {"name": "you", "type": "user", "orgs": []}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        match = re.match(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/main)?$", path)
        if not match or match[1] not in self.repos:
            return 404, {"error": "Repository not found"}
        return self._answer_on_repo(match[1], match[2], body)

    def _create(self, asked: dict) -> tuple[int, object]:
        repo = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "you":
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        status = 409 if repo in self.repos else 200
        self.repos.setdefault(repo, {})
        self.private.setdefault(repo, asked.get("visibility") == "private")
        return status, {"url": f"{self.url}/{repo}"}

    def _batch(self, asked: dict) -> tuple[int, object]:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.url}/large/{each['oid']}"}}} for each in asked["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _answer_on_repo(self, repo: str, action: str | None, body: bytes) -> tuple[int, object]:
        stored = self.repos[repo]
        if action in (None, "revision"):
            return 200, {"id": repo, "sha": "f" * 40, "private": self.private[repo], "siblings": []}
        if action == "tree":
            return 200, [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in stored]
        if action == "preupload":
            asked = json.loads(body)["files"]
            return 200, {"files": [_upload_mode(each["path"]) for each in asked]}
        lines = [json.loads(line) for line in body.decode().splitlines()]
        for line in lines:
            self._apply(stored, line["key"], line["value"])
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/{'c' * 40}", "commitOid": "c" * 40}

    def _apply(self, stored: dict[str, bytes], key: str, value: dict) -> None:
        """Apply a line of a commit to a repository's files."""
        if key == "header":
            self.commits.append(value)
        elif key == "file":
            stored[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            content = self.large[value["oid"]]
            assert hashlib.sha256(content).hexdigest() == value["oid"]
            stored[value["path"]] = content
        elif key == "deletedFile":
            del stored[value["path"]]


def _upload_mode(path: str) -> dict:
    mode = "lfs" if path.endswith(".safetensors") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a hub that knows user `you`, whose token is `TOKEN`, and no repositories."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self._read_chunks()
            is_allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, content = hub.answer(self.command, self.path.partition("?")[0], body, is_allowed)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer

        def _read_chunks(self) -> bytes:
            """Read a body of chunks, each behind its length."""
            content = b""
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return content

        def log_message(self, *arguments) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
