"""Puts the reward service together."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from pilothouse.reward.backends.composite import Composite, make_composite
from pilothouse.reward.config import RewardConfig
from pilothouse.reward.rows import RowMaker
from pilothouse.reward.servicer import RewardServicer
from pilothouse.reward.v2 import V2_SERVICE, InferenceServicer, add_v2
from pilothouse.server import Server, listening
from pilothouse.v1 import reward_pb2_grpc

_log = structlog.get_logger()


@asynccontextmanager
async def build(config: RewardConfig) -> AsyncIterator[Sequence[Server]]:
    """Listens, loads the scorer, warms it up and yields the one server, not yet serving.

    Raises:
        PilothouseError: A model cannot be loaded, or a required provider is not in use.
    """
    server = Server(config.server, "reward")
    server.services("pilothouse.v1.RewardService", V2_SERVICE)
    async with listening([server]), _composite(config) as composite:
        rows = RowMaker(
            [part.backend for part in composite.parts],
            max_rows=config.max_batch_rows,
            max_text_characters=config.max_text_characters,
        )
        servicer = RewardServicer(composite, rows, max_batch_rows=config.max_batch_rows)
        reward_pb2_grpc.add_RewardServiceServicer_to_server(servicer, server.grpc)
        add_v2(InferenceServicer(composite, rows, model_name=config.v2_model_name), server.grpc)
        yield [server]


@asynccontextmanager
async def _composite(config: RewardConfig) -> AsyncIterator[Composite]:
    """Yields the scorer, warm."""
    composite = await make_composite(config)
    try:
        lengths = [
            length for length in config.batching.length_buckets if length <= config.batching.warm_up_tokens
        ]
        await composite.start(lengths)
        _log.info(
            "scorer_ready",
            backend=composite.kind,
            providers=composite.providers,
            reward_version=composite.version,
        )
        yield composite
    finally:
        await composite.close()
