"""Scores a share of live rows by a candidate too, after their callers have been answered."""

import asyncio
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import structlog

from pilothouse.errors import PilothouseError, QueueFullError
from pilothouse.reward import metrics
from pilothouse.reward.batch import Batch, by_prompt
from pilothouse.reward.comparison import Comparison
from pilothouse.reward.config import ShadowConfig
from pilothouse.reward.scorer import Answer, Scorer
from pilothouse.tensors import Floats

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """The chosen rows of one request."""

    batch: Batch
    serving: Floats
    """Scores that their caller got."""
    groups: list[list[int]]
    """Numbers of the rows that share a prompt."""


class Shadow:
    """Compares a candidate with what serves. Its queue is bounded, and no caller ever waits for it."""

    def __init__(self, candidate: Scorer, config: ShadowConfig, *, chance: random.Random) -> None:
        """Begins without a single row.

        Args:
            candidate: Scores in the background.
            config: Share and bound.
            chance: Chooses prompts.
        """
        self.comparison = Comparison()
        """What was found so far."""
        self.dropped_rows = 0
        """Passed over because as many were waiting as may."""
        self.failed_rows = 0
        """The candidate could not score them."""
        self.waiting_rows = 0
        """Wait for the candidate, or are being scored."""
        self._candidate = candidate
        self._config = config
        self._chance = chance
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="shadow")

    def offer(self, answer: Answer) -> None:
        """Takes its share of a request that has been scored."""
        if self._config.percent == 0:
            return
        groups = [group for group in by_prompt(answer.batch) if self._wants()]
        chosen = [row for group in groups for row in group]
        if not chosen:
            return
        if self.waiting_rows + len(chosen) > self._config.max_waiting_rows:
            self._drop(len(chosen))
            return
        numbers = iter(range(len(chosen)))
        groups = [[next(numbers) for _ in group] for group in groups]
        self._jobs.append(_Job(answer.batch.rows(chosen), answer.scored.values[chosen], groups))
        self._wait_for(len(chosen))
        self._arrived.set()

    async def close(self) -> None:
        """Stops; what waits is forgotten."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._wait_for(-self.waiting_rows)
        self._jobs.clear()
        for gauge in (
            metrics.SHADOW_MEAN_DIFFERENCE,
            metrics.SHADOW_STD_DIFFERENCE,
            metrics.SHADOW_AGREEMENT,
        ):
            gauge.set(0)

    def _wants(self) -> bool:
        return 100 * self._chance.random() < self._config.percent

    async def _run(self) -> None:
        while True:
            while not self._jobs:
                self._arrived.clear()
                await self._arrived.wait()
            job = self._jobs.popleft()
            await self._compare(job)
            self._wait_for(-len(job.batch))

    async def _compare(self, job: _Job) -> None:
        try:
            answer = await self._candidate.score(lambda _: job.batch)
        except QueueFullError:
            self._drop(len(job.batch))
            return
        except Exception as error:  # whatever it is, live requests go on
            reason = error.reason if isinstance(error, PilothouseError) else type(error).__name__
            _log.warning("shadow_failed", rows=len(job.batch), reason=reason)
            self.failed_rows += len(job.batch)
            metrics.SHADOW_FAILED_ROWS.inc(len(job.batch))
            return
        # In a thread: a thousand answers to one prompt make half a million pairs.
        self.comparison = await asyncio.to_thread(
            self.comparison.with_batch, job.serving, answer.scored.values, job.groups
        )
        metrics.SHADOW_ROWS.inc(len(job.batch))
        metrics.SHADOW_MEAN_DIFFERENCE.set(self.comparison.mean)
        metrics.SHADOW_STD_DIFFERENCE.set(self.comparison.std)
        metrics.SHADOW_AGREEMENT.set(self.comparison.agreement)

    def _drop(self, rows: int) -> None:
        self.dropped_rows += rows
        metrics.SHADOW_DROPPED_ROWS.inc(rows)

    def _wait_for(self, more: int) -> None:
        self.waiting_rows += more
        metrics.SHADOW_WAITING_ROWS.set(self.waiting_rows)
