"""One trainer at a time: a Lease of coordination.k8s.io, held as client-go's leader election holds it.

Beside the holder, the Lease keeps the highest fencing epoch that a trainer took: who holds it next takes a
higher one, so that what an earlier holder still sends is refused by every policy.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import structlog

from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import LEASE, Object, at
from pilothouse.errors import (
    AlreadyExistsError,
    ConflictError,
    FencedError,
    NotFoundError,
    UnavailableError,
)

EPOCH = "pilothouse.io/epoch"
"""Annotation with the highest epoch taken."""

_RETRY_SECONDS = 1.0
"""Between attempts; less where the lease is short."""

_log = structlog.get_logger(__name__)


class Lease:
    """Held by one process; renewed by a thread until it is released."""

    def __init__(self, name: str, *, duration_seconds: float, api: Api) -> None:
        """Names the Lease; nothing is asked for yet.

        Args:
            name: Of the Lease, made if missing.
            duration_seconds: Who does not renew it for so long has lost it.
            api: The cluster, and the Lease's namespace.
        """
        self._name, self._duration = name, duration_seconds
        # A connection that has died unnoticed must not take the time in which another one would renew it.
        self._api = api.within(duration_seconds / 3)
        self._retry_seconds = min(_RETRY_SECONDS, duration_seconds / 10)
        self.holder = f"{socket.gethostname()}_{secrets.token_hex(4)}"
        """Names this process."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._lease: Object = {}
        self._renewed = 0.0  # when the last renewal was sent: from then on others count
        self._taken_by = ""
        self._seen: tuple[str, float] = ("", 0.0)  # another holder's renewal, and when it was first seen
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def epoch(self) -> int:
        """Highest epoch that any holder took."""
        with self._lock:
            return int(at(self._lease, "metadata", "annotations", EPOCH) or 0)

    def acquire(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Waits until no other process holds the Lease, takes it and keeps it.

        Args:
            given_up: Asked about once a second whether to wait no longer.

        Returns:
            Whether it is held now; False only if the wait was given up.

        Raises:
            PermissionDeniedError: This account may not have it.
        """
        told = ""
        while not given_up():
            try:
                with self._lock:
                    other = self._try_to_take()
                if other is None:
                    self._thread.start()
                    _log.info("lease taken", lease=self._name, holder=self.holder)
                    return True
                if other != told:
                    _log.info("another trainer holds the lease; waiting", lease=self._name, holder=other)
                    told = other
            except UnavailableError as error:
                _log.warning("lease cannot be taken now", lease=self._name, problem=str(error))
            time.sleep(self._retry_seconds)
        return False

    def note_epoch(self, epoch: int) -> None:
        """Makes an epoch known to whoever holds the Lease next.

        Raises:
            FencedError: Another process holds it by now.
            UnavailableError: It could not be renewed in time.
        """
        while True:
            try:
                with self._lock:
                    return self._renew(epoch=epoch)
            except UnavailableError as error:
                _log.warning("epoch was not noted", lease=self._name, problem=str(error))
            self.confirm()
            time.sleep(self._retry_seconds)

    def confirm(self) -> None:
        """Makes sure that the Lease is held now.

        Raises:
            FencedError: Another process has taken it.
            UnavailableError: It could not be renewed in time; it may be again.
        """
        if self._taken_by:
            raise self._fenced()
        if time.monotonic() - self._renewed > self._duration:
            raise UnavailableError(
                f"Lease {self._name} could not be renewed for {self._duration:g} s; see whether the "
                "Kubernetes API can be reached"
            )

    def wait_ready(self, timeout_seconds: float) -> None:
        """Returns when it is held, for `Patience`; raises as ``confirm``."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            try:
                return self.confirm()
            except UnavailableError:
                time.sleep(0.1)
        self.confirm()

    def release(self) -> None:
        """Lets the next process have it at once."""
        self._stopped.set()
        if not self._thread.is_alive():
            return
        self._thread.join()
        if self._taken_by:
            return
        try:
            with self._lock:
                self._renew(holder="")
        except Exception as error:  # it expires by itself
            _log.warning("lease was not released", lease=self._name, problem=str(error))

    def _keep(self) -> None:
        """Renews until released or lost."""
        pause = self._duration / 3
        while not self._stopped.wait(pause) and not self._taken_by:
            pause = self._retry_seconds
            try:
                with self._lock:
                    self._renew()
                pause = self._duration / 3
            except FencedError as error:
                _log.error("lease lost", lease=self._name, problem=str(error))
            except Exception as error:  # whatever a proxy answers: it may be renewed yet
                _log.warning("lease was not renewed", lease=self._name, problem=str(error))

    def _try_to_take(self) -> str | None:
        """Takes the Lease if nobody holds it; returns who does."""
        try:
            found = self._api.get(LEASE, self._name)
        except NotFoundError:
            found = None
        sent = time.monotonic()
        try:
            if found is None:
                body = {"metadata": {"name": self._name}, "spec": self._taken(1)}
                self._lease = self._api.create(LEASE, body)
            else:
                spec = found["spec"]
                holder = str(spec.get("holderIdentity") or "")
                # Ours, if only the answer to taking it was lost.
                if holder not in ("", self.holder) and not self._has_expired(spec):
                    return holder
                spec |= self._taken(int(spec.get("leaseTransitions") or 0) + 1)
                self._lease = self._api.replace(LEASE, self._name, found)
        except (AlreadyExistsError, ConflictError):
            return "another process, just now"
        self._renewed = sent
        return None

    def _taken(self, transitions: int) -> dict[str, Any]:
        return self._held(self.holder) | {"acquireTime": _now(), "leaseTransitions": transitions}

    def _held(self, holder: str) -> dict[str, Any]:
        seconds = max(1, round(self._duration))
        return {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": _now()}

    def _has_expired(self, spec: Object) -> bool:
        """Returns whether the holder has not renewed for its duration, by this machine's clock alone."""
        renewal = f"{spec.get('holderIdentity')} {spec.get('renewTime')}"
        if renewal != self._seen[0]:
            self._seen = (renewal, time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds") or 0)

    def _renew(self, *, holder: str | None = None, epoch: int | None = None) -> None:
        """Renews the Lease; for another holder, or with another epoch, where given.

        Raises:
            FencedError: Another process holds it.
        """
        sent = 0.0

        def edit(found: Object) -> None:
            nonlocal sent
            sent = time.monotonic()
            other = str(found["spec"].get("holderIdentity") or "")
            if other != self.holder:
                self._taken_by = other or "nobody"
                raise self._fenced()
            found["spec"] |= self._held(self.holder if holder is None else holder)
            if epoch is not None:
                noted = {EPOCH: str(epoch)}
                found["metadata"]["annotations"] = (at(found, "metadata", "annotations") or {}) | noted

        try:
            self._lease = self._api.change(LEASE, self._name, edit)
        except NotFoundError:
            self._taken_by = "nobody, it was deleted"
            raise self._fenced() from None
        self._renewed = sent

    def _fenced(self) -> FencedError:
        return FencedError(
            f"Lease {self._name} is held by {self._taken_by}: another trainer has taken over; this one ends"
        )


def _now() -> str:
    """Returns the time as a MicroTime: always six digits, which Go's parser demands."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
