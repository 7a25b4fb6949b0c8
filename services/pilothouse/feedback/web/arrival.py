"""Bounds how long a request may take to arrive: a byte now and then keeps no connection open."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def punctual(seconds: float) -> type[H11Protocol]:
    """Returns uvicorn's protocol with a limit from the connection, or a request's first byte, to its last."""
    return type("Punctual", (_Punctual,), {"limit_seconds": seconds})


class _Punctual(H11Protocol):
    """Cuts a connection whose request is late, whether or not it has been answered meanwhile.

    Between two requests uvicorn's own limit on silence holds.
    """

    limit_seconds: float
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limit = self.loop.call_later(self.limit_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()  # the next request may have begun before the answer to this one ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _follow(self) -> None:
        """Runs the limit while a request is on its way."""
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not (begun or self.conn.their_state is h11.SEND_BODY):
            self._stop()
        elif self._limit is None:
            self._limit = self.loop.call_later(self.limit_seconds, self.transport.abort)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
