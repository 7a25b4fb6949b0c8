"""An API server that answers as a test says: what a real one does only when it is ill."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import Configuration

from pilothouse.cluster.api import Api

Answer = tuple[int, bytes]
Query = dict[str, str]


@contextmanager
def fake_api(answer: Callable[[Query], Answer]) -> Iterator[Api]:
    """Yields an API of which every request is answered by ``answer``, given its query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            status, body = answer(query)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_port}"
    try:
        yield Api(configuration, "rlhf")
    finally:
        server.shutdown()
        server.server_close()


def listing(version: int, *items: Any) -> Answer:
    return 200, json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items}).encode()


def event(what: str, found: Any) -> Answer:
    return 200, json.dumps({"type": what, "object": found}).encode() + b"\n"


def failure(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "message": message}
