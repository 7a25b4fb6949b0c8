"""What a service answers while its model is being loaded, and what must have happened before it serves."""

import asyncio
import importlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from safetensors.torch import load_file, save_file

from pilothouse.client import AsyncPolicyClient, AsyncReferenceClient, AsyncRewardClient
from pilothouse.config import parse
from pilothouse.errors import GenerationFailedError, NonFiniteScoreError, UnavailableError
from pilothouse.local.ports import free_port
from pilothouse.models.tiny import save_tiny
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.service import build as build_policy
from pilothouse.reference.build import build as build_reference
from pilothouse.reference.config import ReferenceConfig
from pilothouse.reward.build import build as build_reward
from pilothouse.reward.config import RewardConfig

LOADERS = {
    "policy": "pilothouse.policy.service.load_causal_lm",
    "reference": "pilothouse.reference.build.load_causal_lm",
    "reward": "pilothouse.reward.backends.composite.make_backend",
}
CLIENTS: dict[str, Any] = {
    "policy": AsyncPolicyClient,
    "reference": AsyncReferenceClient,
    "reward": AsyncRewardClient,
}


def service(name: str, **settings: Any) -> AbstractAsyncContextManager[Any]:
    if name == "policy":
        config = parse(PolicyConfig, {"threads": 1, "max_running": 2} | settings, section=name)
        return build_policy(config, registry=CollectorRegistry())
    if name == "reference":
        return build_reference(parse(ReferenceConfig, {"threads": 1} | settings, section=name))
    return build_reward(parse(RewardConfig, settings, section=name))


@asynccontextmanager
async def running(name: str, gate: threading.Event, **settings: Any) -> AsyncIterator[None]:
    """A service as its process runs it."""
    end = asyncio.Event()

    async def run() -> None:
        async with service(name, **settings) as servers:
            for server in servers:
                await server.start()
            await end.wait()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        gate.set()
        end.set()
        await task


async def page(port: int, path: str) -> int:
    """Returns the status of a page, 0 where nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return 0
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    status = int((await reader.read()).split()[1])
    writer.close()
    return status


async def health(port: int) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return int(answer.status)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set, it lets models be loaded."""
    gate = threading.Event()
    for loader in LOADERS.values():
        module, _, function = loader.rpartition(".")
        whole = getattr(importlib.import_module(module), function)

        def held(*arguments: Any, whole: Any = whole, **named: Any) -> Any:
            assert gate.wait(60)
            return whole(*arguments, **named)

        monkeypatch.setattr(loader, held)
    yield gate
    gate.set()


@pytest.mark.parametrize("name", LOADERS)
async def test_a_loading_service_is_alive_but_neither_ready_nor_serving(
    name: str, gate: threading.Event
) -> None:
    port, http_port = free_port(), free_port()
    ends = {"server": {"port": port, "http_port": http_port}}
    async with running(name, gate, **ends), CLIENTS[name](f"127.0.0.1:{port}") as client:
        async with asyncio.timeout(60):
            while await page(http_port, "/healthz") != 200:
                await asyncio.sleep(0.01)
        assert await page(http_port, "/readyz") == 503
        assert await page(http_port, "/metrics") == 200
        assert await health(port) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(UnavailableError, match="still loading"):
            await client.model()
        gate.set()
        await client.wait_ready(60)
        assert await page(http_port, "/readyz") == 200
        assert await client.model()


@pytest.mark.parametrize("name", LOADERS)
async def test_a_taken_port_is_told_before_the_model_is_loaded(name: str, gate: threading.Event) -> None:
    port = free_port()
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)
    with pytest.raises(ValueError, match="choose free ports"):
        async with service(name, server={"http_port": port}):
            pass
    assert not gate.is_set()
    listener.close()


@pytest.fixture
def broken_folder(tmp_path: Path) -> str:
    """A model whose weights are not all finite."""
    save_tiny(tmp_path, seed=0)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], torch.nan)
    save_file(weights, file, metadata={"format": "pt"})
    return str(tmp_path)


async def test_a_model_that_computes_nothing_finite_never_serves(broken_folder: str) -> None:
    with pytest.raises(GenerationFailedError, match="logits are not finite"):
        async with service("policy", model=broken_folder):
            pass
    with pytest.raises(NonFiniteScoreError, match="not finite"):
        async with service("reference", model=broken_folder):
            pass


async def test_warming_up_is_nobodys_request() -> None:
    registry = CollectorRegistry()
    config = parse(PolicyConfig, {"threads": 1, "max_sequence_tokens": 2}, section="policy")
    async with build_policy(config, registry=registry):
        for name in ("generation_tokens_total", "prompt_tokens_total", "completion_seconds_count"):
            assert registry.get_sample_value(f"pilothouse_policy_{name}") == 0
