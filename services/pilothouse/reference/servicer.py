"""ReferenceService on the wire: decodes, computes, encodes."""

import asyncio
from functools import partial
from typing import Any

import grpc
import numpy as np

from pilothouse import tensors
from pilothouse.reference import metrics
from pilothouse.reference.engine import ReferenceEngine
from pilothouse.reference.requests import RequestReader
from pilothouse.reference.worker import Worker
from pilothouse.v1 import reference_pb2, reference_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ReferenceServicer(reference_pb2_grpc.ReferenceServiceServicer):
    """Catches no errors."""

    def __init__(
        self,
        engine: ReferenceEngine,
        worker: Worker,
        reader: RequestReader,
        *,
        name: str,
        digest: str,
        tokenizer_digest: str,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._reader = reader
        self._name = name
        self._digest = digest
        self._tokenizer_digest = tokenizer_digest

    async def Logprobs(  # noqa: D102 - documented in the proto
        self, request: reference_pb2.ReferenceServiceLogprobsRequest, context: Context
    ) -> reference_pb2.ReferenceServiceLogprobsResponse:
        # On a thread: tokenising long texts takes a while.
        asked = await asyncio.to_thread(self._reader.read, request)
        job = partial(self._engine.logprobs, asked.sequences, asked.prompt_lengths, asked.temperature)
        with metrics.counted(job) as counted:
            logprobs = await self._worker.run(counted)
        metrics.TOKENS.inc(len(logprobs))
        return reference_pb2.ReferenceServiceLogprobsResponse(
            logprobs=tensors.encode(logprobs),
            lengths=tensors.encode(asked.response_lengths, np.int32),
            kl=None if asked.behaviour is None else tensors.encode(asked.behaviour - logprobs),
            reference_digest=self._digest,
            tokenised=asked.tokenised,
        )

    async def GetReferenceModel(  # noqa: D102 - documented in the proto
        self, request: reference_pb2.GetReferenceModelRequest, context: Context
    ) -> reference_pb2.GetReferenceModelResponse:
        return reference_pb2.GetReferenceModelResponse(
            model=self._name,
            reference_digest=self._digest,
            vocabulary_size=self._engine.vocabulary_size,
            max_sequence_tokens=self._engine.max_sequence_tokens,
            tokenizer_digest=self._tokenizer_digest,
        )
