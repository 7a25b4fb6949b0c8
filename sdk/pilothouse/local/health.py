"""Asks a service for its health without ever waiting for the answer."""

import time
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pilothouse.client.channels import connect
from pilothouse.tls import Tls


class HealthProbe:
    """Repeated health checks of one server.

    Any answer, also NOT_SERVING or an error status, shows that the process works; only silence counts
    against it.

    Args:
        target: ``host:port``.
        interval_seconds: Pause between two checks.
        timeout_seconds: How long an answer may take.
        tls: The stack's identity.
    """

    def __init__(
        self, target: str, interval_seconds: float, timeout_seconds: float, tls: Tls | None = None
    ) -> None:
        self._channel = connect(target, tls=tls)
        self._check = health_pb2_grpc.HealthStub(self._channel).Check
        self._interval, self._timeout = interval_seconds, timeout_seconds
        self._pending: Any = None
        self._last_answer = time.monotonic()
        self._next = self._last_answer
        self._silent = False

    def silent_seconds(self, now: float) -> float:
        """Returns for how long there was no answer, in seconds; 0 while answers come in time.

        Args:
            now: Monotonic seconds.
        """
        if self._pending is None and now >= self._next:
            request = health_pb2.HealthCheckRequest()
            # Waits for a connection, so that a process that accepts but never answers ends in a timeout too.
            self._pending = self._check.future(request, timeout=self._timeout, wait_for_ready=True)
        if self._pending is not None and self._pending.done():
            self._silent = self._pending.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if not self._silent:
                self._last_answer = now
            self._pending, self._next = None, now + self._interval
        return now - self._last_answer if self._silent else 0.0

    def close(self) -> None:
        """Gives the connection back."""
        self._channel.close()
