"""Bounds how many calls run and wait at the same time."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from pilothouse.errors import DrainingError, QueueFullError, UnavailableError
from pilothouse.server.metrics import RUNNING_CALLS, SHED, WAITING_CALLS

_SMOOTHING = 0.1
"""Weight of the newest call in the moving average of call durations."""


class Limiter:
    """Runs ``max_running`` calls at a time, lets ``max_waiting`` wait in order, refuses the rest.

    gRPC's own limits either reset connections or can be bypassed, and none of them tells the caller when to
    come back; so they are set wide and this one decides.
    """

    def __init__(self, name: str, max_running: int, max_waiting: int) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._draining = False
        self._held = False
        self._call_seconds = 0.1  # a first guess, replaced by what is measured
        self._idle = asyncio.Event()
        self._idle.set()
        RUNNING_CALLS.labels(name).set_function(lambda: self._running)
        WAITING_CALLS.labels(name).set_function(lambda: len(self._waiting))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds a place for one call.

        Raises:
            QueueFullError: As many calls wait as may wait; its hint says when a place should be free.
            DrainingError: The server takes no new calls.
            UnavailableError: It does not take any yet.
        """
        await self._enter()
        started = monotonic()
        try:
            yield
        finally:
            self._call_seconds += _SMOOTHING * (monotonic() - started - self._call_seconds)
            self._leave()

    @property
    def held(self) -> bool:
        """Whether new calls are refused until ``release``."""
        return self._held

    def hold(self) -> None:
        """Refuses new calls until ``release``: what is to answer them is still, or again, being made."""
        self._held = True

    def release(self) -> None:
        """Takes calls from now on."""
        self._held = False

    def drain(self) -> None:
        """Refuses new and waiting calls from now on; running ones go on."""
        self._draining = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(_draining())

    async def idle(self) -> None:
        """Returns when no call is running."""
        await self._idle.wait()

    async def _enter(self) -> None:
        if self._draining:
            raise _draining()
        if self._held:
            raise UnavailableError(
                "the server is still loading; try again, or wait until its health is SERVING"
            )
        if self._running < self._max_running:
            self._running += 1
            self._idle.clear()
            return
        if len(self._waiting) >= self._max_waiting:
            SHED.labels("queue_full").inc()
            raise QueueFullError(
                f"the server runs {self._running} calls and {len(self._waiting)} wait, which is its limit; "
                "try again later",
                retry_after_seconds=self._retry_after_seconds(),
            )
        await self._wait()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._leave()  # the place was handed over just as the call was cancelled
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    def _leave(self) -> None:
        """Hands the place to the call that has waited longest, or frees it."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._running -= 1
        if self._running == 0:
            self._idle.set()

    def _retry_after_seconds(self) -> float:
        """Estimates when the queue has moved on, spread so that callers do not return all at once."""
        seconds = self._call_seconds * (1 + len(self._waiting) / self._max_running)
        return min(max(seconds, 0.05), 30.0) * random.uniform(0.8, 1.2)


def _draining() -> DrainingError:
    return DrainingError("the server is shutting down; try again when it is back, or another replica")
