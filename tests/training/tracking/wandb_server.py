"""A stand-in for the server of Weights & Biases, on loopback: enough for one run, or faulty."""

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """Answers in its own thread.

    Args:
        fault: "" (none), "hangs", "500", "api hangs", "api 500" (only the API does), "no key"
            (401), or "upload hangs" (runs start, rows are never accepted).
        last_step: of the run that the server knows already; None if it knows none.
    """

    def __init__(self, fault: str = "", last_step: int | None = None) -> None:
        self.fault = fault
        self.last_step = last_step
        self.requests: list[tuple[str, str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                owner.answer(self, body.decode(errors="replace"))

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._stopped = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop, and release the requests that hang."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def rows(self) -> list[dict[str, Any]]:
        """The rows that were uploaded, in order."""
        uploads = [json.loads(body) for _, path, body in self.requests if "file_stream" in path]
        histories = [upload.get("files", {}).get("wandb-history.jsonl") for upload in uploads]
        return [json.loads(line) for history in histories if history for line in history["content"]]

    def answer(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        api = handler.command == "POST"
        self.requests.append((handler.command, handler.path, body))
        upload = "file_stream" in handler.path
        hangs = {"hangs": True, "api hangs": api, "upload hangs": upload}.get(self.fault, False)
        if hangs:
            self._stopped.wait()
            time.sleep(0.1)
        status = {"500": 500, "api 500": 500 if api else 200, "no key": 401 if api else 200}
        answer = json.dumps(self._graphql(body) if "graphql" in handler.path else {}).encode()
        handler.send_response(status.get(self.fault, 200))
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _graphql(self, body: str) -> dict[str, Any]:
        question = json.loads(body)
        variables = question.get("variables") or {}
        project = {"id": "p", "name": "project", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": variables.get("name"), "displayName": "d", "project": project}
        match question.get("operationName"):
            case "UpsertBucket":
                return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
            case "RunResumeStatus":
                return {"data": {"model": {"bucket": self._known(bucket)}}}
            case "CreateRunFiles":
                files = [{"name": f, "uploadUrl": f"{self.url}/{f}"} for f in variables["files"]]
                created = {"runID": "r", "uploadHeaders": [], "files": files}
                return {"data": {"createRunFiles": created}}
            case _:
                return {"data": {}}

    def _known(self, bucket: dict[str, Any]) -> dict[str, Any] | None:
        if self.last_step is None:
            return None
        tail = json.dumps([json.dumps({"_step": self.last_step, "_runtime": 1})])
        counts = {f"{kind}LineCount": self.last_step for kind in ("log", "history", "events")}
        lines = {"historyTail": tail, "eventsTail": "[]", "config": "{}", "tags": []}
        summary = json.dumps({"_step": self.last_step})
        return bucket | counts | lines | {"summaryMetrics": summary, "wandbConfig": '{"t": 1}'}
