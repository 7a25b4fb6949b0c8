"""Clients of the reference service."""

from collections.abc import Sequence
from typing import Unpack, overload

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.client.base import AsyncClient, SyncClient, sendable
from pilothouse.client.channels import Security
from pilothouse.client.policy_codec import rows
from pilothouse.client.sequences_codec import fill, tokenised
from pilothouse.client.types import ReferenceLogprobs, ReferenceModel, TokenRow
from pilothouse.v1 import reference_pb2, reference_pb2_grpc


class ReferenceClient(SyncClient):
    """Asks the frozen reference model for log-probs."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = reference_pb2_grpc.ReferenceServiceStub(self._channel)

    @overload
    def logprobs(
        self,
        sequences: Sequence[TokenRow],
        prompt_lengths: npt.ArrayLike,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
    ) -> ReferenceLogprobs: ...

    @overload
    def logprobs(
        self,
        *,
        prompts: Sequence[str],
        responses: Sequence[str],
        unfinished: bool = False,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
    ) -> ReferenceLogprobs: ...

    def logprobs(
        self,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
        *,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        unfinished: bool = False,
    ) -> ReferenceLogprobs:
        """Returns the log-probs of response tokens under the reference model.

        Give sequences and prompt lengths, or prompts and responses.

        Args:
            sequences: Token ids, prompt and response joined, one row each.
            prompt_lengths: int [B]: how many tokens of every row are the prompt, each at least 1.
            temperature: Divides the logits; must be the one that the responses were sampled with.
            behaviour: Log-probs of the response tokens when sampled, one row per sequence; if given, the
                answer has the KL per token.
            prompts: Texts, one per row, each of at least one token.
            responses: Texts, one per row.
            unfinished: The responses go on; else each is followed by the end-of-sequence id, as in training.

        Raises:
            InvalidRequestError: Neither or both kinds were given, or a row is not what the model takes.
            QueueFullError: The service has as much waiting work as it takes.
        """
        request = _request(temperature, behaviour, sequences, prompt_lengths, prompts, responses, unfinished)
        return _logprobs(request, self._call(self._stub.Logprobs, request))

    def model(self) -> ReferenceModel:
        """Returns what is being served."""
        return _model(self._call(self._stub.GetReferenceModel, reference_pb2.GetReferenceModelRequest()))


class AsyncReferenceClient(AsyncClient):
    """Asks the frozen reference model for log-probs, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = reference_pb2_grpc.ReferenceServiceStub(self._channel)

    @overload
    async def logprobs(
        self,
        sequences: Sequence[TokenRow],
        prompt_lengths: npt.ArrayLike,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
    ) -> ReferenceLogprobs: ...

    @overload
    async def logprobs(
        self,
        *,
        prompts: Sequence[str],
        responses: Sequence[str],
        unfinished: bool = False,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
    ) -> ReferenceLogprobs: ...

    async def logprobs(
        self,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
        temperature: float = 1.0,
        behaviour: Sequence[npt.ArrayLike] | None = None,
        *,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        unfinished: bool = False,
    ) -> ReferenceLogprobs:
        """As ``ReferenceClient.logprobs``."""
        request = _request(temperature, behaviour, sequences, prompt_lengths, prompts, responses, unfinished)
        return _logprobs(request, await self._call(self._stub.Logprobs, request))

    async def model(self) -> ReferenceModel:
        """As ``ReferenceClient.model``."""
        return _model(
            await self._call(self._stub.GetReferenceModel, reference_pb2.GetReferenceModelRequest())
        )


@sendable()
def _request(
    temperature: float,
    behaviour: Sequence[npt.ArrayLike] | None,
    sequences: Sequence[TokenRow] | None,
    prompt_lengths: npt.ArrayLike | None,
    prompts: Sequence[str] | None,
    responses: Sequence[str] | None,
    unfinished: bool,
) -> reference_pb2.ReferenceServiceLogprobsRequest:
    request = reference_pb2.ReferenceServiceLogprobsRequest(temperature=temperature)
    fill(request, sequences, prompt_lengths, prompts, responses, unfinished)
    if behaviour is not None:
        flat = [np.asarray(row, np.float32).reshape(-1) for row in behaviour]
        request.behaviour_logprobs.CopyFrom(tensors.encode(np.concatenate(flat) if flat else [], np.float32))
    return request


def _logprobs(
    request: reference_pb2.ReferenceServiceLogprobsRequest,
    response: reference_pb2.ReferenceServiceLogprobsResponse,
) -> ReferenceLogprobs:
    kl = rows(response.kl, response.lengths) if response.HasField("kl") else None
    found = rows(response.logprobs, response.lengths)
    return ReferenceLogprobs(found, kl, response.reference_digest, tokenised(request, response, found))


def _model(response: reference_pb2.GetReferenceModelResponse) -> ReferenceModel:
    return ReferenceModel(
        model=response.model,
        reference_digest=response.reference_digest,
        vocabulary_size=response.vocabulary_size,
        max_sequence_tokens=response.max_sequence_tokens,
        tokenizer_digest=response.tokenizer_digest,
    )
