"""The pods behind a Service, followed by a watch of its EndpointSlices (of its Endpoints before 1.21)."""

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import structlog
from kubernetes import client, watch
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from pilothouse.cluster.access import REQUEST_SECONDS, connect, plain
from pilothouse.errors import ConfigError, PermissionDeniedError, PilothouseError, UnavailableError

_WATCH_SECONDS = 30
"""A watch is taken up again after so long: a connection that died in silence is noticed."""
_PAUSE_SECONDS = 1.0
_FIRST_ANSWER_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class ServiceAddresses:
    """The addresses of a headless Service, ready or not as the Service publishes them."""

    def __init__(self, service: str, namespace: str, port: int, api: client.ApiClient) -> None:
        """Begins to follow.

        Args:
            service: Name of the Service.
            namespace: Its namespace.
            port: Of the pods; the Service's own ports are not looked at.
            api: Way to the cluster; closed with this.
        """
        self.name = f"{service}.{namespace}.svc"
        self._service, self._namespace, self._port, self._api = service, namespace, port, api
        self._slices: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()
        self._known = threading.Event()
        self._problem: PilothouseError | None = None
        self._stopped = threading.Event()
        self._watch: watch.Watch | None = None
        threading.Thread(target=self._follow, name="endpoints", daemon=True).start()

    def current(self) -> frozenset[str]:
        """Returns host:port of every pod; those known last while the API does not answer.

        Raises:
            PermissionDeniedError: They may not be read.
            UnavailableError: The API has not answered yet.
        """
        if not self._known.wait(_FIRST_ANSWER_SECONDS):
            raise self._problem or UnavailableError(
                f"the Kubernetes API does not tell who is behind {self.name}"
            )
        with self._lock:
            return frozenset(
                f"[{ip}]:{self._port}" if ":" in ip else f"{ip}:{self._port}"
                for group in self._slices.values()
                for ip in group
            )

    def close(self) -> None:
        """Ends the watch."""
        self._stopped.set()
        if self._watch is not None:
            self._watch.stop()

    def _follow(self) -> None:
        """Lists, watches from there, and starts over when the watch breaks or its start has gone."""
        while not self._stopped.is_set():
            try:
                for event in self._events():
                    self._note(event["type"], event["raw_object"])
            except ApiException as error:
                self._failed(_explained(error, self._namespace))
            except (HTTPError, OSError) as error:
                self._failed(UnavailableError(f"the Kubernetes API cannot be reached: {error}"))

    def _events(self) -> Iterator[Mapping[str, Any]]:
        """Yields every change after a fresh list, in watches one after the other."""
        kind, version = self._list()
        while not self._stopped.is_set():
            self._watch = watch.Watch()
            yield from self._watch.stream(
                kind.func,
                *kind.args,
                **kind.keywords,
                resource_version=version,
                timeout_seconds=_WATCH_SECONDS,
                _request_timeout=(REQUEST_SECONDS, _WATCH_SECONDS + REQUEST_SECONDS),
            )
            version = self._watch.resource_version or version

    def _list(self) -> tuple[partial[Any], str]:
        """Reads all; returns how to watch it, and from which version on."""
        kind = self._slices_of_service()
        try:
            found = kind(_request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 404:
                raise
            kind = self._endpoints_of_service()  # before 1.21
            found = kind(_request_timeout=REQUEST_SECONDS)
        listed: Any = plain(self._api, found)
        with self._lock:
            self._slices = {item["metadata"]["name"]: _addresses(item) for item in listed.get("items") or []}
        self._known.set()
        return kind, listed["metadata"]["resourceVersion"]

    def _slices_of_service(self) -> partial[Any]:
        slices = client.DiscoveryV1Api(self._api).list_namespaced_endpoint_slice
        return partial(slices, self._namespace, label_selector=f"kubernetes.io/service-name={self._service}")

    def _endpoints_of_service(self) -> partial[Any]:
        endpoints = client.CoreV1Api(self._api).list_namespaced_endpoints
        return partial(endpoints, self._namespace, field_selector=f"metadata.name={self._service}")

    def _note(self, event: str, item: Mapping[str, Any]) -> None:
        with self._lock:
            if event == "DELETED":
                self._slices.pop(item["metadata"]["name"], None)
            elif event in ("ADDED", "MODIFIED"):
                self._slices[item["metadata"]["name"]] = _addresses(item)

    def _failed(self, problem: PilothouseError | None) -> None:
        if problem is None:  # too old a version: listing again is all it takes
            return
        self._problem = problem
        _log.warning("replicas cannot be followed now", service=self.name, problem=str(problem))
        self._stopped.wait(_PAUSE_SECONDS)


def follow_service(target: str) -> ServiceAddresses:
    """Follows ``SERVICE.NAMESPACE:PORT``.

    Raises:
        ConfigError: It is not of this form, or no cluster is known.
    """
    name, _, port = target.rpartition(":")
    service, _, namespace = name.partition(".")
    if not (service and namespace and port.isdecimal()):
        raise ConfigError(f"'{target}' names no Service; write kubernetes:///SERVICE.NAMESPACE:PORT")
    return ServiceAddresses(service, namespace, int(port), connect())


def _addresses(item: Mapping[str, Any]) -> frozenset[str]:
    """Returns the IPs of an EndpointSlice, or of Endpoints, without pods that are on their way out."""
    if "subsets" in item or "endpoints" not in item:
        groups = item.get("subsets") or []
        return frozenset(entry["ip"] for group in groups for entry in group.get("addresses") or [])
    return frozenset(
        ip
        for entry in item["endpoints"] or []
        if (entry.get("conditions") or {}).get("ready") is not False
        and not (entry.get("conditions") or {}).get("terminating")
        for ip in entry["addresses"]
    )


def _explained(error: ApiException, namespace: str) -> PilothouseError | None:
    if error.status == 410:
        return None
    if error.status in (401, 403):
        return PermissionDeniedError(
            f"the service account may not list and watch endpointslices and endpoints in {namespace}; bind a "
            "Role that allows it"
        )
    return UnavailableError(f"the Kubernetes API answers {error.status} {error.reason}")
