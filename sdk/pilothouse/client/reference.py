"""Clients of the reference service."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.client.base import AsyncClient, SyncClient, sendable
from pilothouse.client.policy_codec import rows
from pilothouse.client.types import ReferenceLogprobs, ReferenceModel, TokenRow
from pilothouse.v1 import reference_pb2, reference_pb2_grpc


class ReferenceClient(SyncClient):
    """Asks the frozen reference model for log-probs."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds)
        self._stub = reference_pb2_grpc.ReferenceServiceStub(self._channel)

    def logprobs(
        self,
        sequences: Sequence[TokenRow],
        prompt_lengths: npt.ArrayLike,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
    ) -> ReferenceLogprobs:
        """Returns the log-probs of response tokens under the reference model.

        Args:
            sequences: Prompt and response joined, one row each.
            prompt_lengths: int [B]: how many tokens of every row are the prompt, each at least 1.
            temperature: Divides the logits; must be the one that the responses were sampled with.
            behaviour: Log-probs of the response tokens when sampled, one row per sequence; if given, the
                answer has the KL per token.

        Raises:
            InvalidRequestError: A row or length is not what the model takes.
            QueueFullError: The service has as much waiting work as it takes.
        """
        request = _request(sequences, prompt_lengths, temperature, behaviour)
        return _logprobs(self._call(self._stub.Logprobs, request))

    def model(self) -> ReferenceModel:
        """Returns what is being served."""
        return _model(self._call(self._stub.GetReferenceModel, reference_pb2.GetReferenceModelRequest()))


class AsyncReferenceClient(AsyncClient):
    """Asks the frozen reference model for log-probs, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds)
        self._stub = reference_pb2_grpc.ReferenceServiceStub(self._channel)

    async def logprobs(
        self,
        sequences: Sequence[TokenRow],
        prompt_lengths: npt.ArrayLike,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
    ) -> ReferenceLogprobs:
        """As ``ReferenceClient.logprobs``."""
        request = _request(sequences, prompt_lengths, temperature, behaviour)
        return _logprobs(await self._call(self._stub.Logprobs, request))

    async def model(self) -> ReferenceModel:
        """As ``ReferenceClient.model``."""
        return _model(
            await self._call(self._stub.GetReferenceModel, reference_pb2.GetReferenceModelRequest())
        )


@sendable()
def _request(
    sequences: Sequence[TokenRow],
    prompt_lengths: npt.ArrayLike,
    temperature: float,
    behaviour: Sequence[npt.ArrayLike] | None,
) -> reference_pb2.ReferenceServiceLogprobsRequest:
    request = reference_pb2.ReferenceServiceLogprobsRequest(
        sequences=tensors.encode_sequences(sequences),
        prompt_lengths=tensors.encode(prompt_lengths, np.int32),
        temperature=temperature,
    )
    if behaviour is not None:
        flat = [np.asarray(row, np.float32).reshape(-1) for row in behaviour]
        request.behaviour_logprobs.CopyFrom(tensors.encode(np.concatenate(flat) if flat else [], np.float32))
    return request


def _logprobs(response: reference_pb2.ReferenceServiceLogprobsResponse) -> ReferenceLogprobs:
    kl = rows(response.kl, response.lengths) if response.HasField("kl") else None
    return ReferenceLogprobs(rows(response.logprobs, response.lengths), kl, response.reference_digest)


def _model(response: reference_pb2.GetReferenceModelResponse) -> ReferenceModel:
    return ReferenceModel(
        model=response.model,
        reference_digest=response.reference_digest,
        vocabulary_size=response.vocabulary_size,
        max_sequence_tokens=response.max_sequence_tokens,
        tokenizer_digest=response.tokenizer_digest,
    )
