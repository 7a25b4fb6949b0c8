"""Logs of several pods as one stream."""

import datetime
import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pilothouse.cluster.api import Api, Lines
from pilothouse.cluster.failures import Asked
from pilothouse.cluster.kinds import POD, Object, at, name_of
from pilothouse.cluster.objects import job_of
from pilothouse.cluster.release import Release, component_of, ordered, pods_of
from pilothouse.errors import InvalidRequestError, NotFoundError, UnavailableError

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)(?: |$)")


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line of a container's log."""

    time: str
    """When it was written, RFC 3339 in UTC, with nanoseconds; sorts like the time. Empty if not known."""
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


def read_logs(
    api: Api, pods: Iterable[Object], wanted: Wanted, unread: Callable[[str], None]
) -> Iterator[Line]:
    """Yields the lines of all pods in the order of their times.

    A container that has not written, because it has not begun or did not run before, has no lines. One that
    cannot be reached, on a node that is lost, is told to ``unread``, and the others are read.
    """
    streams = [
        _lines(api, pod, container, wanted, unread)
        for pod in ordered(list(pods))
        for container in containers(pod)
    ]
    yield from heapq.merge(*streams)


def _lines(
    api: Api, pod: Object, container: str, wanted: Wanted, unread: Callable[[str], None]
) -> Iterator[Line]:
    try:
        for line in open_log(api, name_of(pod), container, wanted.query()):
            yield parsed(line, name_of(pod), container)
    except (InvalidRequestError, NotFoundError):
        return
    except UnavailableError as error:
        unread(f"log of {name_of(pod)}, {container}: {error}")


def open_log(api: Api, pod: str, container: str, query: Mapping[str, str]) -> Lines:
    """Opens the log of a container.

    Raises:
        InvalidRequestError: The container has not begun, or did not run before.
        NotFoundError: There is no such pod.
    """
    asked = Asked("get", "pods/log", "", pod, api.namespace)
    return api.lines(POD.path(api.namespace, pod, "log"), asked, {"container": container, **query})


def parsed(line: bytes, pod: str, container: str) -> Line:
    """Splits a line into its time and its text; what the kubelet itself has to say comes without a time."""
    whole = line.decode("utf-8", "replace")
    found = _TIME.match(whole)
    if found is None:
        return Line("", pod, container, whole)
    return Line(_padded(*found.groups("")), pod, container, whole[found.end() :])


def _padded(seconds: str, fraction: str, zone: str) -> str:
    """Returns a time of which all are of one length, with the zeros that are left out: they sort as text."""
    if zone != "Z":  # as the node's clock is set
        time = datetime.datetime.fromisoformat(f"{seconds}{zone}").astimezone(datetime.UTC)
        seconds = f"{time:%Y-%m-%dT%H:%M:%S}"
    return f"{seconds}.{fraction:0<9}Z"
