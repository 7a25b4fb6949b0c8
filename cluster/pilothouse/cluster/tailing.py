"""Follows the logs of pods, also of those that come later."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from pilothouse.cluster.api import Api, Lines
from pilothouse.cluster.kinds import JOB, POD, Object, at, name_of
from pilothouse.cluster.logs import Line, Wanted, containers, is_meant, open_log, parsed
from pilothouse.cluster.objects import job_state
from pilothouse.cluster.release import Release
from pilothouse.cluster.watching import Watch
from pilothouse.errors import InvalidRequestError, NotFoundError, UnavailableError

_AGAIN_SECONDS = 0.5
_LOOK_SECONDS = 1.0
_SECONDS_LENGTH = len("2026-01-31T12:00:00")

Key = tuple[str, str]
"""(uid of a pod, name of a container)."""


class Tailing:
    """Every container has a thread, which goes on from the last line it saw when its connection breaks."""

    def __init__(self, api: Api, release: Release, what: str | None, wanted: Wanted) -> None:
        """Asks nothing yet.

        Args:
            api: The cluster.
            release: Whose pods.
            what: A component, a pod or a Job; None for all.
            wanted: Which lines.
        """
        self._api, self._what, self._wanted = api, what, wanted
        self._watch = Watch(api, POD, release.selector())
        self._told: queue.Queue[Line | Exception] = queue.Queue(maxsize=10_000)
        self._lock = threading.Lock()
        self._begun: set[Key] = set()
        self._going: dict[Key, Lines | None] = {}
        self._jobs: set[str] = set()
        self._replaced = False
        self._closed = threading.Event()

    def lines(self) -> Iterator[Line]:
        """Yields lines as they come, until every pod that is meant has ended for good.

        Raises:
            PermissionDeniedError: This account may not read logs, or not watch pods.
            UnavailableError: The API server stays out of reach.
        """
        self._start(self._find)
        try:
            while True:
                try:
                    told = self._told.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    if self._is_done():
                        return
                    continue
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            self._close()

    def _close(self) -> None:
        self._closed.set()
        self._watch.close()
        with self._lock:
            found = [lines for lines in self._going.values() if lines is not None]
        for lines in found:
            lines.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                run(*arguments)
            except Exception as error:  # whatever it is: nobody else hears of it
                if not self._closed.is_set():
                    self._told.put(error)

        threading.Thread(target=guarded, daemon=True).start()

    def _find(self) -> None:
        """Starts a thread for every container that has begun."""
        for change in self._watch:
            if change.what == "present" and is_meant(change.object, self._what):
                self._begin(change.object)

    def _begin(self, pod: Object) -> None:
        for owner in at(pod, "metadata", "ownerReferences") or ():
            if owner.get("kind") == "Job":
                self._jobs.add(str(owner["name"]))
            elif owner.get("controller"):
                self._replaced = True
        for container in containers(pod):
            key = (str(pod["metadata"]["uid"]), container)
            with self._lock:
                if key in self._begun or not _has_begun(pod, container):
                    continue
                self._begun.add(key)
                self._going[key] = None
            self._start(self._tail, key, name_of(pod), container)

    def _tail(self, key: Key, pod: str, container: str) -> None:
        place = _Place()
        query = {**self._wanted.query(), "follow": "1"}
        while not self._closed.is_set():
            with suppress(UnavailableError, InvalidRequestError, NotFoundError):
                lines = open_log(self._api, pod, container, query)
                with self._lock:
                    self._going[key] = lines
                if self._closed.is_set():
                    lines.close()
                for raw in lines:
                    line = parsed(raw, pod, container)
                    if place.is_new(line):
                        self._told.put(line)
            if place.time:
                query = {"timestamps": "1", "follow": "1", "sinceTime": place.again()}
            if self._has_ended(pod, container):
                break
            self._closed.wait(_AGAIN_SECONDS)
        with self._lock:
            del self._going[key]

    def _has_ended(self, pod: str, container: str) -> bool:
        """Returns whether a container will not write again."""
        try:
            found = self._api.get(POD, pod)
        except NotFoundError:
            return True
        except UnavailableError:
            return False
        if at(found, "status", "phase") in ("Succeeded", "Failed"):
            return True
        first = [each["name"] for each in at(found, "spec", "initContainers") or ()]
        code = at(_status_of(found, container), "state", "terminated", "exitCode")
        return container in first and code == 0

    def _is_done(self) -> bool:
        """Returns whether all pods have ended, and nothing puts others in their place."""
        with self._lock:
            if self._going or not self._begun or self._replaced:
                return False
        for name in self._jobs:
            with suppress(NotFoundError):
                if job_state(self._api.get(JOB, name)) in ("running", "pending"):
                    return False
        return self._told.empty()


class _Place:
    """How far a log was read. The server takes it up at whole seconds, so that lines come twice."""

    def __init__(self) -> None:
        self.time = ""
        self._count = 0
        self._skip = 0
        self._untimed = ""

    def again(self) -> str:
        """Returns from when to read once more; what was seen is known from here on."""
        self._skip = self._count
        return f"{self.time[:_SECONDS_LENGTH]}Z"

    def is_new(self, line: Line) -> bool:
        """Returns whether a line was not seen before."""
        if not line.time:  # the kubelet's own word, which it repeats whenever it is asked
            before, self._untimed = self._untimed, line.text
            return line.text != before
        if line.time < self.time:
            return False
        if line.time == self.time and self._skip:
            self._skip -= 1
            return False
        self._count = self._count + 1 if line.time == self.time else 1
        self.time, self._skip = line.time, 0
        return True


def _has_begun(pod: Object, container: str) -> bool:
    state = at(_status_of(pod, container), "state") or {}
    return "running" in state or "terminated" in state


def _status_of(pod: Object, container: str) -> Object | None:
    for group in ("initContainerStatuses", "containerStatuses"):
        for status in at(pod, "status", group) or ():
            if at(status, "name") == container:
                return dict(status)
    return None
