"""Where the replicas behind a name are."""

import logging
import socket
import time
from collections.abc import Iterable
from typing import Protocol

from pilothouse.client.channels import DNS, LISTED, check_target

_log = logging.getLogger(__name__)

_KEPT_SECONDS = 1.0
"""How long an answer of DNS is used."""


class Addresses(Protocol):
    """The replicas behind a name, which come and go."""

    name: str
    """The host that stands for all of them, as their certificates call it; empty where there is none."""

    def current(self) -> frozenset[str]:
        """Returns host:port of every replica known now. Any thread may call."""

    def close(self) -> None:
        """Ends what follows them."""


class Fixed:
    """Addresses that do not change."""

    name = ""

    def __init__(self, targets: Iterable[str]) -> None:
        self._targets = frozenset(targets)

    def current(self) -> frozenset[str]:
        """Returns all of them."""
        return self._targets

    def close(self) -> None:
        """Nothing is followed."""


class DnsAddresses:
    """All addresses that DNS has for a name, such as a headless Service's; asked once a second at most."""

    def __init__(self, target: str) -> None:
        """Follows ``dns:///NAME:PORT``."""
        self.name, _, port = target.removeprefix(DNS).rpartition(":")
        self._port = int(port)
        self._known: frozenset[str] = frozenset()
        self._asked = -_KEPT_SECONDS

    def current(self) -> frozenset[str]:
        """Returns every address; those known last while DNS does not answer."""
        if time.monotonic() - self._asked >= _KEPT_SECONDS:
            self._known = self._ask()
            self._asked = time.monotonic()
        return self._known

    def close(self) -> None:
        """Nothing runs."""

    def _ask(self) -> frozenset[str]:
        try:
            found = socket.getaddrinfo(self.name.strip("[]"), self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                return frozenset()  # no replica has an address
            _log.warning("DNS does not answer for %s: %s", self.name, error)
            return self._known
        return frozenset(_joined(str(address[0]), self._port) for *_, address in found)


def follow(target: str) -> Addresses:
    """Returns what follows host:port, ``unix:PATH``, ``dns:///NAME:PORT`` or ``ipv4:HOST:PORT,HOST:PORT``.

    Raises:
        ConfigError: ``target`` is no address.
    """
    check_target(target)
    if target.startswith(DNS):
        return DnsAddresses(target)
    return Fixed(target.removeprefix(LISTED).split(",") if target.startswith(LISTED) else [target])


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
