"""Logs of several pods as one stream."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pilothouse.cluster.api import Api, Lines
from pilothouse.cluster.failures import Asked
from pilothouse.cluster.kinds import POD, Object, at, name_of
from pilothouse.cluster.objects import job_of
from pilothouse.cluster.release import Release, component_of, ordered, pods_of
from pilothouse.errors import InvalidRequestError, NotFoundError


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line of a container's log."""

    time: str
    """When it was written, RFC 3339 in UTC, with nanoseconds; sorts like the time."""
    pod: str
    container: str
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines."""

    tail: int | None = None
    """So many last ones of each container; None for all."""
    since_seconds: float | None = None
    previous: bool = False
    """Of the container before the last restart."""

    def query(self) -> Mapping[str, str]:
        """Returns the parameters of the request."""
        found = {"timestamps": "1"}
        if self.tail is not None:
            found["tailLines"] = str(self.tail)
        if self.since_seconds is not None:
            found["sinceSeconds"] = str(max(round(self.since_seconds), 1))
        if self.previous:
            found["previous"] = "1"
        return found


def chosen(api: Api, release: Release, what: str | None) -> list[Object]:
    """Returns the pods that a component, a pod or a Job stands for; all pods for None.

    Raises:
        NotFoundError: Nothing has this name.
    """
    pods = pods_of(api, release)
    found = [pod for pod in pods if is_meant(pod, what)]
    if not found:
        known = sorted({component_of(pod) for pod in pods if component_of(pod)})
        named = f"no pod, component or job '{what}'" if what else "no pods"
        hint = f"; there are {', '.join(known)}" if known else ""
        raise NotFoundError(f"{named} in release {release.name}{hint}; see `pilothouse cluster status`")
    return found


def is_meant(pod: Object, what: str | None) -> bool:
    """Returns whether ``what`` stands for a pod: as its component, its name or its Job's name."""
    return what is None or what in (component_of(pod), name_of(pod), job_of(pod))


def containers(pod: Object) -> list[str]:
    """Returns the names of a pod's containers, in the order in which they run."""
    found: Iterable[Object] = (
        each for group in ("initContainers", "containers") for each in at(pod, "spec", group) or ()
    )
    return [str(each["name"]) for each in found]


def read_logs(api: Api, pods: Iterable[Object], wanted: Wanted) -> Iterator[Line]:
    """Yields the lines of all pods in the order of their times.

    A container that has not written, because it has not begun or did not run before, has no lines.
    """
    streams = [
        _lines(api, pod, container, wanted) for pod in ordered(list(pods)) for container in containers(pod)
    ]
    yield from heapq.merge(*streams)


def _lines(api: Api, pod: Object, container: str, wanted: Wanted) -> Iterator[Line]:
    try:
        lines = open_log(api, name_of(pod), container, wanted.query())
    except (InvalidRequestError, NotFoundError):
        return
    for line in lines:
        yield parsed(line, name_of(pod), container)


def open_log(api: Api, pod: str, container: str, query: Mapping[str, str]) -> Lines:
    """Opens the log of a container.

    Raises:
        InvalidRequestError: The container has not begun, or did not run before.
        NotFoundError: There is no such pod.
    """
    asked = Asked("get", "pods/log", "", pod, api.namespace)
    return api.lines(POD.path(api.namespace, pod, "log"), asked, {"container": container, **query})


def parsed(line: bytes, pod: str, container: str) -> Line:
    """Splits a line into its time and its text."""
    time, _, text = line.decode("utf-8", "replace").partition(" ")
    return Line(_padded(time), pod, container, text)


def _padded(time: str) -> str:
    """Fills up the fraction of a second, whose trailing zeros are left out: times then sort as text."""
    seconds, _, fraction = time.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}Z"
