"""A small trained reward model, its ONNX export, and servers over them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pilothouse.config import parse
from pilothouse.models.text import TextCodec
from pilothouse.reward.build import build
from pilothouse.reward.config import RewardConfig
from pilothouse.server import Server

GAIN, BIAS = 2.0, -0.5
"""The small model's normaliser."""

Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model as the trainer saves it, context 256 tokens."""
    from pilothouse.models.heads import ScalarModel
    from pilothouse.models.tiny import tiny_model

    folder = tmp_path_factory.mktemp("reward") / "model"
    scalar = ScalarModel.from_causal_lm(tiny_model(seed=5), seed=1)
    scalar.gain, scalar.bias = GAIN, BIAS
    scalar.save(folder, TextCodec.load("tiny"))
    return folder


@pytest.fixture(scope="session")
def onnx_folder(reward_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model exported."""
    from pilothouse.models.export import export_reward_model

    folder = tmp_path_factory.mktemp("onnx") / "model"
    export_reward_model(reward_folder, folder)
    return folder


@pytest.fixture
def codec() -> TextCodec:
    return TextCodec.load("tiny")


@pytest.fixture
def serve() -> Serve:
    """``async with serve(backend="rules", ...) as server``: the real service on a free port."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Server]:
        config = parse(RewardConfig, {"server": {"http_port": -1}} | settings, section="reward")
        async with build(config) as (server,):
            await server.start()
            try:
                yield server
            finally:
                await server.abort()

    return serving


@asynccontextmanager
async def connect(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture(name="connect")
def _connect() -> Callable[[Server], AbstractAsyncContextManager[grpc.aio.Channel]]:
    """``async with connect(server) as channel``."""
    return connect
