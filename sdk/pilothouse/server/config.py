"""Settings that every server has."""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field

from pilothouse.config import Config
from pilothouse.errors import ConfigError


class ServerConfig(Config):
    """Where a server listens, what it bounds and how it ends."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback also needs the section ``tls``, or ``allow_insecure``."""
    port: int = Field(default=0, ge=0, le=65535)
    """gRPC port; 0 takes any free one."""
    http_port: int = Field(default=0, ge=-1, le=65535)
    """Plain HTTP port for /healthz, /readyz and /metrics; 0 takes any free one, -1 serves none."""
    allow_insecure: bool = False
    """Listen beyond loopback without the section ``tls``: callers are neither encrypted nor authenticated."""
    reflection: bool = False
    """Let callers ask for the schema (gRPC server reflection)."""
    port_file: Path | None = None
    """Where to write ``{"name", "pid", "host", "port", "http_port"}`` as JSON once the server serves."""
    max_message_bytes: int = Field(default=16 * 2**20, ge=2**12)
    """Largest message taken or sent, in bytes."""
    max_concurrent_calls: int = Field(default=256, ge=1)
    """Calls that run at the same time; more wait."""
    max_waiting_calls: int = Field(default=1024, ge=0)
    """Calls that may wait; more are refused with QUEUE_FULL and a retry hint."""
    max_deadline_seconds: float = Field(default=3600, gt=0)
    """Longest time a call may take, whether or not its caller set a deadline."""
    write_idle_seconds: float = Field(default=30, gt=0)
    """A stream whose reader takes nothing for this long is ended."""
    drain_seconds: float = Field(default=30, ge=0)
    """How long running calls may go on after SIGTERM."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line written."""


def check_doors(section: str, config: Config, *, secured: bool) -> None:
    """Checks every server of a section; see `check_door`.

    Args:
        section: Its name, for example ``policy``.
        config: The section.
        secured: Whether the process has an identity, the section ``tls``.

    Raises:
        ConfigError: A server would be an open door.
    """
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, ServerConfig):
            check_door(f"{section}.{key}", value, secured=secured)


def check_door(name: str, config: ServerConfig, *, secured: bool) -> None:
    """Refuses to be reached from other machines without encryption or authentication, unless that is wanted.

    Args:
        name: Whose settings they are, for the message.
        config: Settings of one server.
        secured: Whether it serves mutual TLS.

    Raises:
        ConfigError: It would be an open door.
    """
    if not (secured or config.allow_insecure or is_loopback(config.host)):
        raise ConfigError(
            f"{name}: host {config.host} is reachable from other machines, without encryption or "
            "authentication; listen on 127.0.0.1, give this process a certificate (section [tls]), or set "
            "allow_insecure = true inside a trusted network"
        )


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
