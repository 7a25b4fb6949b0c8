"""Real servers on free ports, around small servicers."""

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from pilothouse.server import Server, ServerConfig
from pilothouse.tls import Tls

Add = Callable[[grpc.aio.Server], None]
Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(add, **settings)`` starts a server with what ``add`` adds; ``tls=`` secures it."""
    servers: list[Server] = []

    async def start(
        add: Add, *services: str, serving: bool = True, tls: Tls | None = None, **settings: object
    ) -> Server:
        server = Server(ServerConfig.model_validate(settings), "test", tls)
        add(server.grpc)
        server.services(*services)
        servers.append(server)
        await server.start(serving=serving)
        return server

    yield start
    for server in servers:
        await server.abort()
