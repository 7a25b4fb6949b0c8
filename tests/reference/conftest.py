"""A reference server over the tiny model."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pilothouse.config import parse
from pilothouse.reference.build import build
from pilothouse.reference.config import ReferenceConfig
from pilothouse.server import Server

Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def serve() -> Serve:
    """``async with serve(max_batch_tokens=8) as server``: the real service on a free port."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Server]:
        config = parse(ReferenceConfig, {"server": {"http_port": -1}} | settings, section="reference")
        async with build(config) as (server,):
            await server.start()
            try:
                yield server
            finally:
                await server.stop()

    return serving
