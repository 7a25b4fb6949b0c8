"""What the policy tells of itself, held against what its callers saw."""

import asyncio
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from pilothouse.policy.runner import ModelRunner

from .served import Service, generate_request, serving

LONG = {"max_new_tokens": 200, "ignore_eos": True}


def told(service: Service, name: str, **labels: str) -> float:
    return service.registry.get_sample_value(f"pilothouse_policy_{name}", labels) or 0.0


def shed() -> float:
    return REGISTRY.get_sample_value("pilothouse_shed_total", {"reason": "policy_queue"}) or 0.0


async def test_completions_and_their_time_in_the_queue_are_counted() -> None:
    async with serving(max_running=1) as service:
        await service.generate([[5, 6], [7]], n=2, max_new_tokens=3, ignore_eos=True)
        assert told(service, "queue_seconds_count") == 4
        assert told(service, "queue_seconds_sum") > 0
        assert told(service, "completions_total", reason="length") == 4
        assert told(service, "generation_tokens_total") == 12
        assert told(service, "cancelled_total") == told(service, "failures_total", reason="INTERNAL") == 0


async def test_what_callers_give_up_is_counted_and_is_no_failure() -> None:
    async with serving(max_running=2) as service:
        call = service.policy.Generate(generate_request([[5]], n=5, stream_tokens=True, **LONG))
        await call.read()
        call.cancel()
        async with asyncio.timeout(30):
            while told(service, "cancelled_total") == 0:
                await asyncio.sleep(0.01)
        assert told(service, "cancelled_total") == 5
        assert told(service, "failures_total", reason="GENERATION_FAILED") == 0


async def test_failures_are_counted_by_reason_and_are_no_cancellations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("no memory")

    async with serving() as service:
        monkeypatch.setattr(ModelRunner, "start", broken)
        with pytest.raises(grpc.aio.AioRpcError):
            await service.generate([[5]], n=3)
        assert told(service, "failures_total", reason="GENERATION_FAILED") == 3
        assert told(service, "cancelled_total") == 0


async def test_a_refusal_by_the_full_queue_is_counted_as_shed() -> None:
    before = shed()
    async with serving(max_running=1, max_waiting=8) as service:
        call = service.policy.Generate(generate_request([[5]], n=8, stream_tokens=True, **LONG))
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.generate([[9]], n=8)
        call.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shed() == before + 1
