"""RewardService on the wire: decodes, scores, encodes."""

from functools import partial
from typing import Any

import grpc

from pilothouse.reward.codec import decode_batch, encode_answer
from pilothouse.reward.models import RewardModels
from pilothouse.reward.rows import deadline_of
from pilothouse.v1 import reward_pb2, reward_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RewardServicer(reward_pb2_grpc.RewardServiceServicer):
    """Holds no state of its own and catches no errors."""

    def __init__(self, models: RewardModels) -> None:
        self._models = models

    async def Score(  # noqa: D102 - documented in the proto
        self, request: reward_pb2.ScoreRequest, context: Context
    ) -> reward_pb2.ScoreResponse:
        deadline = deadline_of(context.time_remaining())
        return encode_answer(await self._models.score(partial(decode_batch, request), deadline))

    async def GetRewardModel(  # noqa: D102 - documented in the proto
        self, request: reward_pb2.GetRewardModelRequest, context: Context
    ) -> reward_pb2.GetRewardModelResponse:
        serving = self._models.serving
        return reward_pb2.GetRewardModelResponse(
            reward_version=serving.version,
            backend=serving.composite.kind,
            providers=serving.composite.providers,
            max_sequence_tokens=serving.composite.max_sequence_tokens,
            max_batch_rows=serving.rows.max_rows,
            tokenizer_digest=serving.rows.tokenizer_digest,
        )
