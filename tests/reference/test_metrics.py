"""What the reference service tells of itself."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from pilothouse.client import AsyncReferenceClient
from pilothouse.errors import NonFiniteScoreError
from pilothouse.reference.metrics import counted
from pilothouse.reference.worker import Worker

from .conftest import Serve


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"pilothouse_reference_{name}", labels) or 0.0


async def test_requests_are_counted_with_their_time_in_the_queue(serve: Serve) -> None:
    names = ("tokens_total", "logprobs_seconds_count", "queue_seconds_count")
    async with serve() as server, AsyncReferenceClient(f"127.0.0.1:{server.port}") as client:
        before = [told(name) for name in names]
        await client.logprobs([[5, 6, 7]], [1])
        after = [told(name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 1, 1]
    assert (told("running"), told("waiting")) == (0, 0)


async def test_running_waiting_and_cancelled_requests_are_told_apart() -> None:
    worker, go_on = Worker(), threading.Event()
    cancelled = told("cancelled_total")

    async def request() -> None:
        with counted(lambda stop: go_on.wait(60)) as job:
            await worker.run(job)

    tasks = [asyncio.create_task(request()) for _ in range(3)]
    async with asyncio.timeout(60):
        while told("running") != 1:
            await asyncio.sleep(0.01)
    assert told("waiting") == 2
    tasks[2].cancel()
    await asyncio.gather(tasks[2], return_exceptions=True)
    assert (told("waiting"), told("cancelled_total")) == (1, cancelled + 1)
    go_on.set()
    await asyncio.gather(*tasks[:2])
    worker.close()
    assert (told("running"), told("waiting")) == (0, 0)


async def test_failures_are_counted_by_reason() -> None:
    worker = Worker()
    before = told("failures_total", reason="NON_FINITE_SCORE"), told("logprobs_seconds_count")

    def fail(stop: Callable[[], bool]) -> None:
        raise NonFiniteScoreError("NaN")

    with pytest.raises(NonFiniteScoreError), counted(fail) as job:
        await worker.run(job)
    worker.close()
    after = told("failures_total", reason="NON_FINITE_SCORE"), told("logprobs_seconds_count")
    assert after == (before[0] + 1, before[1])
