"""The pods behind a Service, followed by a watch of its EndpointSlices (of its Endpoints before 1.21)."""

import logging
import math
import threading
from typing import Any

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import ENDPOINT_SLICE, ENDPOINTS, Object, at, name_of
from pilothouse.cluster.watching import Change, Watch
from pilothouse.errors import ConfigError, NotFoundError, PilothouseError, UnavailableError

_FIRST_ANSWER_SECONDS = 10.0
_AGAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ServiceAddresses:
    """The addresses of a headless Service, ready or not as the Service publishes them."""

    def __init__(self, service: str, port: int, api: Api) -> None:
        """Begins to follow.

        Args:
            service: Name of the Service.
            port: Of the pods; the Service's own ports are not looked at.
            api: The cluster, and the Service's namespace.
        """
        self.name = f"{service}.{api.namespace}.svc"
        self._port = port
        self._watches = [
            Watch(api, ENDPOINT_SLICE, f"kubernetes.io/service-name={service}", patience_seconds=math.inf),
            Watch(api, ENDPOINTS, fields=f"metadata.name={service}", patience_seconds=math.inf),
        ]
        self._slices: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()
        self._listed = threading.Event()
        self._closed = threading.Event()
        self._problem: PilothouseError | None = None
        threading.Thread(target=self._follow, name="endpoints", daemon=True).start()

    def current(self) -> frozenset[str]:
        """Returns host:port of every pod; those known last while the API does not answer, or refuses.

        Raises:
            PermissionDeniedError: They may not be read, and never could be.
            UnavailableError: The API has not answered yet.
        """
        listed = self._listed.wait(_FIRST_ANSWER_SECONDS)
        if self._problem is not None:
            raise self._problem
        if not listed:
            raise UnavailableError(f"the Kubernetes API does not tell who is behind {self.name}")
        with self._lock:
            return frozenset(address for group in self._slices.values() for address in group)

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()
        for watch in self._watches:
            watch.close()

    def _follow(self) -> None:
        watch, endpoints = self._watches
        while not self._closed.is_set():
            try:
                for change in watch:
                    self._note(change)
            except Exception as error:  # nobody else would know that the addresses have stopped
                first = not self._listed.is_set()
                if first and watch is not endpoints and isinstance(error, NotFoundError):  # before 1.21
                    watch = endpoints
                    continue
                _log.error("replicas of %s cannot be followed: %s", self.name, error)
                if first and isinstance(error, PilothouseError):
                    self._problem = error
                    self._listed.set()
                    return
                self._closed.wait(_AGAIN_SECONDS)

    def _note(self, change: Change) -> None:
        if change.what == "listed":
            self._listed.set()
            return
        with self._lock:
            if change.what == "gone":
                self._slices.pop(name_of(change.object), None)
            else:
                self._slices[name_of(change.object)] = frozenset(
                    f"[{ip}]:{self._port}" if ":" in ip else f"{ip}:{self._port}" for ip in ips(change.object)
                )


def follow_service(target: str) -> ServiceAddresses:
    """Follows ``SERVICE.NAMESPACE:PORT``.

    Raises:
        ConfigError: It is not of this form, or no cluster is known.
    """
    name, _, port = target.rpartition(":")
    service, _, namespace = name.partition(".")
    if not (service and namespace and port.isdecimal()):
        raise ConfigError(f"'{target}' names no Service; write kubernetes:///SERVICE.NAMESPACE:PORT")
    return ServiceAddresses(service, int(port), connect(namespace=namespace))


def ips(found: Object) -> list[str]:
    """Returns the addresses of an EndpointSlice, or of Endpoints, without pods that are on their way out."""
    if found["kind"] == ENDPOINTS.kind:
        return [entry["ip"] for group in found.get("subsets") or () for entry in group.get("addresses") or ()]
    return [ip for entry in found.get("endpoints") or () if _stays(entry) for ip in entry["addresses"]]


def _stays(entry: Any) -> bool:
    return at(entry, "conditions", "ready") is not False and not at(entry, "conditions", "terminating")
