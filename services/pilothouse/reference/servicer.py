"""ReferenceService on the wire: decodes, computes, encodes."""

from functools import partial
from typing import Any

import grpc
import numpy as np

from pilothouse import tensors
from pilothouse.errors import InvalidTensorError
from pilothouse.reference.engine import ReferenceEngine
from pilothouse.reference.metrics import LOGPROB_SECONDS, LOGPROB_TOKENS
from pilothouse.reference.worker import Worker
from pilothouse.tensors import Floats
from pilothouse.v1 import reference_pb2, reference_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ReferenceServicer(reference_pb2_grpc.ReferenceServiceServicer):
    """Catches no errors."""

    def __init__(
        self, engine: ReferenceEngine, worker: Worker, *, name: str, digest: str, tokenizer_digest: str
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._name = name
        self._digest = digest
        self._tokenizer_digest = tokenizer_digest

    async def Logprobs(  # noqa: D102 - documented in the proto
        self, request: reference_pb2.ReferenceServiceLogprobsRequest, context: Context
    ) -> reference_pb2.ReferenceServiceLogprobsResponse:
        sequences = tensors.decode_sequences(
            request.sequences,
            name="sequences",
            vocabulary_size=self._engine.vocabulary_size,
            max_rows=self._engine.max_request_tokens,  # every row has a token
        )
        prompts = tensors.decode(request.prompt_lengths, name="prompt_lengths", dtype=np.int32, ndim=1)
        temperature = request.temperature if request.HasField("temperature") else 1.0
        self._engine.check(sequences, prompts.astype(np.int32), temperature)
        lengths = np.array([len(sequence) for sequence in sequences], np.int32) - prompts.astype(np.int32)
        behaviour = _decode_behaviour(request, int(lengths.sum()))
        with LOGPROB_SECONDS.time():
            logprobs = await self._worker.run(
                partial(self._engine.logprobs, sequences, prompts.tolist(), temperature)
            )
        LOGPROB_TOKENS.inc(len(logprobs))
        return reference_pb2.ReferenceServiceLogprobsResponse(
            logprobs=tensors.encode(logprobs),
            lengths=tensors.encode(lengths),
            kl=None if behaviour is None else tensors.encode(behaviour - logprobs),
            reference_digest=self._digest,
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


def _decode_behaviour(request: reference_pb2.ReferenceServiceLogprobsRequest, count: int) -> Floats | None:
    """Returns the behaviour log-probabilities, float32 [R], or None where none were sent."""
    if not request.HasField("behaviour_logprobs"):
        return None
    name = "behaviour_logprobs"
    values = tensors.decode(request.behaviour_logprobs, name=name, dtype=np.float32, ndim=1)
    behaviour = values.astype(np.float32, copy=False)
    if len(behaviour) != count:
        raise InvalidTensorError(
            f"{name} has {len(behaviour)} values for {count} response tokens; send one each"
        )
    return behaviour
