"""A small trained reward model, its ONNX export, and servers over them."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from pilothouse.client import AsyncRewardClient, AsyncRewardModelsClient
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


@pytest.fixture(scope="session")
def models(
    reward_folder: Path, onnx_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Path]:
    """``models(folder)`` fills a models folder: torch ``a``, ``b``, ``c`` of different seeds, ONNX ``o``."""
    from pilothouse.models.heads import ScalarModel
    from pilothouse.models.tiny import tiny_model

    made = tmp_path_factory.mktemp("models")
    for number, name in enumerate("abc"):
        ScalarModel.from_causal_lm(tiny_model(seed=number), seed=number).save(
            made / name, TextCodec.load("tiny")
        )
    shutil.copytree(onnx_folder, made / "o")

    def fill(folder: Path) -> Path:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return folder

    return fill


@pytest.fixture
def models_folder(models: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A models folder of the test's own."""
    return models(tmp_path / "models")


@dataclass(frozen=True)
class Both:
    """Clients of the two servers of one service."""

    score: AsyncRewardClient
    models: AsyncRewardModelsClient


@pytest.fixture
def both() -> Callable[..., AbstractAsyncContextManager[Both]]:
    """``async with both(backend="rules", ...) as service``: clients of the real service on free ports."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Both]:
        config = parse(RewardConfig, {"server": {"http_port": -1}} | settings, section="reward")
        async with build(config) as servers:
            for server in servers:
                await server.start()
            try:
                score, models = (f"127.0.0.1:{server.port}" for server in servers)
                async with AsyncRewardClient(score) as scoring, AsyncRewardModelsClient(models) as swapping:
                    yield Both(scoring, swapping)
            finally:
                for server in servers:
                    await server.abort()

    return serving


@pytest.fixture
def serve() -> Serve:
    """``async with serve(backend="rules", ...) as server``: the real service on a free port."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[Server]:
        config = parse(RewardConfig, {"server": {"http_port": -1}} | settings, section="reward")
        async with build(config) as (server, *_):
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
