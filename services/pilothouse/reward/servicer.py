"""RewardService on the wire: decodes, scores, encodes."""

import asyncio
from typing import Any

import grpc
import numpy as np

from pilothouse import tensors
from pilothouse.errors import InvalidRequestError
from pilothouse.reward.backends.base import Row
from pilothouse.reward.backends.composite import Composite
from pilothouse.reward.rows import RowMaker, deadline_of
from pilothouse.v1 import reward_pb2, reward_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RewardServicer(reward_pb2_grpc.RewardServiceServicer):
    """Holds no state of its own and catches no errors."""

    def __init__(self, composite: Composite, rows: RowMaker, *, max_batch_rows: int) -> None:
        self._composite = composite
        self._rows = rows
        self._max_batch_rows = max_batch_rows

    async def Score(  # noqa: D102 - documented in the proto
        self, request: reward_pb2.ScoreRequest, context: Context
    ) -> reward_pb2.ScoreResponse:
        rows = await asyncio.to_thread(self._decode, request, deadline_of(context.time_remaining()))
        scored = await self._composite.score(rows)
        return reward_pb2.ScoreResponse(
            scores=tensors.encode(scored.values),
            reward_version=self._composite.version,
            components=[
                reward_pb2.ScoreComponent(
                    name=component.name, weight=component.weight, scores=tensors.encode(component.values)
                )
                for component in scored.components
            ],
        )

    async def GetRewardModel(  # noqa: D102 - documented in the proto
        self, request: reward_pb2.GetRewardModelRequest, context: Context
    ) -> reward_pb2.GetRewardModelResponse:
        return reward_pb2.GetRewardModelResponse(
            reward_version=self._composite.version,
            backend=self._composite.kind,
            providers=self._composite.providers,
            max_sequence_tokens=self._composite.max_sequence_tokens,
            max_batch_rows=self._max_batch_rows,
            tokenizer_digest=self._rows.tokenizer_digest,
        )

    def _decode(self, request: reward_pb2.ScoreRequest, deadline: float) -> list[list[Row]]:
        match request.WhichOneof("batch"):
            case "texts":
                return self._rows.from_texts(request.texts.prompts, request.texts.responses, deadline)
            case "tokens":
                sequences = tensors.decode_sequences(
                    request.tokens.sequences,
                    name="tokens.sequences",
                    vocabulary_size=self._rows.vocabulary_size(),
                    max_rows=self._max_batch_rows,
                )
                lengths = tensors.decode(
                    request.tokens.prompt_lengths, name="tokens.prompt_lengths", dtype=np.int32, ndim=1
                )
                return self._rows.from_tokens(sequences, lengths.tolist(), deadline)
            case _:
                raise InvalidRequestError("the request has no batch; set texts or tokens")
