"""WeightsService on the wire: decodes, calls the transaction, encodes."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any
from zlib import crc32

import grpc
import numpy as np

from pilothouse import tensors
from pilothouse.errors import InvalidChunkError, InvalidRequestError, NotFoundError
from pilothouse.policy.limits import Limits
from pilothouse.policy.outgoing import bytes_of, manifest_of
from pilothouse.policy.push import MAX_CHUNK_BYTES, Offer
from pilothouse.policy.requests import Version
from pilothouse.policy.weights import KvPolicy, WeightTransactions
from pilothouse.policy.weights_codec import decode_manifest, encode_served
from pilothouse.v1 import weights_pb2, weights_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PROBES = 64
MAX_PROBE_TOKENS = 16_384
"""Of all probes of a commit together."""

MAX_FETCHES = 2
"""Peers that are sent weights at the same time; each holds on to what served when it began."""

_RUN_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_KV_POLICIES: dict[weights_pb2.KvPolicy, KvPolicy | None] = {
    weights_pb2.KV_POLICY_UNSPECIFIED: None,
    weights_pb2.KV_POLICY_KEEP: "keep",
    weights_pb2.KV_POLICY_RECOMPUTE: "recompute",
}


class WeightsServicer(weights_pb2_grpc.WeightsServiceServicer):
    """Serves weight pushes."""

    def __init__(self, transactions: WeightTransactions, limits: Limits, tokenizer_digest: str) -> None:
        """Puts the wire before a transaction.

        Args:
            transactions: Does the work.
            limits: What a probe may be.
            tokenizer_digest: Of the policy, for trainers.
        """
        self.instance = secrets.token_hex(8)
        """Names this process."""
        self._transactions = transactions
        self._limits = limits
        self._tokenizer_digest = tokenizer_digest
        self._fetches = asyncio.Semaphore(MAX_FETCHES)

    async def BeginPush(
        self, request: weights_pb2.BeginPushRequest, context: Context
    ) -> weights_pb2.BeginPushResponse:
        """Opens a push or finds the open one."""
        progress = await self._transactions.begin(_decode_offer(request))
        return weights_pb2.BeginPushResponse(
            push_id=progress.push_id,
            next_offset=progress.next_offset,
            lease_seconds=self._transactions.lease_seconds,
            max_chunk_bytes=MAX_CHUNK_BYTES,
        )

    async def UploadPush(
        self, request_iterator: AsyncIterator[weights_pb2.UploadPushRequest], context: Context
    ) -> weights_pb2.UploadPushResponse:
        """Takes chunks until the caller ends the stream."""
        push_id = ""
        next_offset = 0
        async for chunk in request_iterator:
            push_id = push_id or chunk.push_id
            if not push_id or (chunk.push_id and chunk.push_id != push_id):
                raise InvalidChunkError("the first chunk of a stream names the push, and all belong to it")
            next_offset = await self._transactions.upload(push_id, chunk.offset, chunk.data, chunk.crc32)
        if not push_id:
            raise InvalidChunkError("the stream had no chunk; send at least one")
        return weights_pb2.UploadPushResponse(next_offset=next_offset)

    async def CommitPush(
        self, request: weights_pb2.CommitPushRequest, context: Context
    ) -> weights_pb2.CommitPushResponse:
        """Verifies and swaps."""
        policy = _kv_policy(request.kv_policy)
        probes = self._probes(request)
        committed = await self._transactions.commit(request.push_id, policy, probes)
        return weights_pb2.CommitPushResponse(
            epoch=committed.version.epoch,
            version=committed.version.version,
            digest=committed.digest,
            probe_logprobs=tensors.encode(committed.probe_logprobs, np.float32),
            swap_seconds=committed.swap_seconds,
        )

    async def AbortPush(
        self, request: weights_pb2.AbortPushRequest, context: Context
    ) -> weights_pb2.AbortPushResponse:
        """Drops a push."""
        self._transactions.abort(request.push_id)
        return weights_pb2.AbortPushResponse()

    async def GetPush(
        self, request: weights_pb2.GetPushRequest, context: Context
    ) -> weights_pb2.GetPushResponse:
        """Tells where an upload goes on."""
        progress = self._transactions.progress(request.push_id)
        return weights_pb2.GetPushResponse(
            next_offset=progress.next_offset,
            total_size_bytes=progress.total_bytes,
            committed=progress.committed,
        )

    async def GetWeights(
        self, request: weights_pb2.GetWeightsRequest, context: Context
    ) -> weights_pb2.GetWeightsResponse:
        """Tells what serves and what arrives."""
        transactions, arriving = self._transactions, self._transactions.arriving or Version(0, 0)
        taken_back = transactions.taken_back
        return weights_pb2.GetWeightsResponse(
            instance=self.instance,
            epoch=transactions.current.version.epoch,
            version=transactions.current.version.version,
            digest=transactions.current.digest,
            fence=transactions.fence,
            open_epoch=arriving.epoch,
            open_version=arriving.version,
            tokenizer_digest=self._tokenizer_digest,
            taken_back_epoch=taken_back.epoch,
            taken_back_version=taken_back.version,
        )

    async def FetchWeights(
        self, request: weights_pb2.FetchWeightsRequest, context: Context
    ) -> AsyncIterator[weights_pb2.FetchWeightsResponse]:
        """Streams what serves when its turn comes, whatever is committed meanwhile."""
        transactions, above = self._transactions, Version(request.above_epoch, request.above_version)
        async with self._fetches:  # whoever waits for it holds on to nothing yet
            served, fence, taken_back = transactions.current, transactions.fence, transactions.taken_back
            if served.version <= above:
                raise NotFoundError(f"(epoch, version) {tuple(served.version)} serves here, no newer one")
            manifest = await asyncio.to_thread(manifest_of, served)
            head = encode_served(served, manifest, fence, taken_back)
            yield weights_pb2.FetchWeightsResponse(weights=head)
            offset, chunks = 0, bytes_of(served, MAX_CHUNK_BYTES)
            while (chunk := await asyncio.to_thread(_next_chunk, chunks, offset)) is not None:
                offset += len(chunk.data)
                yield weights_pb2.FetchWeightsResponse(chunk=chunk)

    async def Rollback(
        self, request: weights_pb2.RollbackRequest, context: Context
    ) -> weights_pb2.RollbackResponse:
        """Goes back by one version."""
        version = await self._transactions.rollback(_kv_policy(request.kv_policy))
        return weights_pb2.RollbackResponse(epoch=version.epoch, version=version.version)

    def _probes(self, request: weights_pb2.CommitPushRequest) -> list[tensors.Tokens]:
        if not request.HasField("probes"):
            return []
        probes = self._limits.sequences(request.probes, "probes")
        if len(probes) > MAX_PROBES or sum(len(probe) for probe in probes) > MAX_PROBE_TOKENS:
            raise InvalidRequestError(
                f"send at most {MAX_PROBES} probes, of {MAX_PROBE_TOKENS} tokens together"
            )
        if any(len(probe) < 2 for probe in probes):
            raise InvalidRequestError("a probe needs at least two tokens: the first is not scored")
        return probes


def _decode_offer(request: weights_pb2.BeginPushRequest) -> Offer:
    if not _RUN_NAME.fullmatch(request.run):
        raise InvalidRequestError("run must match [a-z0-9._-]{1,64}")
    if min(request.epoch, request.version, request.parent_epoch, request.parent_version) < 0:
        raise InvalidRequestError("epoch, version and parent must not be negative")
    return Offer(
        run=request.run,
        version=Version(request.epoch, request.version),
        parent=Version(request.parent_epoch, request.parent_version),
        manifest=decode_manifest(request.manifest),
    )


def _next_chunk(chunks: Iterator[bytes], offset: int) -> weights_pb2.UploadPushRequest | None:
    data = next(chunks, None)
    if data is None:
        return None
    return weights_pb2.UploadPushRequest(offset=offset, data=data, crc32=crc32(data))


def _kv_policy(value: weights_pb2.KvPolicy) -> KvPolicy | None:
    if value not in _KV_POLICIES:
        raise InvalidRequestError("kv_policy is unknown to this server; choose keep or recompute")
    return _KV_POLICIES[value]
