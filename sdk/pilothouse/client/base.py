"""What every client does, in its sync and its asyncio form: call, stream, wait, close."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pilothouse.client import channels
from pilothouse.client.cancellation import Cancellation
from pilothouse.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    PilothouseError,
    UnavailableError,
)
from pilothouse.status import from_rpc

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")

_PAUSE_SECONDS = 0.1
_REASON_SECONDS = 0.2
"""A call that does not wait for a connection learns within it why there is none."""
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.2, 5.0
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_SERVING = health_pb2.HealthCheckResponse.SERVING


class SyncClient:
    """Base of the blocking clients. Threads may share one; close it, or use it as a context manager."""

    def __init__(
        self, target: str, *, timeout_seconds: float = 60.0, **security: Unpack[channels.Security]
    ) -> None:
        """Opens a channel; connects with the first call.

        Args:
            target: host:port, ``unix:PATH``, or ``dns:///NAME:PORT`` to spread calls over replicas.
            timeout_seconds: Longest time of every call, retries included.
            security: ``tls`` and ``server_name``, see `pilothouse.client.channels.Security`.

        Raises:
            ConfigError: ``target`` is no address, or the certificate files cannot be used.
        """
        self.target = target
        self.timeout_seconds = timeout_seconds
        self._closed = False
        self._channel = channels.connect(target, **security)

    def wait_ready(self, timeout_seconds: float) -> None:
        """Returns as soon as the service says that it serves.

        Raises:
            UnavailableError: It does not in time.
        """
        self._check_open()
        deadline = time.monotonic() + timeout_seconds
        watch = health_pb2_grpc.HealthStub(self._channel).Watch
        while (left := deadline - time.monotonic()) > 0:
            call = watch(health_pb2.HealthCheckRequest(), timeout=left, wait_for_ready=True)
            try:
                if any(answer.status == _SERVING for answer in call):
                    return
            except grpc.RpcError as error:
                check_waitable(error, self.target)
            finally:
                call.cancel()
            time.sleep(min(_PAUSE_SECONDS, max(deadline - time.monotonic(), 0)))
        raise not_ready(self.target, timeout_seconds, self._obstacle())

    def close(self) -> None:
        """Closes the channel; running calls are cancelled."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        """Raises where gRPC would end the process: a method first used on a closed channel."""
        if self._closed:
            raise InvalidRequestError(f"this client of {self.target} is closed; make another one")

    def _call(self, method: Callable[..., Response], request: object) -> Response:
        self._check_open()
        try:
            return method(request, timeout=self.timeout_seconds)
        except grpc.RpcError as error:
            raise self._explained(error) from error

    def _explained(self, error: grpc.RpcError) -> PilothouseError:
        """Returns what the server said; of a time that is up also why there was no connection meanwhile."""
        told = from_rpc(error, target=self.target)
        return too_late(self.target, self._obstacle(), told) if ran_out(error) else told

    def _obstacle(self) -> grpc.RpcError | None:
        """Returns why there is no connection; None where there is one."""
        call = health_pb2_grpc.HealthStub(self._channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=_REASON_SECONDS
        )
        try:
            next(call, None)
        except grpc.RpcError as error:
            return error
        finally:
            call.cancel()
        return None

    def _stream(
        self, method: Callable[..., Any], request: object, cancellation: Cancellation | None = None
    ) -> Iterator[Any]:
        cancellation = cancellation or Cancellation()
        attempts = Attempts(self.timeout_seconds)
        while True:
            self._check_open()
            call = method(request, timeout=attempts.seconds_left)
            try:
                with cancellation.over(call):
                    for answer in call:
                        attempts.answered = True
                        yield answer
                    return
            except grpc.RpcError as error:
                if cancellation.cancelled:
                    raise CancelledError from error
                pause = attempts.pause_seconds(self._explained(error), error)
            finally:
                call.cancel()  # a caller who stops reading frees the server's slots
            time.sleep(pause)


class AsyncClient:
    """Base of the asyncio clients. Make it in the loop that uses it; close it, or use ``async with``."""

    def __init__(
        self, target: str, *, timeout_seconds: float = 60.0, **security: Unpack[channels.Security]
    ) -> None:
        """Opens a channel; connects with the first call.

        Args:
            target: host:port, ``unix:PATH``, or ``dns:///NAME:PORT`` to spread calls over replicas.
            timeout_seconds: Longest time of every call, retries included.
            security: ``tls`` and ``server_name``, see `pilothouse.client.channels.Security`.

        Raises:
            ConfigError: ``target`` is no address, or the certificate files cannot be used.
        """
        self.target = target
        self.timeout_seconds = timeout_seconds
        self._channel = channels.connect_async(target, **security)

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Returns as soon as the service says that it serves.

        Raises:
            UnavailableError: It does not in time.
        """
        deadline = time.monotonic() + timeout_seconds
        watch: Any = health_pb2_grpc.HealthStub(self._channel).Watch
        while (left := deadline - time.monotonic()) > 0:
            call = watch(health_pb2.HealthCheckRequest(), timeout=left, wait_for_ready=True)
            try:
                async for answer in call:
                    if answer.status == _SERVING:
                        return
            except grpc.RpcError as error:
                check_waitable(error, self.target)
            finally:
                call.cancel()
            await asyncio.sleep(min(_PAUSE_SECONDS, max(deadline - time.monotonic(), 0)))
        raise not_ready(self.target, timeout_seconds, await self._obstacle())

    async def close(self) -> None:
        """Closes the channel; running calls are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Callable[..., Any], request: object) -> Any:
        try:
            return await method(request, timeout=self.timeout_seconds)
        except grpc.RpcError as error:
            raise await self._explained(error) from error

    async def _explained(self, error: grpc.RpcError) -> PilothouseError:
        told = from_rpc(error, target=self.target)
        return too_late(self.target, await self._obstacle(), told) if ran_out(error) else told

    async def _obstacle(self) -> grpc.RpcError | None:
        watch: Any = health_pb2_grpc.HealthStub(self._channel).Watch
        call = watch(health_pb2.HealthCheckRequest(), timeout=_REASON_SECONDS)
        try:
            await call.read()
        except grpc.RpcError as error:
            return error
        finally:
            call.cancel()
        return None

    async def _stream(self, method: Callable[..., Any], request: object) -> AsyncIterator[Any]:
        attempts = Attempts(self.timeout_seconds)
        while True:
            call = method(request, timeout=attempts.seconds_left)
            try:
                async for answer in call:
                    attempts.answered = True
                    yield answer
                return
            except grpc.RpcError as error:
                pause = attempts.pause_seconds(await self._explained(error), error)
            finally:
                call.cancel()  # a caller who stops reading frees the server's slots
            await asyncio.sleep(pause)


class Attempts:
    """Opens a stream again that broke before its first answer, as gRPC's own retries do for other calls."""

    def __init__(self, timeout_seconds: float) -> None:
        self.answered = False
        """Whether anything has come: from then on only the caller can know what a second time would mean."""
        self._deadline = time.monotonic() + timeout_seconds
        self._failures = 0

    @property
    def seconds_left(self) -> float:
        """Time until the deadline of all attempts together."""
        return max(self._deadline - time.monotonic(), 0.0)

    def pause_seconds(self, error: PilothouseError, cause: grpc.RpcError) -> float:
        """Returns how long to wait before the next attempt; raises ``error`` if there is to be none."""
        self._failures += 1
        backoff = min(_FIRST_BACKOFF_SECONDS * 2 ** (self._failures - 1), _MAX_BACKOFF_SECONDS)
        pause = backoff if error.retry_after_seconds is None else error.retry_after_seconds
        last = self._failures >= channels.ATTEMPTS or pause >= self.seconds_left
        if self.answered or last or error.code not in _RETRIED:
            raise error from cause
        return pause


