"""Puts the rows of waiting requests into batches: equal length buckets, a token budget, a short window.

All rows of a request join the queue at once, and a batch starts with the oldest row and takes the rows of its
bucket in order. So on an idle server a request's batches follow from the request alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import structlog

from pilothouse.errors import (
    DeadlineExceededError,
    DrainingError,
    NonFiniteScoreError,
    PilothouseError,
    QueueFullError,
    ScoringFailedError,
    UnavailableError,
)
from pilothouse.reward import metrics
from pilothouse.reward.backends.base import Buckets, Row
from pilothouse.reward.config import BatchingConfig
from pilothouse.server.metrics import SHED
from pilothouse.tensors import Floats

_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of the speed."""

_RETRY_SECONDS = (0.05, 30.0)
"""Shortest and longest retry hint."""

_HOPELESS = (UnavailableError, DeadlineExceededError)
"""Failures of a remote backend, which no smaller batch would cure."""

_log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class _Request:
    """The rows of one call and what is known of their scores."""

    values: Floats
    done: asyncio.Future[Floats]
    missing: int

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def put(self, index: int, value: float) -> None:
        self.values[index] = value
        self.missing -= 1
        if self.missing == 0 and not self.done.done():
            self.done.set_result(self.values)


@dataclass(eq=False, slots=True)
class _Entry:
    """One waiting row."""

    request: _Request
    index: int
    row: Row
    width: int
    arrived: float = field(default_factory=monotonic)


