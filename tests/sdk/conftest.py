"""Real servers on free ports, around small servicers."""

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from pilothouse.server import Server, ServerConfig

Add = Callable[[grpc.aio.Server], None]
Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(add, **settings)`` starts a server with the servicers that ``add`` adds."""
    servers: list[Server] = []

    async def start(add: Add, *services: str, serving: bool = True, **settings: object) -> Server:
        server = Server(ServerConfig.model_validate(settings), "test")
        add(server.grpc)
        server.services(*services)
        servers.append(server)
        await server.start(serving=serving)
        return server

    yield start
    for server in servers:
        await server.abort()