@contextmanager
def sendable() -> Iterator[None]:
    """Decorates what makes a request: a value that no message can hold is refused like any other wrong one.

    Raises:
        InvalidRequestError: A number is out of range, a text is not Unicode (a lone surrogate), or a value
            has the wrong type.
    """
    try:
        yield
    except PilothouseError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"the request cannot be sent: {error}; check its values") from error


def check_waitable(error: grpc.RpcError, target: str) -> None:
    """Raises what waiting does not mend: anything but an absent service or the end of the time."""
    call: Any = error
    if call.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        raise from_rpc(error, target=target) from error


def ran_out(error: grpc.RpcError) -> bool:
    """Whether a call ended with its deadline."""
    call: Any = error
    return call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def too_late(target: str, obstacle: grpc.RpcError | None, told: PilothouseError) -> PilothouseError:
    """Returns the error of a call whose time was up: with the obstacle to a connection, where that is why."""
    call: Any = obstacle
    if call is None or call.code() is not grpc.StatusCode.UNAVAILABLE:
        return told
    return DeadlineExceededError(f"no answer in time: {from_rpc(call, target=target)}")


def not_ready(target: str, timeout_seconds: float, error: grpc.RpcError | None = None) -> PilothouseError:
    """Returns the error of a service that did not get ready; with the cause, where it cannot be reached."""
    late = f"{target} was not ready within {timeout_seconds:g} s"
    call: Any = error
    if call is not None and call.code() is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(f"{late}: {from_rpc(call, target=target)}")
    return UnavailableError(f"{late}; check the address and the service's log")
