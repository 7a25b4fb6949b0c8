"""Clients that replace the reward model of a running reward service."""

from collections.abc import Sequence
from typing import Unpack, overload

import numpy.typing as npt

from pilothouse.client.base import AsyncClient, SyncClient, sendable
from pilothouse.client.channels import Security
from pilothouse.client.reward import score_request, scores_of
from pilothouse.client.reward_types import (
    EnsembleCombination,
    LoadedRewardModel,
    RewardCandidate,
    RewardModels,
    ShadowStatistics,
)
from pilothouse.client.types import Scores, TokenRow
from pilothouse.errors import InvalidRequestError
from pilothouse.v1 import reward_models_pb2 as pb2
from pilothouse.v1 import reward_models_pb2_grpc

_COMBINATIONS: dict[EnsembleCombination, pb2.EnsembleCombination] = {
    "mean": pb2.ENSEMBLE_COMBINATION_MEAN,
    "min": pb2.ENSEMBLE_COMBINATION_MIN,
    "mean_minus_std": pb2.ENSEMBLE_COMBINATION_MEAN_MINUS_STD,
}
_DECODED = {value: name for name, value in _COMBINATIONS.items()}


class RewardModelsClient(SyncClient):
    """Stages, compares, promotes and takes back reward models."""

    def __init__(self, target: str, *, timeout_seconds: float = 600.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = reward_models_pb2_grpc.RewardModelsServiceStub(self._channel)

    def stage(
        self, *folders: str, combination: EnsembleCombination = "mean", std_factor: float = 1.0
    ) -> LoadedRewardModel:
        """Loads a candidate beside the reward model that serves and returns it. Repeating it is harmless.

        Args:
            folders: Inside the service's ``reward.models_folder``; several make an ensemble.
            combination: How the members of an ensemble are combined.
            std_factor: How many standard deviations ``mean_minus_std`` subtracts.

        Raises:
            UnsafeModelError: A folder lies elsewhere, or holds a pickle or code.
            ModelNotFoundError, CorruptDataError: It is no reward model, or not the one that was written.
            CandidateExistsError: Another one is staged.
            TokenizerMismatchError: It reads token ids differently than what serves.
            NonFiniteScoreError, ScoringFailedError: It cannot score.
        """
        return _loaded(
            self._call(
                self._stub.StageRewardModel, _stage_request(folders, combination, std_factor)
            ).candidate
        )

    def models(self) -> RewardModels:
        """Returns what is in the service's memory."""
        return _models(self._call(self._stub.ListRewardModels, pb2.ListRewardModelsRequest()))

    def candidate(self) -> RewardCandidate:
        """Returns the candidate and how its scores of live rows compare.

        Raises:
            NoCandidateError: None is staged.
        """
        return _candidate(self._call(self._stub.GetCandidate, pb2.GetCandidateRequest()))

    @overload
    def score_candidate(
        self, prompts: Sequence[str], responses: Sequence[str], *, reward_version: str = ""
    ) -> Scores: ...

    @overload
    def score_candidate(
        self, *, sequences: Sequence[TokenRow], prompt_lengths: npt.ArrayLike, reward_version: str = ""
    ) -> Scores: ...

    def score_candidate(
        self,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        *,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
        reward_version: str = "",
    ) -> Scores:
        """Returns the candidate's scores; rows are given as to ``RewardClient.score``.

        Args:
            prompts: Texts, one per row.
            responses: Texts, one per row.
            sequences: Token ids, prompt and response joined.
            prompt_lengths: int [B]: how many tokens of every row are the prompt.
            reward_version: That the candidate must have; empty for any.

        Raises:
            NoCandidateError, StaleRewardModelError: None is staged, or another one.
            InvalidRequestError, ScoringFailedError, QueueFullError: See ``RewardClient.score``.
        """
        request = score_request(prompts, responses, sequences, prompt_lengths)
        answer = self._call(
            self._stub.ScoreCandidate,
            pb2.ScoreCandidateRequest(request=request, reward_version=reward_version),
        )
        return scores_of(request, answer.response)

    def promote(self, reward_version: str, *, expected_serving_version: str) -> LoadedRewardModel:
        """Lets the candidate serve. Once this returns it also survives a restart. Repeating it is harmless.

        Args:
            reward_version: Of the candidate.
            expected_serving_version: What is to be replaced; another reward model is not.

        Raises:
            NoCandidateError, StaleRewardModelError: Candidate or serving model are not those named.
        """
        request = pb2.PromoteRewardModelRequest(
            reward_version=reward_version, expected_serving_version=expected_serving_version
        )
        return _loaded(self._call(self._stub.PromoteRewardModel, request).serving)

    def rollback(self, *, expected_serving_version: str = "") -> LoadedRewardModel:
        """Goes back to what served before the last promotion and returns it.

        Args:
            expected_serving_version: What is to be replaced; empty for whatever serves.

        Raises:
            NoPreviousRewardModelError: The service keeps none.
            StaleRewardModelError: Another one serves.
        """
        request = pb2.RollbackRewardModelRequest(expected_serving_version=expected_serving_version)
        return _loaded(self._call(self._stub.RollbackRewardModel, request).serving)

    def drop(self, reward_version: str = "") -> None:
        """Forgets the candidate.

        Args:
            reward_version: That it must have; empty for any.

        Raises:
            NoCandidateError, StaleRewardModelError: None is staged, or another one.
        """
        self._call(self._stub.DropCandidate, pb2.DropCandidateRequest(reward_version=reward_version))


class AsyncRewardModelsClient(AsyncClient):
    """Stages, compares, promotes and takes back reward models, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 600.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = reward_models_pb2_grpc.RewardModelsServiceStub(self._channel)

    async def stage(
        self, *folders: str, combination: EnsembleCombination = "mean", std_factor: float = 1.0
    ) -> LoadedRewardModel:
        """As ``RewardModelsClient.stage``."""
        request = _stage_request(folders, combination, std_factor)
        return _loaded((await self._call(self._stub.StageRewardModel, request)).candidate)

    async def models(self) -> RewardModels:
        """As ``RewardModelsClient.models``."""
        return _models(await self._call(self._stub.ListRewardModels, pb2.ListRewardModelsRequest()))

    async def candidate(self) -> RewardCandidate:
        """As ``RewardModelsClient.candidate``."""
        return _candidate(await self._call(self._stub.GetCandidate, pb2.GetCandidateRequest()))

    @overload
    async def score_candidate(
        self, prompts: Sequence[str], responses: Sequence[str], *, reward_version: str = ""
    ) -> Scores: ...

    @overload
    async def score_candidate(
        self, *, sequences: Sequence[TokenRow], prompt_lengths: npt.ArrayLike, reward_version: str = ""
    ) -> Scores: ...

    async def score_candidate(
        self,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        *,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
        reward_version: str = "",
    ) -> Scores:
        """As ``RewardModelsClient.score_candidate``."""
        request = score_request(prompts, responses, sequences, prompt_lengths)
        answer = await self._call(
            self._stub.ScoreCandidate,
            pb2.ScoreCandidateRequest(request=request, reward_version=reward_version),
        )
        return scores_of(request, answer.response)

    async def promote(self, reward_version: str, *, expected_serving_version: str) -> LoadedRewardModel:
        """As ``RewardModelsClient.promote``."""
        request = pb2.PromoteRewardModelRequest(
            reward_version=reward_version, expected_serving_version=expected_serving_version
        )
        return _loaded((await self._call(self._stub.PromoteRewardModel, request)).serving)

    async def rollback(self, *, expected_serving_version: str = "") -> LoadedRewardModel:
        """As ``RewardModelsClient.rollback``."""
        request = pb2.RollbackRewardModelRequest(expected_serving_version=expected_serving_version)
        return _loaded((await self._call(self._stub.RollbackRewardModel, request)).serving)

    async def drop(self, reward_version: str = "") -> None:
        """As ``RewardModelsClient.drop``."""
        await self._call(self._stub.DropCandidate, pb2.DropCandidateRequest(reward_version=reward_version))


@sendable()
def _stage_request(
    folders: Sequence[str], combination: EnsembleCombination, std_factor: float
) -> pb2.StageRewardModelRequest:
    if combination not in _COMBINATIONS:
        raise InvalidRequestError(
            f"combination must be one of {', '.join(_COMBINATIONS)}, got {combination!r}"
        )
    return pb2.StageRewardModelRequest(
        folders=folders, combination=_COMBINATIONS[combination], std_factor=std_factor
    )


def _loaded(message: pb2.LoadedRewardModel) -> LoadedRewardModel:
    return LoadedRewardModel(
        reward_version=message.reward_version,
        folders=tuple(message.folders),
        combination=_DECODED.get(message.combination),
        std_factor=message.std_factor,
        backend=message.backend,
        providers=tuple(message.providers),
        max_sequence_tokens=message.max_sequence_tokens,
        tokenizer_digest=message.tokenizer_digest,
    )


def _models(answer: pb2.ListRewardModelsResponse) -> RewardModels:
    return RewardModels(
        serving=_loaded(answer.serving),
        previous=_loaded(answer.previous) if answer.HasField("previous") else None,
        candidate=_loaded(answer.candidate) if answer.HasField("candidate") else None,
    )


def _candidate(answer: pb2.GetCandidateResponse) -> RewardCandidate:
    shadow = answer.shadow
    return RewardCandidate(
        model=_loaded(answer.candidate),
        serving_version=answer.serving_version,
        shadow=ShadowStatistics(
            rows=shadow.rows,
            mean_difference=shadow.mean_difference,
            std_difference=shadow.std_difference,
            max_absolute_difference=shadow.max_absolute_difference,
            pairs=shadow.pairs,
            agreement=shadow.agreement,
            dropped_rows=shadow.dropped_rows,
            failed_rows=shadow.failed_rows,
            waiting_rows=shadow.waiting_rows,
        ),
    )
