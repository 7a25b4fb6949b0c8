"""A real server without a model: what the supervisor's tests start as a service."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pilothouse.config import Config
from pilothouse.errors import ModelNotFoundError
from pilothouse.server import Server, ServerConfig, serve_main


class ChildConfig(Config):
    """Settings of the test's service."""

    server: ServerConfig = ServerConfig()
    """Its first server."""
    second_server: ServerConfig = ServerConfig(http_port=-1)
    """Its second server."""
    mood: str = "good"
    """``missing``: no model. ``die-once:FILE``: killed on the first start. ``hang-second:FILE``: the second
    start never ends. ``deaf``: ignores SIGTERM."""


@asynccontextmanager
async def build(config: ChildConfig) -> AsyncIterator[list[Server]]:
    """Yields two servers."""
    if config.mood == "missing":
        raise ModelNotFoundError("no model in 'nowhere'; set child.model")
    if config.mood == "slow":
        await asyncio.Event().wait()
    if config.mood.startswith("die-once:") and not (marker := Path(config.mood[9:])).exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if config.mood.startswith("hang-second:"):
        starts = Path(config.mood[12:])
        with starts.open("a") as file:
            file.write("x")
        if starts.read_text() == "xx":
            await asyncio.Event().wait()
    yield [Server(config.server, "first"), Server(config.second_server, "second")]
    if config.mood == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(serve_main("child", ChildConfig, build))
