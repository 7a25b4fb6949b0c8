"""Prometheus metrics of outgoing calls, named after gRPC proposal A66.

gRPC's core makes the attempts of a call and does not tell Python of them, so the series of attempts are not
offered. Only blocking channels are measured: of our processes that call others, those that show metrics (the
trainer) use these, and interceptors of the asyncio API would change how streams are read and cancelled.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import grpc
from prometheus_client import Histogram

CALL_DURATION = Histogram(
    "pilothouse_grpc_client_call_duration_seconds",
    "Time from a call's start to its end, retries included, by status code.",
    ["method", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


class CallTimer(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor
):
    """Observes the duration of every call of a channel."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Observes a call."""
        return _timed(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Observes a call from its start to the end of the stream."""
        return _timed(continuation, client_call_details, request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Observes a call."""
        return _timed(continuation, client_call_details, request_iterator)


def _timed(continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
    started = monotonic()
    call = continuation(details, request)

    def ended(outcome: Any) -> None:
        CALL_DURATION.labels(details.method, outcome.code().name).observe(monotonic() - started)

    call.add_done_callback(ended)
    return call
