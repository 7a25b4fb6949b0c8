"""What a process tells of the calls that it makes."""

import asyncio
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from pilothouse.client import PolicyClient, WeightsClient
from pilothouse.errors import InvalidRequestError, QueueFullError

Serve = Any
Echo = Any
PREFIX = "/pilothouse.v1."


def told(method: str, code: str) -> float:
    labels = {"method": PREFIX + method, "code": code}
    return REGISTRY.get_sample_value("pilothouse_grpc_client_call_duration_seconds_count", labels) or 0.0


async def test_a_call_is_told_once_with_its_last_code_however_often_it_was_tried(
    serve: Serve, echo: Echo
) -> None:
    server = await serve(echo.add)
    echo.failures = [QueueFullError("busy", retry_after_seconds=0.01), InvalidRequestError("no")]
    refused, good = told("PolicyService/GetModel", "INVALID_ARGUMENT"), told("PolicyService/GetModel", "OK")

    def blocking() -> None:
        with PolicyClient(f"127.0.0.1:{server.port}") as client:
            with pytest.raises(InvalidRequestError):
                client.model()
            client.model()

    await asyncio.to_thread(blocking)
    assert told("PolicyService/GetModel", "INVALID_ARGUMENT") == refused + 1
    assert told("PolicyService/GetModel", "OK") == good + 1


async def test_a_stream_is_told_when_it_ends_or_is_left(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)
    whole, left = told("PolicyService/Generate", "OK"), told("PolicyService/Generate", "CANCELLED")

    def blocking() -> None:
        with PolicyClient(f"127.0.0.1:{server.port}") as client:
            client.generate(["a"], n=2, seeds=[7])
            stream = client.stream(["a"], n=100_000, seeds=[7])
            next(stream)
            stream.close()

    await asyncio.to_thread(blocking)
    async with asyncio.timeout(30):  # gRPC tells it from a thread of its own
        while told("PolicyService/Generate", "CANCELLED") == left:
            await asyncio.sleep(0.01)
    assert told("PolicyService/Generate", "OK") == whole + 1


async def test_an_upload_is_told_too(serve: Serve, staged: Any) -> None:
    server = await serve(staged.add)
    before = told("WeightsService/UploadPush", "OK")

    def blocking() -> None:
        with WeightsClient(f"127.0.0.1:{server.port}") as client:
            client.push({"a": np.ones(1000, np.float32)}, run="r", epoch=1, version=1)

    await asyncio.to_thread(blocking)
    assert told("WeightsService/UploadPush", "OK") == before + 1
