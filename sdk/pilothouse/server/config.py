"""Settings that every server has."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pilothouse.config import Config


class ServerConfig(Config):
    """Where a server listens, what it bounds and how it ends."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback also needs ``allow_insecure``."""
    port: int = Field(default=0, ge=0, le=65535)
    """gRPC port; 0 takes any free one."""
    http_port: int = Field(default=0, ge=-1, le=65535)
    """Plain HTTP port for /healthz, /readyz and /metrics; 0 takes any free one, -1 serves none."""
    allow_insecure: bool = False
    """Listen beyond loopback although callers are neither encrypted nor authenticated."""
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

    @model_validator(mode="after")
    def _refuse_an_open_door(self) -> Self:
        if not self.allow_insecure and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other machines, without encryption or authentication; "
                "listen on 127.0.0.1, or set allow_insecure = true inside a trusted network"
            )
        return self


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
