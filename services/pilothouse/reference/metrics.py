"""Prometheus metrics of the reference service."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

from pilothouse.errors import PilothouseError
from pilothouse.server.metrics import SECONDS

ResultT = TypeVar("ResultT")
Job = Callable[[Callable[[], bool]], ResultT]
"""What `Worker` runs."""

TOKENS = Counter("pilothouse_reference_tokens", "Response tokens scored.")
REQUEST_SECONDS = Histogram(
    "pilothouse_reference_logprobs_seconds",
    "Time of a request from its arrival to its answer, waiting included.",
    buckets=SECONDS,
)
QUEUE_SECONDS = Histogram(
    "pilothouse_reference_queue_seconds", "Time of a request until its computation begins.", buckets=SECONDS
)
RUNNING = Gauge("pilothouse_reference_running", "Requests being computed.")
WAITING = Gauge("pilothouse_reference_waiting", "Requests that wait for the model.")
FAILURES = Counter("pilothouse_reference_failures", "Requests that failed.", ["reason"])
CANCELLED = Counter("pilothouse_reference_cancelled", "Requests given up by their callers.")

_running: set[object] = set()
_waiting: set[object] = set()
RUNNING.set_function(lambda: len(_running))
WAITING.set_function(lambda: len(_waiting))


@contextmanager
def counted(job: Job[ResultT]) -> Iterator[Job[ResultT]]:
    """Counts one request while inside; yields what must be run in place of ``job``."""
    ticket, arrived = object(), monotonic()
    _waiting.add(ticket)

    def run(stop: Callable[[], bool]) -> ResultT:
        _waiting.discard(ticket)
        _running.add(ticket)
        QUEUE_SECONDS.observe(monotonic() - arrived)
        try:
            return job(stop)
        finally:
            _running.discard(ticket)

    try:
        yield run
    except asyncio.CancelledError:
        CANCELLED.inc()
        raise
    except Exception as error:
        FAILURES.labels(error.reason if isinstance(error, PilothouseError) else PilothouseError.reason).inc()
        raise
    else:
        REQUEST_SECONDS.observe(monotonic() - arrived)
    finally:
        _waiting.discard(ticket)  # its turn never came
