"""A Hugging Face Hub on 127.0.0.1: the parts of its protocol that its client and `datasets` use.

Large files redirect to /cdn/ with X-Linked-* headers, as LFS files do; Range is honoured. Faults
are queued by file name and used up one a GET, so that a test says what goes wrong and how often.
"""

import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback_uploads import Uploads

COMMIT = "c" * 40
LARGE_SUFFIXES = (".bin", ".parquet", ".safetensors")
TOKEN = "a token"
"""Whose account may write."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one GET of a file.

    `status` answers that instead, with `retry_after` as its header; `drop_after` breaks the
    connection after so many bytes; `content` is served instead of the file's;
    `chunk_seconds` waits between chunks of 64 kB.
    """

    status: int = 0
    error_code: str = ""
    retry_after: str = ""
    drop_after: int = -1
    content: bytes | None = None
    chunk_seconds: float = 0.0


class LoopbackHub:
    """Serve files of dataset and model repositories; use as a context manager.

    Args:
        repositories: repository name to files (path to content).
        revisions: names besides the commit that are known.
    """

    def __init__(
        self, repositories: dict[str, dict[str, bytes]], revisions: tuple[str, ...] = ("main",)
    ) -> None:
        self.repositories = repositories
        self.revisions = (*revisions, COMMIT)
        self.uploads = Uploads(repositories, TOKEN)
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: str) -> dict[str, str]:
        """Variables that point the Hub's client here and keep it from the user's own folders."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": home,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def gets(self, name: str) -> list[str]:
        """The Range headers (empty if none) of the GETs that a file's content was asked with."""
        return [
            ranges for method, path, ranges in self.requests if method == "GET" and name in path
        ]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering; from here on connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _route(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        path = unquote(urlsplit(self.path).path)
        written = self.hub.uploads.answer(self, path, self.body, self.hub.url)
        if isinstance(written, int):
            self._error(written)
        elif written is not None:
            self._json(written)
        elif match := re.match("/api/(?:datasets|models)/(.+)", path):
            self._note(path)
            self._api(match[1].split("/"))
        elif match := re.match("/cdn/([^/]+/[^/]+)/(.+)", path):
            self._note(path)
            self._content(*match.groups())
        elif match := re.match("/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            self._error(404)

    do_HEAD = do_GET = do_POST = do_PUT = _route

    def _note(self, path: str) -> None:
        with self.hub.lock:
            self.hub.requests.append((self.command, path, self.headers.get("Range") or ""))

    def _fault(self, name: str) -> Fault | None:
        with self.hub.lock:
            queue = self.hub.faults[name]
            return queue.pop(0) if queue else None

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], fault: Fault = Fault()
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = len(content) if fault.drop_after < 0 else fault.drop_after
        try:
            for start in range(0, min(limit, len(content)), 2**16):
                self.wfile.write(content[start : min(limit, start + 2**16)])
                time.sleep(fault.chunk_seconds)
        except OSError:
            self.close_connection = True
        if limit < len(content):
            self.close_connection = True

    def _error(self, status: int, code: str = "", retry_after: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        headers |= {"Retry-After": retry_after} if retry_after else {}
        self._send(status, b"", headers)

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _known(self, repository: str, revision: str) -> bool:
        if repository not in self.hub.repositories:
            self._error(401, "RepoNotFound")
            return False
        if revision not in self.hub.revisions:
            self._error(404, "RevisionNotFound")
            return False
        return True

    def _api(self, parts: list[str]) -> None:
        repository = "/".join(parts[:2])
        kind = parts[2] if len(parts) > 2 else "revision"
        revision = parts[3] if len(parts) > 3 else "main"
        fault = self._fault(f"api/{kind}")
        if fault is not None and fault.content is not None:
            self._send(200, fault.content, {"Content-Type": "application/json"})
        elif fault is not None:
            self._error(fault.status, fault.error_code, fault.retry_after)
        elif not self._known(repository, revision):
            return
        elif kind == "revision":
            self._json(self._info(repository))
        elif kind == "tree":
            recursive = "recursive=True" in self.path or "recursive=true" in self.path
            self._json(self._tree(repository, "/".join(parts[4:]), recursive))
        elif kind == "paths-info":
            self._json(self._paths_info(repository))
        else:
            self._error(404)

    def _info(self, repository: str) -> dict[str, Any]:
        siblings = []
        for name, content in sorted(self.hub.repositories[repository].items()):
            entry = _entry(name, content)
            sibling = {"rfilename": name, "size": len(content), "blobId": entry["oid"]}
            if lfs := entry.get("lfs"):
                sibling["lfs"] = lfs | {"sha256": lfs["oid"]}
            siblings.append(sibling)
        about = {"private": False, "downloads": 0, "likes": 0, "tags": []}
        return {"id": repository, "sha": COMMIT, "siblings": siblings} | about

    def _tree(self, repository: str, under: str, recursive: bool) -> list[dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for name, content in sorted(self.hub.repositories[repository].items()):
            path = PurePosixPath(name)
            if under and not path.is_relative_to(under):
                continue
            relative = path.relative_to(under) if under else path
            folders = [str(PurePosixPath(under, parent)) for parent in relative.parents][:-1]
            shown = folders if recursive else folders[-1:]
            for folder in reversed(shown):
                entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}
            if recursive or not folders:
                entries[name] = _entry(name, content)
        return list(entries.values())

    def _paths_info(self, repository: str) -> list[dict[str, Any]]:
        try:
            paths = json.loads(self.body)["paths"]
        except ValueError:
            paths = parse_qs(self.body.decode())["paths"]
        files = self.hub.repositories[repository]
        found = [_entry(path, files[path]) for path in paths if path in files]
        for path in paths:
            if path not in files and any(name.startswith(f"{path}/") for name in files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        return found

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        content = self.hub.repositories.get(repository, {}).get(name)
        entry = {} if content is None else _entry(name, content)
        if "lfs" not in entry:
            self._note(f"/{name}")
        if not self._known(repository, revision):
            return
        if content is None:
            self._error(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{entry["oid"]}"'}
        if "lfs" not in entry:
            self._send(200, content, headers)
            return
        headers |= {
            "Location": f"{self.hub.url}/cdn/{repository}/{name}",
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{entry["lfs"]["oid"]}"',
        }
        self._send(302, b"", headers)

    def _content(self, repository: str, name: str) -> None:
        fault = (self._fault(name) if self.command == "GET" else None) or Fault()
        if fault.status:
            self._error(fault.status, fault.error_code, fault.retry_after)
            return
        whole = self.hub.repositories[repository][name]
        content = whole if fault.content is None else fault.content
        ranges = self.headers.get("Range")
        status, start, end = 200, 0, len(content)
        headers = {"ETag": f'"{hashlib.sha256(whole).hexdigest()}"', "Accept-Ranges": "bytes"}
        headers["X-Repo-Commit"] = COMMIT  # the client follows the redirect when it asks for HEAD
        if ranges:
            first, _, last = ranges.removeprefix("bytes=").partition("-")
            status, start, end = 206, int(first), min(end, int(last) + 1 if last else end)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(status, content[start:end], headers, fault)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """Describe a file as the Hub's tree listing does."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if name.endswith(LARGE_SUFFIXES):
        checksum = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": checksum, "size": len(content), "pointerSize": 134}
    return entry
