"""Channels that outlive their certificates.

gRPC for Python gives a channel its certificate once and for all. These open another one when the files have
been replaced, so that a client that runs for months can still connect to a server that was restarted.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from pilothouse.tls import Certificates, Pem

ChannelT = TypeVar("ChannelT", grpc.Channel, grpc.aio.Channel)


_KEPT_SECONDS = 7200.0
"""How long a channel that was replaced is kept: longer than any call with a deadline."""


class _Renewed(Generic[ChannelT]):
    """The part of a channel that stubs use. A call goes to the channel of the certificate then in force.

    Running calls stay where they began: a channel that was replaced is closed with the first replacement that
    comes two hours later, long after their deadlines.
    """

    def __init__(self, opened: Callable[[Pem], ChannelT], certificates: Certificates) -> None:
        self._opened: Callable[[Pem], ChannelT] = opened
        self._certificates = certificates
        self._lock = threading.Lock()
        self._pem = certificates.current()
        self._channels: list[ChannelT] = [opened(self._pem)]
        self._replaced: list[float] = []  # when all but the last of them were

    def latest(self) -> ChannelT:
        """Returns the channel for a call that begins now."""
        with self._lock:
            pem = self._certificates.current()  # in here: a slower thread would bring the one before back
            if pem is not self._pem:
                self._channels.append(self._opened(pem))
                self._pem = pem
                now = time.monotonic()
                self._replaced.append(now)
                while self._replaced and now - self._replaced[0] > _KEPT_SECONDS:
                    del self._replaced[0]
                    self._retire(self._channels.pop(0))
            return self._channels[-1]

    def unary_unary(self, *arguments: Any, **settings: Any) -> "_Method[ChannelT]":
        """As a channel does."""
        return _Method(self, "unary_unary", arguments, settings)

    def unary_stream(self, *arguments: Any, **settings: Any) -> "_Method[ChannelT]":
        """As a channel does."""
        return _Method(self, "unary_stream", arguments, settings)

    def stream_unary(self, *arguments: Any, **settings: Any) -> "_Method[ChannelT]":
        """As a channel does."""
        return _Method(self, "stream_unary", arguments, settings)

    def stream_stream(self, *arguments: Any, **settings: Any) -> "_Method[ChannelT]":
        """As a channel does."""
        return _Method(self, "stream_stream", arguments, settings)

    def _retire(self, channel: ChannelT) -> None:
        raise NotImplementedError


class RenewedChannel(_Renewed[grpc.Channel]):
    """A blocking channel. Threads may share it."""

    def close(self) -> None:
        """Closes it; running calls are cancelled."""
        for channel in self._channels:
            channel.close()

    def _retire(self, channel: grpc.Channel) -> None:
        channel.close()


class AsyncRenewedChannel(_Renewed[grpc.aio.Channel]):
    """A channel of the asyncio API; belongs to the event loop in which it was made."""

    def __init__(self, opened: Callable[[Pem], grpc.aio.Channel], certificates: Certificates) -> None:
        super().__init__(opened, certificates)
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Closes it; running calls are cancelled."""
        for channel in self._channels:
            await channel.close()

    def _retire(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.get_running_loop().create_task(channel.close(None))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Method(Generic[ChannelT]):
    """A method of a stub, bound to the latest channel whenever it is called."""

    def __init__(
        self, channel: _Renewed[ChannelT], kind: str, arguments: tuple[Any, ...], settings: dict[str, Any]
    ) -> None:
        self._channel: _Renewed[ChannelT] = channel
        self._kind, self._arguments, self._settings = kind, arguments, settings
        self._bound: tuple[ChannelT | None, Any] = (None, None)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Calls."""
        return self._latest()(*arguments, **settings)

    def future(self, *arguments: Any, **settings: Any) -> Any:
        """Calls without waiting, in the blocking API."""
        return self._latest().future(*arguments, **settings)

    def _latest(self) -> Any:
        channel, method = self._bound
        latest = self._channel.latest()
        if latest is not channel:
            method = getattr(latest, self._kind)(*self._arguments, **self._settings)
            self._bound = (latest, method)
        return method
