"""RewardModelsService on the wire: decodes, calls, encodes."""

from functools import partial
from typing import Any

import grpc

from pilothouse.errors import InvalidRequestError
from pilothouse.reward.codec import decode_batch, encode_answer
from pilothouse.reward.config import CombinationName
from pilothouse.reward.models import RewardModels
from pilothouse.reward.rows import deadline_of
from pilothouse.reward.scorer import Scorer
from pilothouse.reward.shadow import Shadow
from pilothouse.v1 import reward_models_pb2 as pb2
from pilothouse.v1 import reward_models_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_COMBINATIONS: dict[pb2.EnsembleCombination, CombinationName] = {
    pb2.ENSEMBLE_COMBINATION_UNSPECIFIED: "mean",
    pb2.ENSEMBLE_COMBINATION_MEAN: "mean",
    pb2.ENSEMBLE_COMBINATION_MIN: "min",
    pb2.ENSEMBLE_COMBINATION_MEAN_MINUS_STD: "mean_minus_std",
}
_ENCODED = {name: value for value, name in _COMBINATIONS.items()}


class RewardModelsServicer(reward_models_pb2_grpc.RewardModelsServiceServicer):
    """Serves those who replace the reward model."""

    def __init__(self, models: RewardModels) -> None:
        self._models = models

    async def StageRewardModel(
        self, request: pb2.StageRewardModelRequest, context: Context
    ) -> pb2.StageRewardModelResponse:
        """Loads a candidate."""
        candidate = await self._models.stage(
            list(request.folders), _combination(request.combination), request.std_factor
        )
        return pb2.StageRewardModelResponse(
            candidate=_loaded(candidate.scorer), serving_version=self._models.serving.version
        )

    async def ListRewardModels(
        self, request: pb2.ListRewardModelsRequest, context: Context
    ) -> pb2.ListRewardModelsResponse:
        """Tells what is in memory."""
        previous, candidate = self._models.previous, self._models.candidate
        return pb2.ListRewardModelsResponse(
            serving=_loaded(self._models.serving),
            previous=None if previous is None else _loaded(previous),
            candidate=None if candidate is None else _loaded(candidate.scorer),
        )

    async def GetCandidate(
        self, request: pb2.GetCandidateRequest, context: Context
    ) -> pb2.GetCandidateResponse:
        """Tells how the candidate compares."""
        candidate = self._models.require_candidate()
        return pb2.GetCandidateResponse(
            candidate=_loaded(candidate.scorer),
            serving_version=self._models.serving.version,
            shadow=_statistics(candidate.shadow),
        )

    async def ScoreCandidate(
        self, request: pb2.ScoreCandidateRequest, context: Context
    ) -> pb2.ScoreCandidateResponse:
        """Scores by the candidate."""
        answer = await self._models.score_candidate(
            partial(decode_batch, request.request),
            request.reward_version,
            deadline_of(context.time_remaining()),
        )
        return pb2.ScoreCandidateResponse(response=encode_answer(answer))

    async def PromoteRewardModel(
        self, request: pb2.PromoteRewardModelRequest, context: Context
    ) -> pb2.PromoteRewardModelResponse:
        """Swaps."""
        if not request.reward_version or not request.expected_serving_version:
            raise InvalidRequestError(
                "name the candidate's reward_version and, as expected_serving_version, what it is to replace"
            )
        serving = await self._models.promote(request.reward_version, request.expected_serving_version)
        return pb2.PromoteRewardModelResponse(serving=_loaded(serving))

    async def RollbackRewardModel(
        self, request: pb2.RollbackRewardModelRequest, context: Context
    ) -> pb2.RollbackRewardModelResponse:
        """Goes back by one promotion."""
        serving = await self._models.rollback(request.expected_serving_version)
        return pb2.RollbackRewardModelResponse(serving=_loaded(serving))

    async def DropCandidate(
        self, request: pb2.DropCandidateRequest, context: Context
    ) -> pb2.DropCandidateResponse:
        """Forgets the candidate."""
        await self._models.drop(request.reward_version)
        return pb2.DropCandidateResponse()


def _combination(value: pb2.EnsembleCombination) -> CombinationName:
    if value not in _COMBINATIONS:
        raise InvalidRequestError("combination is unknown to this server; choose mean, min or mean_minus_std")
    return _COMBINATIONS[value]


def _loaded(scorer: Scorer) -> pb2.LoadedRewardModel:
    spec = scorer.spec
    return pb2.LoadedRewardModel(
        reward_version=scorer.version,
        folders=spec.folders if spec else (),
        combination=_ENCODED.get(spec.combine) if spec else None,
        std_factor=spec.std_factor if spec else 0.0,
        backend=scorer.composite.kind,
        providers=scorer.composite.providers,
        max_sequence_tokens=scorer.composite.max_sequence_tokens,
        tokenizer_digest=scorer.rows.tokenizer_digest,
    )


def _statistics(shadow: Shadow) -> pb2.ShadowStatistics:
    found = shadow.comparison
    return pb2.ShadowStatistics(
        rows=found.rows,
        mean_difference=found.mean,
        std_difference=found.std,
        max_absolute_difference=found.largest,
        pairs=found.pairs,
        agreement=found.agreement,
        dropped_rows=shadow.dropped_rows,
        failed_rows=shadow.failed_rows,
        waiting_rows=shadow.waiting_rows,
    )
