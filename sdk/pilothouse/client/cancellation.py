"""Ending calls from another thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Cancellable(Protocol):
    """A running call, or several."""

    def cancel(self) -> object:
        """Ends it."""


class Cancellation:
    """Given to calls, it ends them all, from any thread; a call that begins later ends at once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may cancel
        self._running: set[Cancellable] = set()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether the calls were ended."""
        return self._cancelled

    def cancel(self) -> None:
        """Ends the calls; each raises ``concurrent.futures.CancelledError``."""
        with self._lock:
            self._cancelled = True
            for call in self._running:
                call.cancel()

    @contextmanager
    def over(self, call: Cancellable) -> Iterator[None]:
        """Inside, ``cancel`` ends this call too."""
        with self._lock:
            self._running.add(call)
            if self._cancelled:
                call.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(call)
