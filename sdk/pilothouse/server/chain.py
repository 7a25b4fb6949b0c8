"""The one interceptor of every server: what surrounds each call, from the outside in.

metrics → errors → deadline → limits → the servicer. Authentication belongs between deadline and limits: its
refusals are then counted and told like any other error, and strangers never take up a place.
Health and reflection calls pass without deadline and limits, so that a full server still says
that it is alive.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import grpc
import structlog

from pilothouse.errors import (
    DeadlineExceededError,
    InternalError,
    PilothouseError,
    UnavailableError,
    UnimplementedError,
)
from pilothouse.server import handlers
from pilothouse.server.limits import Limiter
from pilothouse.server.metrics import CALL_DURATION, CALL_STARTED, OTHER_METHOD
from pilothouse.status import to_status

_log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call on its way to the servicer."""

    method: str
    """Full name, for example ``/pilothouse.v1.PolicyService/Generate``."""
    context: Context
    """gRPC's handle on the call."""

    @property
    def infrastructure(self) -> bool:
        """Whether it belongs to gRPC's own services, such as health."""
        return self.method.startswith("/grpc.")


class Chain(grpc.aio.ServerInterceptor):
    """Puts every call of a server through the chain."""

    def __init__(self, limiter: Limiter, *, max_deadline_seconds: float, write_idle_seconds: float) -> None:
        self._limiter = limiter
        self._max_deadline_seconds = max_deadline_seconds
        self._write_idle_seconds = write_idle_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns the servicer's handler, wrapped."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            # By the time that this handler runs the servicer may have been added, and calls be taken.
            error = _loading(method) if self._limiter.held else _unknown(method)
            return handlers.wrap(_refusing(error), self._around(OTHER_METHOD), self._write_idle_seconds)
        return handlers.wrap(handler, self._around(method), self._write_idle_seconds)

    def _around(self, method: str) -> handlers.Around:
        @asynccontextmanager
        async def around(context: Context) -> AsyncIterator[None]:
            call = Call(method, context)
            async with _counted(call), _errors_told(call), self._bounded(call), self._limited(call):
                yield

        return around

    @asynccontextmanager
    async def _bounded(self, call: Call) -> AsyncIterator[None]:
        """Ends a call after ``max_deadline_seconds``; gRPC enforces an earlier one of the caller's."""
        if call.infrastructure:
            yield
            return
        try:
            async with asyncio.timeout(self._max_deadline_seconds) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise DeadlineExceededError(
                f"the call took longer than the server's limit of {self._max_deadline_seconds:g} s; "
                "send less at a time"
            ) from None

    @asynccontextmanager
    async def _limited(self, call: Call) -> AsyncIterator[None]:
        if call.infrastructure:
            yield
            return
        async with self._limiter.slot():
            yield


@asynccontextmanager
async def _counted(call: Call) -> AsyncIterator[None]:
    started = monotonic()
    CALL_STARTED.labels(call.method).inc()
    cancelled = False
    try:
        yield
    except asyncio.CancelledError:
        cancelled = True
        raise
    finally:
        CALL_DURATION.labels(call.method, _code(call.context, cancelled)).observe(monotonic() - started)


def _code(context: Context, cancelled: bool) -> str:
    if cancelled:
        remaining = context.time_remaining()
        return "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "OK"


@asynccontextmanager
async def _errors_told(call: Call) -> AsyncIterator[None]:
    """Turns what the servicer raises into a status; what nobody foresaw is logged and told by an id only."""
    try:
        yield
    except (grpc.aio.AbortError, grpc.aio.UsageError):
        raise
    except Exception as error:
        told = _foreseen(error)
        if told is None:
            identity = uuid.uuid4().hex[:12]
            _log.exception("call failed", method=call.method, id=identity)
            told = InternalError(f"internal error; see the server's log, id {identity}")
        elif told.code is grpc.StatusCode.INTERNAL:
            _log.error("call failed", method=call.method, reason=told.reason, exc_info=error)
        else:
            _log.debug("call refused", method=call.method, reason=told.reason, message=str(told))
        status = to_status(told)
        await call.context.abort(status.code, status.message, status.trailers)


def _foreseen(error: Exception) -> PilothouseError | None:
    """Returns the error raised on purpose, also out of a task group; None if there is none."""
    if isinstance(error, PilothouseError):
        return error
    if isinstance(error, ExceptionGroup):
        return next((found for part in error.exceptions if (found := _foreseen(part))), None)
    return None


def _refusing(error: PilothouseError) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(_requests: Any, _context: Context) -> bytes:
        raise error

    return grpc.stream_unary_rpc_method_handler(refuse)


def _unknown(method: str) -> UnimplementedError:
    return UnimplementedError(
        f"this server has no method {method}; check the address and the versions of both sides"
    )


def _loading(method: str) -> UnavailableError:
    return UnavailableError(f"the server was still loading when {method} was called; try again")
