"""The one place where channels are made: addresses, TLS, retries, keepalive, message sizes.

A library that opens its channel itself (``tritonclient``) gets its options here too.
"""

import json
import re
from typing import Any, TypedDict, cast

import grpc

from pilothouse.client.metrics import CallTimer
from pilothouse.client.renewal import AsyncRenewedChannel, RenewedChannel
from pilothouse.errors import ConfigError
from pilothouse.tls import Certificates, Pem, Tls, own

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest answer a client takes."""
RETRY_BUFFER_BYTES = 16 * 2**20
"""Requests up to this size can be sent again; gRPC's default is 256 KiB. Equal
to the servers' default limit, so that what they refuse as too large is not tried again."""

_KEEPALIVE_MILLISECONDS = 2_000
_PING_TIMEOUT_MILLISECONDS = 3_000
FOREIGN_KEEPALIVE_MILLISECONDS = 300_000
"""What servers that are not ours tolerate unless told otherwise; quicker pings end the connection."""

ATTEMPTS = 5
"""gRPC's own cap."""

_NEVER_AGAIN = [
    {"service": "pilothouse.v1.WeightsService", "method": "UploadPush"},  # resumes by offset instead
    {"service": "pilothouse.v1.WeightsService", "method": "Rollback"},  # twice is not once
    {"service": "pilothouse.v1.WeightsService", "method": "GetWeights"},  # asks who is there
    {"service": "pilothouse.v1.WeightsService", "method": "FetchWeights"},  # another peer may have them
    # gRPC 1.85: a blocking stream whose server dies before its first answer, and stays away until the retries
    # have ended, hangs for ever, whatever its deadline. Streams are opened again by the clients instead.
    {"service": "pilothouse.v1.PolicyService", "method": "Generate"},
    {"service": "pilothouse.v1.TrainerService", "method": "WatchMetrics"},
    {"service": "grpc.health.v1.Health", "method": "Watch"},
]

Option = tuple[str, Any]

DNS = "dns:///"
"""Begins an address that stands for all replicas that DNS knows."""
LISTED = "ipv4:"
"""Begins a list of addresses, between commas."""

_ADDRESS = re.compile(r"(?:(?:dns|ipv4|ipv6):(?://[^/\s]*/)?)?(?:\[[^\]\s]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
"""A host, or an IPv6 address in brackets, and its port."""
_LIST = re.compile(r"ipv4:[^\s:/,]+:[0-9]{1,5}(?:,[^\s:/,]+:[0-9]{1,5})+")
"""Several of them."""


class Security(TypedDict, total=False):
    """How a client's connections are secured. What is left out is the process's own; see `pilothouse.tls`."""

    tls: Tls | None
    """The caller's identity, and the authorities by which servers are known; None for the one that this
    process has adopted, and plaintext where it has none."""
    server_name: str | None
    """Name that the server's certificate must have; None for ``tls.server_name``, else the target's host. For
    one replica, called by its address, whose certificate names the service. Without TLS it means nothing."""


def connect(target: str, *, tls: Tls | None = None, server_name: str | None = None) -> grpc.Channel:
    """Opens a channel to host:port, ``unix:PATH``, or ``dns:///NAME:PORT`` to spread over replicas.

    Args:
        target: The address.
        tls: See `Security`.
        server_name: See `Security`.

    Raises:
        ConfigError: ``target`` is no address, or the certificate files cannot be used.
    """
    tls = tls or own()
    settings = options(target, server_name=_expected(tls, server_name))
    if tls is None:
        return _timed(grpc.insecure_channel(target, options=settings))

    def opened(pem: Pem) -> grpc.Channel:
        return _timed(grpc.secure_channel(target, credentials(pem), options=settings))

    return cast(grpc.Channel, RenewedChannel(opened, Certificates(tls)))


def connect_async(target: str, *, tls: Tls | None = None, server_name: str | None = None) -> grpc.aio.Channel:
    """As ``connect``, of the asyncio API; must be called in the event loop that uses it."""
    tls = tls or own()
    settings = options(target, server_name=_expected(tls, server_name))
    if tls is None:
        return grpc.aio.insecure_channel(target, options=settings)

    def opened(pem: Pem) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, credentials(pem), options=settings)

    return cast(grpc.aio.Channel, AsyncRenewedChannel(opened, Certificates(tls)))


def _timed(channel: grpc.Channel) -> grpc.Channel:
    return grpc.intercept_channel(channel, CallTimer())


def credentials(pem: Pem) -> grpc.ChannelCredentials:
    """Returns what a secure channel is opened with: who calls, and by whom servers are known."""
    return grpc.ssl_channel_credentials(pem.authorities, pem.key, pem.certificates)


def _expected(tls: Tls | None, server_name: str | None) -> str | None:
    """Returns the name that the server's certificate must have, where it is not the target's host."""
    return None if tls is None else server_name or tls.server_name


def options(
    target: str, *, keepalive_milliseconds: int = _KEEPALIVE_MILLISECONDS, server_name: str | None = None
) -> list[Option]:
    """Returns the channel options for ``target``.

    Args:
        target: As in ``connect``.
        keepalive_milliseconds: Silence during a call after which the peer is pinged.
        server_name: Name that the server's certificate must have; None for the target's host.

    Raises:
        ConfigError: ``target`` is no address.
    """
    check_target(target)
    return [
        *([("grpc.ssl_target_name_override", server_name)] if server_name else []),
        ("grpc.service_config", json.dumps(service_config(target))),
        ("grpc.enable_retries", 1),
        ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # A frozen peer is noticed only with all three: time, timeout and the ping's own timeout.
        ("grpc.keepalive_time_ms", keepalive_milliseconds),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MILLISECONDS),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MILLISECONDS),
        # A service that was restarted is found again within about a second.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 3_000),  # time to connect: three round trips, with TLS four
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # And one that came back at another address: by default DNS is asked again after 30 s only.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.use_local_subchannel_pool", 1),  # a client's connection, and its backoff, are its own
    ]


def check_target(target: str) -> None:
    """Refuses an address without a port that can be: gRPC would try it until the deadline.

    Raises:
        ConfigError: ``target`` is no address.
    """
    if target.startswith(("unix:", "unix-abstract:")):
        return
    several = target.removeprefix(LISTED).split(",") if _LIST.fullmatch(target) else [target]
    found = [_ADDRESS.fullmatch(one) for one in several]
    if not all(one and 0 < int(one[1]) < 2**16 for one in found):
        raise ConfigError(
            f"'{target[:200]}' is no address; write HOST:PORT with a port of 1 to 65535, unix:PATH, "
            "dns:///NAME:PORT or ipv4:HOST:PORT,HOST:PORT"
        )


def service_config(target: str) -> dict[str, Any]:
    """Returns gRPC's service config: which calls are tried again, and where they go.

    Only UNAVAILABLE and RESOURCE_EXHAUSTED are retried, within the deadline; a server's pushback is obeyed.
    """
    retries = {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    config: dict[str, Any] = {
        "methodConfig": [{"name": _NEVER_AGAIN}, {"name": [{}], "retryPolicy": retries}]
    }
    if target.startswith(("dns:", LISTED)):
        config["loadBalancingConfig"] = [{"round_robin": {}}]
        config["healthCheckConfig"] = {"serviceName": ""}
    return config
