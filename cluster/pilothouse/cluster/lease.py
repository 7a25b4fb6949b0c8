"""One trainer at a time: a Lease of coordination.k8s.io, held as client-go's leader election holds it.

Beside the holder, the Lease keeps the highest fencing epoch that a trainer took: who holds it next takes a
higher one, so that what an earlier holder still sends is refused by every policy.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import structlog
from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from pilothouse.cluster.access import REQUEST_SECONDS, plain
from pilothouse.errors import FencedError, PermissionDeniedError, PilothouseError, UnavailableError

EPOCH = "pilothouse.io/epoch"
"""Annotation with the highest epoch taken."""

_RETRY_SECONDS = 1.0
_NONE: Mapping[str, str] = {}

_log = structlog.get_logger(__name__)


class _ConflictError(Exception):
    """Somebody has changed the Lease since it was read, or made it."""


class Lease:
    """Held by one process; renewed by a thread until it is released."""

    def __init__(self, name: str, namespace: str, *, duration_seconds: float, api: client.ApiClient) -> None:
        """Names the Lease; nothing is asked for yet.

        Args:
            name: Of the Lease, made if missing.
            namespace: Its namespace.
            duration_seconds: Who does not renew it for so long has lost it.
            api: Way to the cluster.
        """
        self._name, self._namespace, self._duration = name, namespace, duration_seconds
        self._leases: Any = client.CoordinationV1Api(api)  # it takes plain JSON, too
        self._host = socket.gethostname()
        self.holder = f"{self._host}_{secrets.token_hex(4)}"
        """Names this process."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._lease: dict[str, Any] = {}
        self._renewed = 0.0
        self._taken_by = ""
        self._seen: tuple[str, float] = ("", 0.0)  # the other holder's renewal, and when it was first seen
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
            return int((self._lease.get("metadata", {}).get("annotations") or {}).get(EPOCH, 0))

    def acquire(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Waits until no other process holds the Lease, takes it and keeps it.

        Args:
            given_up: Asked about once a second whether to wait any longer.

        Returns:
            Whether it is held now; False only if the wait was given up.

        Raises:
            PermissionDeniedError: The service account may not have it.
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
            time.sleep(_RETRY_SECONDS)
        return False

    def note_epoch(self, epoch: int) -> None:
        """Makes an epoch known to whoever holds the Lease next.

        Raises:
            FencedError: Another process holds it by now.
            UnavailableError: The API does not answer.
        """
        with self._lock:
            self._write(annotations={EPOCH: str(epoch)})

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
                self._write(holder="")
        except PilothouseError as error:  # it expires by itself
            _log.warning("lease was not released", lease=self._name, problem=str(error))

    def _keep(self) -> None:
        """Renews until released or lost."""
        while not self._stopped.wait(self._duration / 3) and not self._taken_by:
            try:
                with self._lock:
                    self._write()
            except FencedError as error:
                _log.error("lease lost", lease=self._name, problem=str(error))
            except PilothouseError as error:
                _log.warning("lease was not renewed", lease=self._name, problem=str(error))

    def _try_to_take(self) -> str | None:
        """Takes the Lease if nobody holds it; returns who does."""
        found = self._read()
        if found is None:
            take = self._create
        else:
            spec = found["spec"]
            holder: str = spec.get("holderIdentity") or ""
            if holder and not self._was_ours(holder) and not self._has_expired(spec):
                return holder
            spec |= self._taken(int(spec.get("leaseTransitions") or 0) + 1)
            self._lease, take = found, self._replace
        try:
            self._lease = self._call(take)
        except _ConflictError:
            return "another process, just now"
        self._renewed = time.monotonic()
        return None

    def _taken(self, transitions: int) -> dict[str, Any]:
        now = _now()
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _was_ours(self, holder: str) -> bool:
        """Returns whether the holder was an earlier container of this very pod, which has ended."""
        in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
        return in_pod and holder.rpartition("_")[0] == self._host

    def _has_expired(self, spec: dict[str, Any]) -> bool:
        """Returns whether the holder has not renewed for its duration, by this machine's clock alone."""
        renewal = f"{spec.get('holderIdentity')} {spec.get('renewTime')}"
        if renewal != self._seen[0]:
            self._seen = (renewal, time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds") or 0)

    def _write(self, *, annotations: Mapping[str, str] = _NONE, holder: str | None = None) -> None:
        """Renews the Lease, with other annotations or another holder where given.

        Raises:
            FencedError: Another process holds it.
        """
        while True:
            self._lease["spec"] |= {
                "holderIdentity": self.holder if holder is None else holder,
                "leaseDurationSeconds": max(1, round(self._duration)),
                "renewTime": _now(),
            }
            metadata = self._lease["metadata"]
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
            try:
                self._lease = self._call(self._replace)
            except _ConflictError:
                found = self._read() or {"spec": {}}
                if (other := found["spec"].get("holderIdentity")) != self.holder:
                    self._taken_by = other or "nobody"
                    raise self._fenced() from None
                self._lease = found  # somebody else has written to it, a label perhaps
            else:
                self._renewed = time.monotonic()
                return

    def _read(self) -> dict[str, Any] | None:
        try:
            return self._call(
                lambda: self._leases.read_namespaced_lease(
                    self._name, self._namespace, _request_timeout=REQUEST_SECONDS
                )
            )
        except LookupError:
            return None

    def _create(self) -> Any:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": self._taken(1),
        }
        return self._leases.create_namespaced_lease(self._namespace, body, _request_timeout=REQUEST_SECONDS)

    def _replace(self) -> Any:
        return self._leases.replace_namespaced_lease(
            self._name, self._namespace, self._lease, _request_timeout=REQUEST_SECONDS
        )

    def _call(self, call: Callable[[], Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = plain(self._leases.api_client, call())
        except ApiException as error:
            if error.status == 404:
                raise LookupError(self._name) from None
            if error.status == 409:
                raise _ConflictError from None
            if error.status in (401, 403):
                raise PermissionDeniedError(
                    f"the service account may not get, create and update leases in {self._namespace}; bind "
                    "a Role that allows it"
                ) from None
            raise UnavailableError(f"the Kubernetes API answers {error.status} {error.reason}") from None
        except (HTTPError, OSError) as error:
            raise UnavailableError(f"the Kubernetes API cannot be reached: {error}") from None
        return answer

    def _fenced(self) -> FencedError:
        return FencedError(
            f"Lease {self._name} is held by {self._taken_by or 'another process'}: another trainer has taken "
            "over; this one ends"
        )


def _now() -> str:
    """Returns the time as a MicroTime: always six digits, which Go's parser demands."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
