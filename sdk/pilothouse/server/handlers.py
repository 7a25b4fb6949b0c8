"""Wraps method handlers of gRPC, whatever their cardinality, in one asynchronous context manager."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import grpc

from pilothouse.errors import InvalidRequestError, QueueFullError

Around = Callable[[grpc.aio.ServicerContext[Any, Any]], AbstractAsyncContextManager[None]]
"""Makes what surrounds a call from the call's context."""


class _Undecodable:
    """Stands for a request whose bytes are not the message they should be."""


def wrap(
    handler: grpc.RpcMethodHandler[Any, Any], around: Around, write_idle_seconds: float
) -> grpc.RpcMethodHandler[Any, Any]:
    """Returns a handler of the same cardinality that runs inside ``around``.

    Args:
        handler: The servicer's.
        around: Entered before the servicer, left after it; it sees what the servicer raises.
        write_idle_seconds: How long a streamed answer may wait for its reader.
    """
    inner: Any = handler
    behaviour = _behaviour(inner)
    streamed_requests: bool = inner.request_streaming

    def checked(request: Any) -> Any:
        return _decoded_stream(request) if streamed_requests else _decoded(request)

    async def single(request: Any, context: Any) -> Any:
        async with around(context):
            return await behaviour(checked(request), context)

    async def streamed(request: Any, context: Any) -> None:
        async with around(context):
            await _stream(behaviour(checked(request), context), context, write_idle_seconds)

    make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = _FACTORIES[
        streamed_requests, inner.response_streaming
    ]
    return make(
        streamed if inner.response_streaming else single,
        request_deserializer=_tolerant(inner.request_deserializer),
        response_serializer=inner.response_serializer,
    )


_FACTORIES: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _behaviour(handler: Any) -> Any:
    """Returns the servicer's own method out of the handler."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


async def _stream(answers: Any, context: Any, write_idle_seconds: float) -> None:
    """Writes a servicer's answers, from an async generator or from a coroutine that writes by itself.

    Writing here, and not in a generator of our own, ends the servicer's generator in the call's own task
    at the moment the caller leaves: what it holds is freed at once.
    """
    if inspect.isawaitable(answers):
        await answers
        return
    async with aclosing(answers):
        async for answer in answers:
            try:
                async with asyncio.timeout(write_idle_seconds) as timeout:
                    await context.write(answer)
            except TimeoutError:
                if not timeout.expired():
                    raise
                raise QueueFullError(
                    f"the caller took nothing off the stream for {write_idle_seconds:g} s; "
                    "read faster or ask for less"
                ) from None


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Lets undecodable bytes through as a marker; gRPC itself would answer UNKNOWN with a class name."""
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:
            return _Undecodable()

    return decode


def _decoded(request: Any) -> Any:
    if isinstance(request, _Undecodable):
        raise InvalidRequestError(
            "the request's bytes are not the message of this method; check the caller's schema, and that "
            "every text is UTF-8"
        )
    return request


async def _decoded_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _decoded(request)
