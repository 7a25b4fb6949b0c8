"""The files of an identity, read again when they have been replaced."""

import logging
import math
import threading
import time
from typing import NamedTuple

from pilothouse.errors import ConfigError
from pilothouse.tls.config import Tls
from pilothouse.tls.proof import Certificate, Role, prove, read_file

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""Of reading files that are being replaced at the same moment."""

_AGAIN_SECONDS = 1.0
"""Until content that could not be used is tried again: it may be valid by then, where a clock is behind."""

Stamp = tuple[tuple[int, int, int], ...]


class Pem(NamedTuple):
    """What gRPC is given, in PEM form."""

    key: bytes
    certificates: bytes
    authorities: bytes


class Certificates:
    """An identity's files, of which the newest usable content is in force.

    Kubernetes replaces a mounted Secret by moving one symbolic link, cert-manager renews a certificate long
    before it expires: both are noticed with the next connection. Content that cannot be used, such as a
    certificate whose key has not arrived yet or which is not valid yet, changes nothing but the log until it
    can.

    Args:
        tls: The files.
        roles: What the certificate must be good for.

    Raises:
        ConfigError: A file cannot be read or holds something else, the key is another certificate's, the
            certificate has expired, or no authority in ``ca_file`` vouches for it.
    """

    def __init__(self, tls: Tls, *roles: Role) -> None:
        self._tls, self._roles = tls, roles or ("client",)
        self._lock = threading.Lock()
        self._stamp = _stamp(tls)
        self._pem, self._certificate = _read(tls, self._roles)
        self._again = math.inf
        self._problem = ""

    def current(self) -> Pem:
        """Returns the content in force; the same object until it changes. Threads may share it."""
        with self._lock:
            self._look()
            return self._pem

    @property
    def certificate(self) -> Certificate:
        """What the certificate in force says."""
        with self._lock:
            self._look()
            return self._certificate

    def _look(self) -> None:
        stamp, now = _stamp(self._tls), time.monotonic()
        if stamp == self._stamp and now < self._again:
            return
        self._stamp, self._again = stamp, math.inf
        try:
            pem, self._certificate = _read(self._tls, self._roles)
        except ConfigError as error:
            self._again = now + _AGAIN_SECONDS
            if str(error) != self._problem:
                self._problem = str(error)
                _log.warning("the new certificate files cannot be used: %s", error)
            return
        self._problem = ""
        if pem != self._pem:
            self._pem = pem
            _log.info("certificates replaced: %s", self._tls.cert_file)


def _stamp(tls: Tls) -> Stamp | None:
    """Returns what changes with every replacement; None while a file is missing."""
    try:
        found = [file.stat() for file in (tls.key_file, tls.cert_file, tls.ca_file)]
    except OSError:
        return None
    return tuple((status.st_ino, status.st_ctime_ns, status.st_size) for status in found)


def _read(tls: Tls, roles: tuple[Role, ...]) -> tuple[Pem, Certificate]:
    """Returns content that was proved: OpenSSL takes names of files, so they are read before and after."""
    pem = _content(tls)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            certificate, *_ = [prove(tls, role) for role in roles]
            problem = None
        except (ConfigError, OSError) as error:
            problem = error
        again = _content(tls)
        if again == pem and problem is None:
            return pem, certificate
        if again == pem or attempt == _ATTEMPTS:
            break
        pem = again
    raise ConfigError(str(problem) if problem else f"{tls.cert_file} changes all the time; write it once")


def _content(tls: Tls) -> Pem:
    return Pem(
        read_file("key_file", tls.key_file),
        read_file("cert_file", tls.cert_file),
        read_file("ca_file", tls.ca_file),
    )
