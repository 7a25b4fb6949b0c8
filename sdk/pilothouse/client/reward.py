"""Clients of the reward service."""

from collections.abc import Sequence
from typing import Unpack, overload

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.client.base import AsyncClient, SyncClient, sendable
from pilothouse.client.channels import Security
from pilothouse.client.policy_codec import floats
from pilothouse.client.types import RewardModel, ScoreComponent, Scores, TokenRow
from pilothouse.errors import InvalidRequestError, ProtocolError
from pilothouse.v1 import reward_pb2, reward_pb2_grpc


class RewardClient(SyncClient):
    """Scores responses."""

    def __init__(self, target: str, *, timeout_seconds: float = 60.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = reward_pb2_grpc.RewardServiceStub(self._channel)

    @overload
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Scores: ...

    @overload
    def score(self, *, sequences: Sequence[TokenRow], prompt_lengths: npt.ArrayLike) -> Scores: ...

    def score(
        self,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        *,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
    ) -> Scores:
        """Returns one score per row. Give prompts and responses, or sequences and prompt lengths.

        Args:
            prompts: Texts, one per row; may be empty strings.
            responses: Texts, one per row.
            sequences: Token ids of the reward model's own tokenizer, prompt and response joined.
            prompt_lengths: int [B]: how many tokens of every row are the prompt.

        Raises:
            InvalidRequestError: Neither or both kinds were given, or a row is not what the model takes.
            ScoringFailedError: The backend failed; no score was made up.
            QueueFullError: The service has as much waiting work as it takes.
        """
        request = score_request(prompts, responses, sequences, prompt_lengths)
        return scores_of(request, self._call(self._stub.Score, request))

    def model(self) -> RewardModel:
        """Returns what is being served."""
        return _model(self._call(self._stub.GetRewardModel, reward_pb2.GetRewardModelRequest()))


class AsyncRewardClient(AsyncClient):
    """Scores responses, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 60.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = reward_pb2_grpc.RewardServiceStub(self._channel)

    @overload
    async def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Scores: ...

    @overload
    async def score(self, *, sequences: Sequence[TokenRow], prompt_lengths: npt.ArrayLike) -> Scores: ...

    async def score(
        self,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        *,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
    ) -> Scores:
        """As ``RewardClient.score``."""
        request = score_request(prompts, responses, sequences, prompt_lengths)
        return scores_of(request, await self._call(self._stub.Score, request))

    async def model(self) -> RewardModel:
        """As ``RewardClient.model``."""
        return _model(await self._call(self._stub.GetRewardModel, reward_pb2.GetRewardModelRequest()))


@sendable()
def score_request(
    prompts: Sequence[str] | None,
    responses: Sequence[str] | None,
    sequences: Sequence[TokenRow] | None,
    prompt_lengths: npt.ArrayLike | None,
) -> reward_pb2.ScoreRequest:
    """Returns the request for the one of two kinds of rows that is given.

    Raises:
        InvalidRequestError: Neither or both kinds are, or a value cannot be sent.
    """
    if sequences is None and prompt_lengths is None and prompts is not None and responses is not None:
        if isinstance(prompts, str) or isinstance(responses, str) or len(prompts) != len(responses):
            raise InvalidRequestError("prompts and responses must be two lists of equal length")
        return reward_pb2.ScoreRequest(texts=reward_pb2.TextPairs(prompts=prompts, responses=responses))
    if prompts is None and responses is None and sequences is not None and prompt_lengths is not None:
        return reward_pb2.ScoreRequest(
            tokens=reward_pb2.TokenPairs(
                sequences=tensors.encode_sequences(sequences),
                prompt_lengths=tensors.encode(prompt_lengths, np.int32),
            )
        )
    raise InvalidRequestError("give either prompts and responses, or sequences and prompt_lengths")


def scores_of(request: reward_pb2.ScoreRequest, response: reward_pb2.ScoreResponse) -> Scores:
    """Returns the scores of a request.

    Raises:
        ProtocolError: There is not one a row.
    """
    if request.WhichOneof("batch") == "texts":
        rows = len(request.texts.responses)
    else:
        rows = request.tokens.sequences.lengths.shape[0]
    components = tuple(
        ScoreComponent(part.name, part.weight, floats(part.scores, name=f"scores of {part.name}"))
        for part in response.components
    )
    values = floats(response.scores, name="scores")
    spread = [floats(response.disagreement, name="disagreement")] if response.HasField("disagreement") else []
    if any(len(part) != rows for part in [values, *(component.values for component in components), *spread]):
        raise ProtocolError(f"the reward service did not answer with one score for each of {rows} rows")
    return Scores(values, response.reward_version, components, *spread)


def _model(response: reward_pb2.GetRewardModelResponse) -> RewardModel:
    return RewardModel(
        reward_version=response.reward_version,
        backend=response.backend,
        providers=tuple(response.providers),
        max_sequence_tokens=response.max_sequence_tokens,
        max_batch_rows=response.max_batch_rows,
        tokenizer_digest=response.tokenizer_digest,
    )
