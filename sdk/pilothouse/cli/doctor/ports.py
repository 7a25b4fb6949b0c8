"""Looks at the ports that the configuration asks for."""

from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.cli.doctor.settings import walk
from pilothouse.config import Config
from pilothouse.local.ports import is_free


def check_ports(sections: Mapping[str, Config], own: set[int]) -> Iterator[Finding]:
    """Looks whether every fixed port can be had.

    Args:
        sections: Every section that has a value.
        own: Ports on which the running stack listens; those are as they should be.
    """
    asked: dict[int, str] = {}
    for name, section in sections.items():
        for key, host, port in _ports(name, section):
            check = f"port {key}"
            if port in asked:
                mend = "give every server a port of its own, or 0 for any free one"
                yield Finding(check, "error", f"{port} is also asked for by {asked[port]}", mend)
            elif port in own:
                yield ok(check, f"{port}, in use by the running stack")
            elif not is_free(port, host):
                mend = f"end it, or set {key} to another port, or to 0 for any free one"
                yield Finding(check, "error", f"{port} is in use by {_who(port)}", mend)
            else:
                yield ok(check, f"{port} is free")
            asked.setdefault(port, key)


def _ports(name: str, section: Config) -> Iterator[tuple[str, str, int]]:
    for setting in walk(name, section):
        if setting.key in ("port", "http_port") and isinstance(setting.value, int) and setting.value > 0:
            yield setting.path, str(getattr(setting.owner, "host", "127.0.0.1")), setting.value


def _who(port: int) -> str:
    """Names the process that listens on a port, as far as this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            address: Any = connection.laddr  # empty, or host and port; the stubs disagree with themselves
            listens = connection.status == psutil.CONN_LISTEN and address and address.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another process"
