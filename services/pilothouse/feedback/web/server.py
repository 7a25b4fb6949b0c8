"""Serves the page over HTTP, inside an event loop that somebody else runs."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from pilothouse.errors import ConfigError, InternalError
from pilothouse.feedback.config import PageConfig
from pilothouse.feedback.web.arrival import punctual
from pilothouse.feedback.web.cookies import is_encrypted

_MAX_CONNECTIONS = 1_024
_IDLE_SECONDS = 30
_DRAIN_SECONDS = 10
_BACKLOG = 512


class PageServer:
    """One HTTP server; signals stay with the process's own."""

    def __init__(self, app: ASGIApp, page: PageConfig) -> None:
        self._page = page
        self._server = _Server(
            uvicorn.Config(
                app,
                http=punctual(page.request_seconds),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # A proxy that ends TLS on this machine says who calls; anybody else is not believed.
                proxy_headers=is_encrypted(page),
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listens and returns the port.

        Raises:
            ConfigError: The address is not to be had.
        """
        listener = _listen(self._page.host, self._page.port)
        port: int = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise InternalError("the page's server ended as it began; see the log")
            await asyncio.sleep(0.005)
        return port

    async def stop(self) -> None:
        """Takes no new requests, lets running ones finish for some seconds, and ends."""
        if self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        self._serving = None


class _Server(uvicorn.Server):
    """Uvicorn, without its signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"the page cannot listen on {host}:{port} ({error.strerror or error}); set feedback.page.port "
            "to a free port, or to 0 for any"
        ) from None
