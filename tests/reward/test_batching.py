"""Dynamic batching: shapes, bounds, and failing batches. Nothing here waits for time to pass."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.errors import (
    DrainingError,
    NonFiniteScoreError,
    QueueFullError,
    ScoringFailedError,
    UnavailableError,
)
from pilothouse.reward.backends.base import Buckets, Row
from pilothouse.reward.backends.onnx import OnnxBackend
from pilothouse.reward.batching import Batcher
from pilothouse.reward.config import BatchingConfig
from pilothouse.tensors import Floats


def row(length: int, value: float = 0.0) -> Row:
    """A row whose score by ``Recorder`` is ``value``; its length is what the batcher sees."""
    return Row(prompt=str(value), tokens=np.zeros(length, dtype=np.int32))


class Recorder:
    """A backend that answers each row's own value, remembers its batches, and can be held up or broken."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def score(self, rows: Sequence[Row]) -> Floats:
        self.entered.set()
        self.open.wait()
        self.batches.append([row.length for row in rows])
        if self.failure is not None and any(row.prompt == "666.0" for row in rows):
            raise self.failure
        return np.array([float(row.prompt) for row in rows], dtype=np.float32)


@asynccontextmanager
async def running(backend: Any, **config: Any) -> AsyncIterator[Batcher]:
    settings = {"window_seconds": 0.0, "length_buckets": (4, 8, 16)} | config
    batcher = Batcher(backend.score, BatchingConfig(**settings))
    await batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close()


@asynccontextmanager
async def held(backend: Recorder, batcher: Batcher) -> AsyncIterator[None]:
    """Keeps the backend busy with one row, so that what comes meanwhile queues up."""
    backend.open.clear()
    backend.entered.clear()
    first = asyncio.create_task(batcher.score([row(1)]))
    await asyncio.to_thread(backend.entered.wait)
    yield
    backend.open.set()
    await first


async def queued(batcher: Batcher, count: int) -> None:
    while len(batcher._waiting) < count:
        await asyncio.sleep(0)


async def test_rows_of_a_bucket_share_batches_within_the_token_budget() -> None:
    backend = Recorder()
    async with running(backend, token_budget=32) as batcher:
        lengths = [3, 9, 4, 8, 1, 16, 12, 5]
        values = await batcher.score([row(length, index) for index, length in enumerate(lengths)])
    np.testing.assert_array_equal(values, np.arange(8, dtype=np.float32))
    assert backend.batches == [[3, 4, 1], [9, 16], [8, 5], [12]]


async def test_a_row_above_the_budget_goes_alone() -> None:
    backend = Recorder()
    async with running(backend, token_budget=8) as batcher:
        await batcher.score([row(16), row(16), row(40)])
    assert backend.batches == [[16], [16], [40]]


async def test_on_an_idle_server_batches_follow_from_the_request_alone() -> None:
    seen = []
    for _ in range(5):
        backend = Recorder()
        async with running(backend, token_budget=24, window_seconds=0.001) as batcher:
            await batcher.score([row(length) for length in (2, 7, 3, 16, 8, 1, 4, 5)])
        seen.append(backend.batches)
    assert all(batches == seen[0] for batches in seen)


async def test_waiting_requests_share_a_batch() -> None:
    backend = Recorder()
    async with running(backend) as batcher:
        async with held(backend, batcher):
            requests = [asyncio.create_task(batcher.score([row(2, n), row(3, n + 0.5)])) for n in range(4)]
            await queued(batcher, 8)
        answers = await asyncio.gather(*requests)
    assert [answer.tolist() for answer in answers] == [[n, n + 0.5] for n in range(4)]
    assert backend.batches == [[1], [2, 3] * 4]


async def test_rows_of_different_requests_stay_apart_when_asked() -> None:
    backend = Recorder()
    async with running(backend, across_requests=False) as batcher:
        async with held(backend, batcher):
            requests = [asyncio.create_task(batcher.score([row(2), row(3)])) for _ in range(3)]
            await queued(batcher, 6)
        await asyncio.gather(*requests)
    assert backend.batches == [[1], [2, 3], [2, 3], [2, 3]]


async def test_a_full_budget_does_not_wait_for_the_window() -> None:
    backend = Recorder()
    async with running(backend, window_seconds=1.0, token_budget=8) as batcher:
        async with asyncio.timeout(0.9):
            await batcher.score([row(4), row(4)])
    assert backend.batches == [[4, 4]]


async def test_more_rows_than_may_wait_are_refused_with_a_hint() -> None:
    backend = Recorder()
    async with running(backend, max_waiting_rows=4) as batcher:
        async with held(backend, batcher):
            waiting = asyncio.create_task(batcher.score([row(1)] * 3))
            await queued(batcher, 3)
            with pytest.raises(QueueFullError, match="limit of 4") as caught:
                await batcher.score([row(1)] * 2)
            assert caught.value.retry_after_seconds is not None
            assert caught.value.retry_after_seconds > 0
        assert (await waiting).tolist() == [0.0, 0.0, 0.0]
        assert (await batcher.score([row(1, 4.0)])).tolist() == [4.0]


