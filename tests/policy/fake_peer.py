"""A peer that has no weights, and counts how often it is asked for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from pilothouse.v1 import weights_pb2, weights_pb2_grpc


class FakePeer(weights_pb2_grpc.WeightsServiceServicer):
    """Every replica that knows it asks it once in every round."""

    def __init__(self) -> None:
        self.port = 0
        self._asked = asyncio.Condition()
        self._times = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """Happens while it is asked for the first time."""

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def rounds(self, more: int) -> None:
        """Returns after so many rounds more."""
        async with asyncio.timeout(60), self._asked:
            goal = self._times + more
            await self._asked.wait_for(lambda: self._times >= goal)

    async def GetWeights(self, request: Any, context: Any) -> weights_pb2.GetWeightsResponse:
        async with self._asked:
            self._times += 1
            self._asked.notify_all()
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        return weights_pb2.GetWeightsResponse(instance="fake")


@asynccontextmanager
async def fake_peer() -> AsyncIterator[FakePeer]:
    peer, server = FakePeer(), grpc.aio.server()
    weights_pb2_grpc.add_WeightsServiceServicer_to_server(peer, server)
    peer.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(None)
