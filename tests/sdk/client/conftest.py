"""Servicers that answer as the contract says, from nothing but the request."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from blake3 import blake3

from pilothouse import tensors
from pilothouse.errors import (
    CorruptChunkError,
    IncompletePushError,
    InvalidChunkError,
    NonFiniteWeightsError,
    NotFoundError,
    PilothouseError,
    QueueFullError,
    UnavailableError,
)
from pilothouse.server import Server
from pilothouse.v1 import policy_pb2, policy_pb2_grpc, tensor_pb2, weights_pb2, weights_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


def address(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def tokenise(texts: tensor_pb2.TextSequences, damage: str = "") -> tensor_pb2.TokenisedTexts:
    """Makes one token of every character, and 2 of the end."""
    end = [] if texts.unfinished else [2]
    rows = [
        [*map(ord, prompt), *map(ord, response), *end]
        for prompt, response in zip(texts.prompts, texts.responses, strict=True)
    ]
    spans = [
        [at, min(at + 1, len(response))]
        for response in texts.responses
        for at in range(len(response) + len(end))
    ]
    lengths = [len(prompt) for prompt in texts.prompts]
    if damage == "row":
        rows, lengths, spans = rows[1:], lengths[1:], spans[len(texts.responses[0]) + len(end) :]
    return tensor_pb2.TokenisedTexts(
        sequences=tensors.encode_sequences(rows),
        prompt_lengths=tensors.encode(lengths[1:] if damage == "prompt" else lengths, np.int32),
        spans=tensors.encode(np.array(spans[1:] if damage == "span" else spans).reshape(-1, 2), np.int32),
    )


class EchoPolicy(policy_pb2_grpc.PolicyServiceServicer):
    """Completes every prompt with seed and sample index, last one first."""

    def __init__(self) -> None:
        self.requests: list[policy_pb2.GenerateRequest] = []
        self.failures: list[PilothouseError] = []
        """Raised by the next calls, one each."""
        self.calls = 0
        self.missing = 0
        """Completions left out."""
        self.closed = asyncio.Event()

    def add(self, server: grpc.aio.Server) -> None:
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(self, server)

    def _fail(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)

    async def Generate(
        self, request: policy_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[policy_pb2.GenerateResponse]:
        self._fail()
        self.requests.append(request)
        seeds = tensors.decode(request.seeds, name="seeds", dtype=np.int64, ndim=1).tolist()
        try:
            if request.stream_tokens:
                yield policy_pb2.GenerateResponse(chunk=_chunk(len(seeds)))
            places = [(prompt, sample) for prompt in range(len(seeds)) for sample in range(request.n)]
            for prompt, sample in reversed(places[self.missing :]):
                completion = _completion(prompt, sample, seeds[prompt])
                yield policy_pb2.GenerateResponse(completion=completion)
        finally:
            self.closed.set()

    async def Logprobs(
        self, request: policy_pb2.LogprobsRequest, context: Context
    ) -> policy_pb2.LogprobsResponse:
        tokenised = None
        if request.HasField("texts"):
            tokenised = tokenise(request.texts)
            request = policy_pb2.LogprobsRequest(
                sequences=tokenised.sequences,
                prompt_lengths=tokenised.prompt_lengths,
                temperature=request.temperature,
            )
        rows = tensors.decode_sequences(request.sequences, name="sequences", vocabulary_size=10**6)
        prompts = tensors.decode(request.prompt_lengths, name="prompt_lengths", dtype=np.int32, ndim=1)
        answers = [
            -row[start:] / request.temperature for row, start in zip(rows, prompts.tolist(), strict=True)
        ]
        return policy_pb2.LogprobsResponse(
            logprobs=tensors.encode(np.concatenate(answers), np.float32),
            lengths=tensors.encode([len(answer) for answer in answers], np.int32),
            epoch=3,
            version=4,
            tokenised=tokenised,
        )

    async def GetModel(self, request: object, context: Context) -> policy_pb2.GetModelResponse:
        self._fail()
        return policy_pb2.GetModelResponse(model="echo", epoch=3, version=4, eos_token_ids=[2])


def _completion(prompt: int, sample: int, seed: int) -> policy_pb2.Completion:
    return policy_pb2.Completion(
        prompt_index=prompt,
        sample_index=sample,
        tokens=tensors.encode([seed % 1000, sample, 2], np.int32),
        logprobs=tensors.encode([-1, -2, -3], np.float32),
        text=f"{seed}/{sample}",
        finish_reason=policy_pb2.FINISH_REASON_STOP_TOKEN,
        version_spans=[
            tensor_pb2.VersionSpan(epoch=1, version=1, start=0, end=2),
            tensor_pb2.VersionSpan(epoch=1, version=2, start=2, end=3),
        ],
        prompt_tokens=5,
    )


def _chunk(prompts: int) -> policy_pb2.TokenChunk:
    return policy_pb2.TokenChunk(
        completions=tensors.encode([[prompt, 0] for prompt in range(prompts)], np.int32),
        tokens=tensors.encode_sequences([[prompt] * (prompt + 1) for prompt in range(prompts)]),
        logprobs=tensors.encode([-1] * sum(range(prompts + 1)), np.float32),
    )


class StagedWeights(weights_pb2_grpc.WeightsServiceServicer):
    """Keeps one push; breaks uploads where ``break_after`` says."""

    def __init__(self) -> None:
        self.break_after: list[int] = []
        """Chunks taken before the next streams break, one number per stream."""
        self.failure: type[PilothouseError] = UnavailableError
        self.max_chunk_bytes = 1000
        self.refuse_commit = False
        self.staged = bytearray()
        self.begun: list[weights_pb2.BeginPushRequest] = []
        self.offsets: list[int] = []
        """Where every stream began."""
        self.aborted = 0
        self.commits: list[weights_pb2.CommitPushRequest] = []
        self.rollbacks = 0

    def add(self, server: grpc.aio.Server) -> None:
        weights_pb2_grpc.add_WeightsServiceServicer_to_server(self, server)

    @property
    def manifest(self) -> weights_pb2.Manifest:
        return self.begun[-1].manifest

    async def BeginPush(
        self, request: weights_pb2.BeginPushRequest, context: Context
    ) -> weights_pb2.BeginPushResponse:
        self.begun.append(request)
        return weights_pb2.BeginPushResponse(
            push_id="p1",
            next_offset=len(self.staged),
            lease_seconds=60,
            max_chunk_bytes=self.max_chunk_bytes,
        )

    async def UploadPush(
        self, request_iterator: AsyncIterator[weights_pb2.UploadPushRequest], context: Context
    ) -> weights_pb2.UploadPushResponse:
        self.offsets.append(len(self.staged))
        left = self.break_after.pop(0) if self.break_after else -1
        async for chunk in request_iterator:
            if left == 0:
                raise self.failure("the stream broke")
            left -= 1
            self._take(chunk)
        return weights_pb2.UploadPushResponse(next_offset=len(self.staged))

    def _take(self, chunk: weights_pb2.UploadPushRequest) -> None:
        if chunk.push_id != "p1":
            raise NotFoundError("no such push")
        if zlib.crc32(chunk.data) != chunk.crc32:
            raise CorruptChunkError("wrong CRC")
        if chunk.offset != len(self.staged) or not 0 < len(chunk.data) <= self.max_chunk_bytes:
            raise InvalidChunkError("out of order or too large")
        self.staged += chunk.data

    async def CommitPush(
        self, request: weights_pb2.CommitPushRequest, context: Context
    ) -> weights_pb2.CommitPushResponse:
        self.commits.append(request)
        if self.refuse_commit:
            raise NonFiniteWeightsError("NaN in a.weight")
        if len(self.staged) != self.manifest.total_size_bytes:
            raise IncompletePushError("bytes are missing")
        probes = [np.empty(0)]
        if request.HasField("probes"):
            rows = tensors.decode_sequences(request.probes, name="probes", vocabulary_size=100)
            probes = [-row[1:] for row in rows]
        return weights_pb2.CommitPushResponse(
            epoch=self.begun[-1].epoch,
            version=self.begun[-1].version,
            digest=blake3(b"".join(entry.digest for entry in self.manifest.entries)).digest(),
            probe_logprobs=tensors.encode(np.concatenate(probes), np.float32),
            swap_seconds=0.25,
        )

    async def AbortPush(self, request: object, context: Context) -> weights_pb2.AbortPushResponse:
        self.aborted += 1
        return weights_pb2.AbortPushResponse()

    async def GetPush(self, request: object, context: Context) -> weights_pb2.GetPushResponse:
        return weights_pb2.GetPushResponse(next_offset=len(self.staged))

    async def Rollback(self, request: object, context: Context) -> weights_pb2.RollbackResponse:
        self.rollbacks += 1
        if self.rollbacks == 1 and self.failure is QueueFullError:
            raise QueueFullError("busy", retry_after_seconds=0.01)
        return weights_pb2.RollbackResponse(epoch=1, version=self.rollbacks)


@pytest.fixture
def echo() -> EchoPolicy:
    return EchoPolicy()


@pytest.fixture
def staged() -> StagedWeights:
    return StagedWeights()
