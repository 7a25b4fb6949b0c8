"""The asyncio client of the weights service."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Unpack

import grpc

from pilothouse.client import weights_codec as codec
from pilothouse.client.base import AsyncClient
from pilothouse.client.channels import Security
from pilothouse.client.push_plan import PushPlan, plan_push
from pilothouse.client.types import KvPolicy, PushResult, TokenRow, WeightsState
from pilothouse.errors import InternalError, PilothouseError, UnavailableError
from pilothouse.status import from_rpc
from pilothouse.v1 import weights_pb2, weights_pb2_grpc


class AsyncWeightsClient(AsyncClient):
    """Replaces the weights of a running policy, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = weights_pb2_grpc.WeightsServiceStub(self._channel)

    async def push(
        self,
        tensors: codec.Arrays,
        *,
        run: str,
        epoch: int,
        version: int,
        parent: tuple[int, int] | None = None,
        unchanged: Collection[str] | Mapping[str, bytes] = (),
        probes: Sequence[TokenRow] = (),
        kv_policy: KvPolicy | None = None,
    ) -> PushResult:
        """As ``WeightsClient.push``."""
        commit = codec.commit_request(probes, kv_policy)
        plan = await asyncio.to_thread(plan_push, tensors, unchanged)
        begin = codec.begin_request(plan, run, epoch, version, parent)
        commit.push_id = await self._upload_all(plan, begin)
        try:
            answer = await self._call(self._stub.CommitPush, commit)
        except PilothouseError as error:
            if not isinstance(error, codec.UNDECIDED):
                await self._abort(commit.push_id)
            raise
        return codec.result(plan, answer)

    async def rollback(self, kv_policy: KvPolicy | None = None) -> tuple[int, int]:
        """As ``WeightsClient.rollback``."""
        request = weights_pb2.RollbackRequest(kv_policy=codec.encode_kv_policy(kv_policy))
        answer = await self._call(self._stub.Rollback, request)
        return answer.epoch, answer.version

    async def state(self) -> WeightsState:
        """As ``WeightsClient.state``."""
        seconds = min(self.timeout_seconds, codec.STATE_SECONDS)
        try:
            answer = await self._stub.GetWeights(weights_pb2.GetWeightsRequest(), timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc(error, target=self.target) from error
        return codec.state(answer)

    async def _upload_all(self, plan: PushPlan, begin: weights_pb2.BeginPushRequest) -> str:
        progress = codec.Progress()
        while True:
            push = await self._call(self._stub.BeginPush, begin)
            progress.started(push.next_offset)
            try:
                await self._upload(plan, push)
                push_id: str = push.push_id
                return push_id
            except PilothouseError as error:
                try:
                    pause = progress.pause_seconds(error)
                except PilothouseError:
                    await self._abort(push.push_id)
                    raise
            await asyncio.sleep(pause)

    async def _upload(self, plan: PushPlan, push: weights_pb2.BeginPushResponse) -> None:
        if push.next_offset == plan.total_bytes:
            return
        try:
            answer = await self._call(self._stub.UploadPush, _in_threads(plan, push))
        except InternalError as error:
            # grpc.aio loses a status that arrives while it writes; what ended the push is asked for instead.
            await self._call(self._stub.GetPush, weights_pb2.GetPushRequest(push_id=push.push_id))
            raise UnavailableError(f"{self.target} broke the upload off") from error
        codec.check_complete(plan, answer.next_offset)

    async def _abort(self, push_id: str) -> None:
        with suppress(PilothouseError):
            await self._call(self._stub.AbortPush, weights_pb2.AbortPushRequest(push_id=push_id))


async def _in_threads(
    plan: PushPlan, push: weights_pb2.BeginPushResponse
) -> AsyncIterator[weights_pb2.UploadPushRequest]:
    """Yields the chunks, each copied and checked off the event loop."""
    chunks = plan.chunks(push.push_id, push.next_offset, codec.chunk_bytes(push))
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
