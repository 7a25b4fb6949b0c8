"""A gRPC server with everything around the servicers: health, limits, metrics, drain."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pilothouse.errors import ConfigError
from pilothouse.server.chain import Chain
from pilothouse.server.config import ServerConfig, check_door
from pilothouse.server.http import HttpPort
from pilothouse.server.limits import Limiter
from pilothouse.server.metrics import CERTIFICATE_EXPIRY
from pilothouse.server.secure import credentials
from pilothouse.tls import Certificates, Tls, own

_log = structlog.get_logger()

_STOP_SECONDS = 1.0
"""Time for the last answers to leave after the last call has ended."""


class Server:
    """One listening port and what stands before its servicers.

    Name the services with ``services``, add servicers to ``grpc``, then ``start``. Where servicers take long
    to make, ``listen`` first: health is answered at once, and servicers may be added until ``start``. Must be
    made in the event loop in which it runs.

    Args:
        config: Its settings.
        name: For people: log, messages.
        tls: Its identity, which demands one of its callers; None for the one that this process has adopted,
            and plaintext where it has none.

    Raises:
        ConfigError: It would be reached from other machines without TLS, or the certificate files cannot be
            used.
    """

    def __init__(self, config: ServerConfig, name: str, tls: Tls | None = None) -> None:
        tls = tls or own()
        check_door(name, config, secured=tls is not None)
        self._certificates = Certificates(tls, "server", "client") if tls else None
        if (certificates := self._certificates) is not None:
            CERTIFICATE_EXPIRY.labels(name).set_function(lambda: certificates.certificate.not_after)
        self.config = config
        self.name = name
        self.port = 0
        """gRPC port, known after ``start``."""
        self.http_port = -1
        """HTTP port, known after ``start``; -1 where there is none."""
        self._limiter = Limiter(name, config.max_concurrent_calls, config.max_waiting_calls)
        chain = Chain(
            self._limiter,
            max_deadline_seconds=config.max_deadline_seconds,
            write_idle_seconds=config.write_idle_seconds,
        )
        self.grpc = grpc.aio.server(interceptors=[chain], options=_options(config))
        """Give this to ``add_...Servicer_to_server``."""
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self._names: list[str] = [""]
        self._serving = False
        self._listening = False
        self._http = HttpPort(lambda: self._serving)

    def services(self, *full_names: str) -> None:
        """Names the services, for example ``pilothouse.v1.PolicyService``, to health and reflection."""
        self._names.extend(full_names)

    async def start(self, *, serving: bool = True) -> None:
        """Listens, unless it does already, and reports SERVING unless told otherwise.

        Raises:
            ConfigError: The port is taken or the address is not this machine's.
        """
        await self.listen()
        _log.info(
            "listening",
            server=self.name,
            host=self.config.host,
            port=self.port,
            http_port=self.http_port,
            tls=self._certificates is not None,
        )
        if serving:
            await self.set_serving(True)

    async def listen(self) -> None:
        """Opens the ports. Health is answered, with NOT_SERVING; calls are refused until it is SERVING.

        Raises:
            ConfigError: The port is taken or the address is not this machine's.
        """
        if self._listening:
            return
        if self.config.reflection:
            _enable_reflection(self.grpc, self._names[1:])
        await self.set_serving(False)
        address = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        try:
            self.port = self._bind(f"{address}:{self.config.port}")
            await self.grpc.start()
            if self.config.http_port >= 0:
                self.http_port = await self._http.start(self.config.host, self.config.http_port)
        except (RuntimeError, OSError) as error:
            await self.grpc.stop(None)
            raise ConfigError(
                f"{self.name} cannot listen on {self.config.host}, ports {self.config.port} and "
                f"{self.config.http_port}; choose free ports, or 0 for any ({error})"
            ) from None
        self._listening = True

    def _bind(self, address: str) -> int:
        if self._certificates is None:
            return self.grpc.add_insecure_port(address)
        return self.grpc.add_secure_port(address, credentials(self._certificates))

    async def set_serving(self, serving: bool) -> None:
        """Takes calls or refuses them, tells health checks and /readyz so, and writes the port file."""
        self._serving = serving
        if serving:
            self._limiter.release()
        else:
            self._limiter.hold()
        state = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in self._names:
            await self._health.set(name, state)
        if serving and self.config.port_file is not None:
            _write_port_file(self.config.port_file, self)

    async def stop(self) -> None:
        """Drains: NOT_SERVING, new calls are refused, running ones get ``drain_seconds`` to end."""
        self._serving = False
        self._limiter.drain()
        await self._health.enter_graceful_shutdown()
        _log.info("draining", server=self.name)
        grace_seconds = _STOP_SECONDS
        try:
            async with asyncio.timeout(self.config.drain_seconds):
                await self._limiter.idle()
        except TimeoutError:
            grace_seconds = 0.0
            _log.warning("calls were cut off", server=self.name, drain_seconds=self.config.drain_seconds)
        await self.abort(grace_seconds)
        _log.info("stopped", server=self.name)

    async def abort(self, grace_seconds: float | None = None) -> None:
        """Closes the ports now; what still runs after ``grace_seconds`` is cancelled."""
        await self.grpc.stop(grace_seconds)
        await self._http.stop()
        _remove_port_file(self.config.port_file)

    async def run_until_signal(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once."""
        await run_until_signal([self])


@asynccontextmanager
async def listening(servers: Sequence[Server]) -> AsyncIterator[None]:
    """Holds the ports of ``servers`` open while inside; whether they serve is for whoever is inside to say.

    Raises:
        ConfigError: A port is taken or an address is not this machine's.
    """
    try:
        for server in servers:
            await server.listen()
        yield
    finally:
        await _together(server.abort() for server in servers)


async def run_until_signal(servers: list[Server]) -> None:
    """Waits for SIGTERM or SIGINT, then drains all ``servers``; a second signal ends them at once."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    try:
        await signals.get()
        draining = asyncio.ensure_future(_together(server.stop() for server in servers))
        second = asyncio.ensure_future(signals.get())
        await asyncio.wait((draining, second), return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            draining.cancel()
            await _together(server.abort() for server in servers)
        second.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _together(steps: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*steps)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    waiting = config.max_concurrent_calls + config.max_waiting_calls
    return [
        ("grpc.so_reuseport", 0),  # two servers on one port would share its calls unseen
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # By default the core cancels calls not accepted soon; the limiter refuses them with a hint.
        ("grpc.server.max_pending_requests", max(20_000, 2 * waiting)),
        ("grpc.server.max_pending_requests_hard_limit", max(40_000, 4 * waiting)),
        # Clients ping every few seconds to notice a frozen server; by default that would earn them a GOAWAY.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
        # And the server notices callers that vanished.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
    ]


def _enable_reflection(server: grpc.aio.Server, names: list[str]) -> None:
    from grpc_reflection.v1alpha import reflection

    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)


def _write_port_file(path: Path, server: Server) -> None:
    """Writes beside and renames, so that a reader finds all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "name": server.name,
        "pid": os.getpid(),
        "host": server.config.host,
        "port": server.port,
        "http_port": server.http_port,
    }
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def _remove_port_file(path: Path | None) -> None:
    """Removes the file unless a successor has already written its own."""
    if path is None or not path.exists():
        return
    if json.loads(path.read_text()).get("pid") == os.getpid():
        path.unlink(missing_ok=True)
