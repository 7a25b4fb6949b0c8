"""The plain HTTP port: /healthz and /readyz for a supervisor, /metrics for Prometheus."""

import asyncio
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST

from pilothouse.server.metrics import exposition

_MAX_REQUEST_BYTES = 8 * 2**10
_MAX_REQUEST_SECONDS = 5.0
_MAX_CONNECTIONS = 64

_TEXT = "text/plain; charset=utf-8"


class HttpPort:
    """Answers GET and HEAD on three paths, one bounded request a connection, bounded connections."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    async def start(self, host: str, port: int) -> int:
        """Listens and returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_MAX_REQUEST_BYTES)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stops listening and ends what is open: from Python 3.12 on, the wait is for that too."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._make_room()
        self._open[writer] = None
        try:
            async with asyncio.timeout(_MAX_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._respond(head))
                await writer.drain()
        except asyncio.LimitOverrunError:
            writer.write(_answer("431 Request Header Fields Too Large", b"request too large\n"))
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the peer left or was too slow; there is nobody to tell
        finally:
            self._open.pop(writer, None)
            writer.close()

    def _make_room(self) -> None:
        """Ends the oldest connection where there are too many: who asks at once always gets an answer.

        A probe sends its request as it connects. Refused instead, it would take idle connections for a dead
        service and have it killed.
        """
        if len(self._open) >= _MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()

    def _respond(self, head: bytes) -> bytes:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _answer("400 Bad Request", b"not an HTTP request\n")
        verb, path = parts[0], parts[1].split(b"?", 1)[0]
        if verb not in (b"GET", b"HEAD"):
            return _answer("405 Method Not Allowed", b"use GET\n")
        return self._page(path, with_body=verb == b"GET")

    def _page(self, path: bytes, *, with_body: bool) -> bytes:
        if path == b"/healthz":
            return _answer("200 OK", b"ok\n", with_body=with_body)
        if path == b"/readyz":
            if self._is_ready():
                return _answer("200 OK", b"ready\n", with_body=with_body)
            return _answer("503 Service Unavailable", b"not ready\n", with_body=with_body)
        if path == b"/metrics":
            return _answer("200 OK", exposition(), content_type=CONTENT_TYPE_LATEST, with_body=with_body)
        return _answer("404 Not Found", b"try /healthz, /readyz or /metrics\n", with_body=with_body)


def _answer(status: str, body: bytes, *, content_type: str = _TEXT, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
