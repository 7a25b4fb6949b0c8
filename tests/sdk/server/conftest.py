"""A policy servicer that does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from pilothouse.v1 import policy_pb2, policy_pb2_grpc, weights_pb2, weights_pb2_grpc

POLICY = "pilothouse.v1.PolicyService"

Context = grpc.aio.ServicerContext[Any, Any]
Work = Callable[[], Awaitable[None]]


class ScriptedPolicy(policy_pb2_grpc.PolicyServiceServicer):
    """GetModel does ``work``; Generate streams ``chunks``, then waits until it is let go."""

    def __init__(self) -> None:
        self.work: Work = self._nothing
        self.chunks = 3
        self.chunk_bytes = 1
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.closed = asyncio.Event()

    def add(self, server: grpc.aio.Server) -> None:
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(self, server)
        weights_pb2_grpc.add_WeightsServiceServicer_to_server(_Weights(), server)

    async def wait(self) -> None:
        """Work that lasts until ``go_on``."""
        self.entered.set()
        await self.go_on.wait()

    async def GetModel(self, request: object, context: Context) -> policy_pb2.GetModelResponse:
        try:
            await self.work()
        finally:
            self.closed.set()
        return policy_pb2.GetModelResponse(model="scripted")

    async def Generate(self, request: object, context: Context) -> AsyncIterator[policy_pb2.GenerateResponse]:
        try:
            for _ in range(self.chunks):
                yield policy_pb2.GenerateResponse(
                    completion=policy_pb2.Completion(text="x" * self.chunk_bytes)
                )
            await self.wait()
        finally:
            self.closed.set()

    async def Logprobs(self, request: object, context: Context) -> policy_pb2.LogprobsResponse:
        return policy_pb2.LogprobsResponse()

    async def _nothing(self) -> None:
        return


class _Weights(weights_pb2_grpc.WeightsServiceServicer):
    """Counts uploaded chunks."""

    async def UploadPush(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> weights_pb2.UploadPushResponse:
        return weights_pb2.UploadPushResponse(next_offset=len([chunk async for chunk in request_iterator]))


@pytest.fixture
def policy() -> ScriptedPolicy:
    return ScriptedPolicy()
