"""Waiting for a lost service: visibly, and not for ever."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import structlog

from pilothouse.errors import (
    DeadlineExceededError,
    DrainingError,
    PilothouseError,
    QueueFullError,
    UnavailableError,
)

Result = TypeVar("Result")

LOST = (UnavailableError, DrainingError, DeadlineExceededError, QueueFullError)
"""What a service that may come back raises. Everything else is an answer."""

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.2
_AT_WORK_SECONDS = 10.0
"""A call that failed after longer than this was being worked on, unless its time ran out."""

_log = structlog.get_logger(__name__)


class Reachable(Protocol):
    """The part of every client that waiting needs."""

    def wait_ready(self, timeout_seconds: float) -> None:
        """Returns when the service is healthy; raises one of ``LOST`` when it is not in time."""


class Patience:
    """Repeats a call until the service behind it has answered or patience has run out."""

    def __init__(
        self,
        services: Mapping[str, Reachable],
        *,
        wait_seconds: float,
        on_wait: Callable[[str, float], None],
    ) -> None:
        """Prepares waiting.

        Args:
            services: Clients by the service's name.
            wait_seconds: Longest time that a service may be away during one call, all its absences together.
            on_wait: Told about once a second which service is waited for and how many seconds are left.
        """
        self._services = services
        self._wait_seconds = wait_seconds
        self._on_wait = on_wait

    def call(self, service: str, work: Callable[[], Result]) -> Result:
        """Returns what ``work`` returns, calling it again each time the service was lost and is back.

        Args:
            service: Which service ``work`` calls.
            work: Must be safe to repeat.

        Raises:
            UnavailableError: The service did not come back in time.
        """
        away, losses = 0.0, 0
        while True:
            began = time.monotonic()
            try:
                return work()
            except LOST as error:
                tried = time.monotonic() - began
                if losses and (tried < _AT_WORK_SECONDS or isinstance(error, DeadlineExceededError)):
                    away += tried  # it was not there for this attempt either
                losses += 1
                _log.warning("service lost", service=service, retry=losses, problem=str(error))
                away += self._await(service, self._wait_seconds - away, error)

    def _await(self, service: str, seconds: float, error: PilothouseError) -> float:
        """Returns how long it took until the service was back."""
        began = time.monotonic()
        pause = error.retry_after_seconds or _PAUSE_SECONDS  # a healthy service that refuses: no hot loop
        time.sleep(max(min(pause, seconds), 0.0))
        while (left := began + seconds - time.monotonic()) > 0:
            look = time.monotonic() + min(_LOOK_SECONDS, left)
            try:
                self._services[service].wait_ready(timeout_seconds=min(_LOOK_SECONDS, left))
            except LOST:
                self._on_wait(service, left)
                time.sleep(max(look - time.monotonic(), 0.0))
            else:
                return time.monotonic() - began
        raise UnavailableError(
            f"{service} did not come back within {self._wait_seconds:g} s ({error}); start it again and "
            "resume the run, nothing is lost"
        ) from error