class Batcher:
    """The queue before one backend. Lives in one event loop; the backend has one thread of its own."""

    def __init__(
        self, score: Callable[[Sequence[Row]], Floats], config: BatchingConfig, *, name: str = "score"
    ) -> None:
        """Makes an idle batcher.

        Args:
            score: One score a row, float32 of shape [B]; blocking.
            config: Budget, window and bounds.
            name: Of the component, in messages and, until ``relabel``, in metrics.
        """
        self._score = score
        self._config = config
        self._name = name
        self._label = name
        self._shown_waiting = 0
        self._buckets = Buckets(config.length_buckets)
        self._waiting: list[_Entry] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"score-{name}")
        self._tokens_per_second: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, warm_up: Sequence[Row] = ()) -> None:
        """Scores every row of ``warm_up`` on its own, then begins to take requests.

        Raises:
            PilothouseError: The backend cannot score.
        """
        for row in warm_up:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._score, [row])
        self._task = asyncio.create_task(self._run(), name=f"batcher-{self._name}")

    async def close(self) -> None:
        """Ends the running batch and stops; rows still waiting fail."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        _fail_all(self._waiting, DrainingError("the reward service is shutting down; send again"))
        self._waiting = []
        self._show_waiting()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    def relabel(self, label: str) -> None:
        """Shows its metrics under ``label`` from now on: a candidate's are not those of what serves."""
        metrics.WAITING_ROWS.labels(self._label).dec(self._shown_waiting)
        self._label, self._shown_waiting = label, 0
        self._show_waiting()

    async def score(self, rows: Sequence[Row]) -> Floats:
        """Returns the score of every row, float32 of shape [B], all finite.

        Cancelling the call takes its waiting rows out of the queue.

        Raises:
            QueueFullError: As many rows wait as may; the hint says when to come back.
            NonFiniteScoreError: The backend answered NaN or infinity.
            ScoringFailedError: The backend failed.
        """
        if not rows:
            return np.empty(0, dtype=np.float32)
        if len(self._waiting) + len(rows) > self._config.max_waiting_rows:
            SHED.labels("reward_queue").inc()
            raise QueueFullError(
                f"{len(self._waiting)} rows wait for scorer '{self._name}', {len(rows)} more pass the limit "
                f"of {self._config.max_waiting_rows}; send again later, or fewer rows",
                self._retry_seconds(),
            )
        done: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        request = _Request(np.full(len(rows), np.nan, dtype=np.float32), done, len(rows))
        self._waiting += [
            _Entry(request, index, row, self._buckets.width(row.length)) for index, row in enumerate(rows)
        ]
        self._arrived.set()
        self._show_waiting()
        try:
            return await done
        except PilothouseError as error:
            metrics.FAILURES.labels(self._label, error.reason).inc()
            raise
        finally:
            self._forget(request)

    async def _run(self) -> None:
        while True:
            await self._gather()
            if batch := self._take():
                await self._compute(batch)

    async def _gather(self) -> None:
        """Waits for a row, then for company until the window closes or the budget is full."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        closes = self._waiting[0].arrived + self._config.window_seconds
        while self._config.across_requests and self._waiting and not self._is_full():
            self._arrived.clear()
            try:
                async with asyncio.timeout(max(0.0, closes - monotonic())):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _is_full(self) -> bool:
        members = [entry for entry in self._waiting if entry.width == self._waiting[0].width]
        return len(members) >= self._most_rows(members[0].width)

    def _most_rows(self, width: int) -> int:
        return max(1, min(self._config.max_rows, self._config.token_budget // width))

    def _take(self) -> list[_Entry]:
        """Removes the next batch from the queue: the oldest row and its bucket mates in order of arrival."""
        if not self._waiting:  # their callers have left
            return []
        first = self._waiting[0]
        mates = (
            entry
            for entry in self._waiting
            if entry.width == first.width and (self._config.across_requests or entry.request is first.request)
        )
        batch = [entry for entry, _ in zip(mates, range(self._most_rows(first.width)), strict=False)]
        taken = set(map(id, batch))
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        self._show_waiting()
        return batch

    async def _compute(self, batch: list[_Entry]) -> None:
        """Scores a batch; where a shared one fails, each request is tried alone, so that one fails."""
        started = monotonic()
        for entry in batch:
            metrics.QUEUE_SECONDS.labels(self._label).observe(started - entry.arrived)
        try:
            values = await self._call([entry.row for entry in batch])
        except asyncio.CancelledError:
            _fail_all(batch, DrainingError("the reward service is shutting down; send again"))
            raise
        except Exception as error:
            requests = list(dict.fromkeys(entry.request for entry in batch))
            if len(requests) == 1 or isinstance(error, _HOPELESS):
                _fail_all(batch, self._explain(error))
                return
            for request in requests:
                await self._compute([entry for entry in batch if entry.request is request])
            return
        self._measure(batch, monotonic() - started)
        for entry, value in zip(batch, values.tolist(), strict=True):
            if np.isfinite(value):
                entry.request.put(entry.index, value)
            else:
                entry.request.fail(
                    NonFiniteScoreError(
                        f"scorer '{self._name}' answered {value} for row {entry.index}; "
                        "check that response and the model"
                    )
                )

    async def _call(self, rows: list[Row]) -> Floats:
        values = await asyncio.get_running_loop().run_in_executor(self._thread, self._score, rows)
        if values.shape != (len(rows),):
            raise ScoringFailedError(
                f"scorer '{self._name}' answered shape {values.shape} for {len(rows)} rows; not one a row"
            )
        return values

    def _explain(self, error: Exception) -> PilothouseError:
        if isinstance(error, PilothouseError):
            return error
        _log.error("scoring_failed", scorer=self._name, exc_info=error)
        return ScoringFailedError(f"scorer '{self._name}' failed; the cause is in the reward service's log")

    def _measure(self, batch: list[_Entry], seconds: float) -> None:
        tokens = sum(entry.width for entry in batch)
        speed = tokens / max(seconds, 1e-6)
        before = self._tokens_per_second or speed
        self._tokens_per_second = before + _SMOOTHING * (speed - before)
        metrics.SCORES.labels(self._label).inc(len(batch))
        metrics.BATCH_ROWS.labels(self._label).observe(len(batch))
        metrics.BATCH_TOKENS.labels(self._label).observe(tokens)
        metrics.BATCH_SECONDS.labels(self._label).observe(seconds)

    def _retry_seconds(self) -> float:
        """Returns how long the waiting rows will take at the speed measured so far."""
        if self._tokens_per_second is None:
            return 1.0
        shortest, longest = _RETRY_SECONDS
        waiting = sum(entry.width for entry in self._waiting)
        return min(longest, max(shortest, waiting / self._tokens_per_second))

    def _forget(self, request: _Request) -> None:
        self._waiting = [entry for entry in self._waiting if entry.request is not request]
        self._show_waiting()

    def _show_waiting(self) -> None:
        # A sum, because two batchers show theirs under one label while a swap lets the old one finish.
        waiting = len(self._waiting)
        metrics.WAITING_ROWS.labels(self._label).inc(waiting - self._shown_waiting)
        self._shown_waiting = waiting


def _fail_all(entries: Sequence[_Entry], error: Exception) -> None:
    for entry in entries:
        entry.request.fail(error)