async def test_a_caller_that_leaves_takes_its_waiting_rows_along() -> None:
    backend = Recorder()
    async with running(backend) as batcher, held(backend, batcher):
        leaving = asyncio.create_task(batcher.score([row(2)] * 3))
        await queued(batcher, 3)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert batcher._waiting == []
    assert backend.batches == [[1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
async def test_a_score_that_is_not_finite_fails_its_request_and_no_other(value: float) -> None:
    backend = Recorder()
    async with running(backend) as batcher:
        async with held(backend, batcher):
            good = asyncio.create_task(batcher.score([row(2, 7.0)]))
            bad = asyncio.create_task(batcher.score([row(2, 1.0), row(2, value)]))
            await queued(batcher, 3)
        with pytest.raises(NonFiniteScoreError, match="row 1"):
            await bad
        assert (await good).tolist() == [7.0]


async def test_a_request_that_breaks_the_backend_does_not_fail_its_batch_mates() -> None:
    backend = Recorder()
    backend.failure = RuntimeError("internal detail")
    async with running(backend) as batcher:
        async with held(backend, batcher):
            good = asyncio.create_task(batcher.score([row(2, 7.0)]))
            bad = asyncio.create_task(batcher.score([row(2, 666.0)]))
            await queued(batcher, 2)
        with pytest.raises(ScoringFailedError) as caught:
            await bad
        assert "internal detail" not in str(caught.value)
        assert (await good).tolist() == [7.0]


async def test_an_unreachable_backend_is_not_asked_again_for_every_request() -> None:
    backend = Recorder()
    backend.failure = UnavailableError("the remote server is away")
    async with running(backend) as batcher:
        async with held(backend, batcher):
            requests = [asyncio.create_task(batcher.score([row(2, 666.0)])) for _ in range(3)]
            await queued(batcher, 3)
        for request in requests:
            with pytest.raises(UnavailableError):
                await request
    assert backend.batches == [[1], [2, 2, 2]]


async def test_a_backend_that_answers_too_few_numbers_is_an_error() -> None:
    class Short:
        def score(self, rows: Sequence[Row]) -> Floats:
            return np.zeros(len(rows) - 1, dtype=np.float32)

    async with running(Short()) as batcher:
        with pytest.raises(ScoringFailedError, match="one a row"):
            await batcher.score([row(1), row(2)])


async def test_closing_fails_what_still_waits() -> None:
    backend = Recorder()
    async with running(backend, across_requests=False) as batcher:
        backend.open.clear()
        running_call = asyncio.create_task(batcher.score([row(1)]))
        waiting_call = asyncio.create_task(batcher.score([row(1)]))
        await asyncio.to_thread(backend.entered.wait)
        closing = asyncio.create_task(batcher.close())
        for call in (running_call, waiting_call):
            with pytest.raises(DrainingError):
                await call
        backend.open.set()
        await closing


async def test_every_warm_up_row_is_scored_before_the_first_request() -> None:
    backend = Recorder()
    batcher = Batcher(backend.score, BatchingConfig())
    await batcher.start([row(4), row(8)])
    assert backend.batches == [[4], [8]]
    await batcher.close()


async def test_batched_scores_equal_unbatched_ones_within_1e_5(onnx_folder: Path) -> None:
    backend = OnnxBackend(onnx_folder, Buckets((4, 8, 16, 64)))
    generator = np.random.default_rng(3)
    rows = [Row(tokens=generator.integers(0, 512, n).astype(np.int32)) for n in generator.integers(1, 60, 40)]
    alone = np.concatenate([backend.score([row]) for row in rows])
    async with running(backend, length_buckets=(4, 8, 16, 64), token_budget=256) as batcher:
        together = await batcher.score(rows)
        parts = await asyncio.gather(*(batcher.score(rows[at : at + 3]) for at in range(0, 40, 3)))
        again = await batcher.score(rows)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(parts), alone, atol=1e-5)
    np.testing.assert_array_equal(together, again)


@settings(max_examples=30, deadline=None)
@given(
    requests=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=8),
    budget=st.integers(1, 64),
    across=st.booleans(),
)
async def test_every_row_gets_its_own_score_whatever_the_batches(
    requests: list[list[int]], budget: int, across: bool
) -> None:
    backend = Recorder()
    async with running(backend, token_budget=budget, across_requests=across) as batcher:
        rows = [[row(n, 100 * r + i) for i, n in enumerate(lengths)] for r, lengths in enumerate(requests)]
        answers = await asyncio.gather(*(batcher.score(own) for own in rows))
    for number, (lengths, answer) in enumerate(zip(requests, answers, strict=True)):
        assert answer.tolist() == [100.0 * number + index for index in range(len(lengths))]
    buckets = Buckets((4, 8, 16))
    for batch in backend.batches:
        widths = {buckets.width(length) for length in batch}
        assert len(widths) == 1
        assert len(batch) == 1 or len(batch) * widths.pop() <= budget
