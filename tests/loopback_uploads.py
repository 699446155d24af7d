"""What the loopback Hub does when models are pushed: repositories, LFS uploads, commits."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import Any


class Uploads:
    """The Hub's side of a push, kept in `repositories`.

    Args:
        repositories: name to files; grows.
        token: the only one that may write.
    """

    def __init__(self, repositories: dict[str, dict[str, bytes]], token: str) -> None:
        self.repositories = repositories
        self.token = token
        self.objects: dict[str, bytes] = {}

    def answer(self, handler: BaseHTTPRequestHandler, path: str, body: bytes, url: str) -> Any:
        """Answer a request to write: JSON, the status of a refusal, or None for any other path."""
        answers = {
            "/upload/": self._object,
            "/validate-yaml": lambda *_: {"errors": [], "warnings": []},
            "/repos/create": self._create,
            "/objects/batch": self._batch,
            "/preupload/": self._modes,
            "/commit/": self._commit_all,
        }
        answer = next((found for part, found in answers.items() if part in path), None)
        if answer is None:
            return None
        authorization = handler.headers.get("Authorization")
        if "/upload/" not in path and authorization != f"Bearer {self.token}":
            return 401
        return answer(path, body, url)

    def _object(self, path: str, body: bytes, _: str) -> Any:
        self.objects[path.rpartition("/")[2]] = body
        return {}

    def _create(self, _: str, body: bytes, url: str) -> Any:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        self.repositories.setdefault(name, {})
        return {"url": f"{url}/{name}"}

    def _batch(self, _: str, body: bytes, url: str) -> Any:
        objects = [
            {**each, "actions": {"upload": {"href": f"{url}/upload/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _modes(self, _: str, body: bytes, __: str) -> Any:
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
        files = [
            {"path": path, "uploadMode": mode, "shouldIgnore": False}
            for path, mode in modes.items()
        ]
        return {"files": files}

    def _commit_all(self, path: str, body: bytes, url: str) -> Any:
        repository, _, _ = path.removeprefix("/api/models/").partition("/commit/")
        for line in body.splitlines():
            self._commit(self.repositories[repository], json.loads(line))
        return {"success": True, "commitOid": "c" * 40, "commitUrl": f"{url}/{repository}/commit/c"}

    def _commit(self, files: dict[str, bytes], operation: dict[str, Any]) -> None:
        value = operation["value"]
        if operation["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif operation["key"] == "lfsFile":
            content = self.objects[value["oid"]]
            assert hashlib.sha256(content).hexdigest() == value["oid"]
            files[value["path"]] = content
