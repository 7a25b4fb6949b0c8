"""What becomes of the objects of a kind, told as it happens, whatever happens to the connection.

A watch ends all the time: the server closes it after minutes, restarts, or forgets what was before. It goes
on from the last version that was seen; where that is gone, everything is listed anew, and what differs told.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pilothouse.cluster.api import Api, Lines
from pilothouse.cluster.failures import Asked, from_status
from pilothouse.cluster.kinds import Kind, Object
from pilothouse.errors import GoneError, UnavailableError

_log = logging.getLogger(__name__)

_SERVER_SECONDS = 240
"""After which the server ends a watch, so that no half-dead connection is trusted for longer."""
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 5.0
_HELD_SECONDS = 5.0
"""A watch that was open for so long was one, though silent; before that, the server may only seem to work."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is told."""

    what: Literal["present", "gone", "listed"]
    """``present``: the object is new or different. ``gone``: it was deleted. ``listed``: all there are have
    been told once; ``object`` is empty."""
    object: Object


class Watch:
    """All objects of a kind with some labels, then every change. One thread iterates; any may close it."""

    def __init__(
        self, api: Api, kind: Kind, selector: str = "", *, fields: str = "", patience_seconds: float = 60.0
    ) -> None:
        """Asks nothing yet.

        Args:
            api: The cluster.
            kind: What.
            selector: Label selector.
            fields: Field selector.
            patience_seconds: How long an API server may be out of reach, or fail, before that is an error.
        """
        self._api, self._kind = api, kind
        self._selector, self._fields = selector, fields
        self._patience_seconds = patience_seconds
        self._known: dict[str, Object] = {}
        self._version = ""
        self._lines: Lines | None = None
        self._opened = math.inf
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Change]:
        """Yields changes until this is closed.

        Raises:
            PermissionDeniedError: This account may not list or watch the kind.
            UnavailableError, GoneError: The API server has been out of reach, or has failed, for too long.
        """
        failures, failing_since = 0, math.inf
        while not self._closed.is_set():
            self._opened = math.inf
            try:
                if not self._version:
                    yield from self._list()
                for change in self._follow():
                    failures = 0
                    if change is not None:
                        yield change
                failures = 0
            except (GoneError, UnavailableError) as error:
                _log.debug("watch of %s broken: %s", self._kind.plural, error)
                if isinstance(error, GoneError):
                    self._version = ""
                now = time.monotonic()
                if failures == 0 or now - self._opened > _HELD_SECONDS:
                    failures, failing_since = 0, now
                if now - failing_since > self._patience_seconds:
                    raise
                failures += 1
            # Longer after every failure in a row; the exponent is bounded, for it overflows a float at last.
            self._closed.wait(min(_FIRST_PAUSE_SECONDS * 2 ** min(failures, 10), _MAX_PAUSE_SECONDS))

    def close(self) -> None:
        """Ends the iteration soon, also where its thread waits for the server."""
        self._closed.set()
        if (lines := self._lines) is not None:
            lines.close()

    def _list(self) -> Iterator[Change]:
        """Lists everything; yields what differs from what was told before."""
        found = self._api.list(self._kind, self._selector, fields=self._fields)
        present = {_uid(item): item for item in found.items}
        for uid in self._known.keys() - present.keys():
            yield Change("gone", self._known[uid])
        for uid, item in present.items():
            if uid not in self._known or _version(self._known[uid]) != _version(item):
                yield Change("present", item)
        self._known, self._version = present, found.version
        yield Change("listed", {})

    def _follow(self) -> Iterator[Change | None]:
        """Watches from the last version on, until the server ends it; None where only the version is new."""
        query = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "1",
            "labelSelector": self._selector,
            "fieldSelector": self._fields,
            "timeoutSeconds": str(_SERVER_SECONDS),
        }
        namespace = self._api.namespace if self._kind.namespaced else ""
        asked = Asked("watch", self._kind.plural, self._kind.group, namespace=namespace)
        lines = self._lines = self._api.lines(
            self._kind.path(self._api.namespace), asked, query, read_seconds=_SERVER_SECONDS + 30
        )
        if self._closed.is_set():  # closed before there was anything to close
            lines.close()
        self._opened = time.monotonic()
        heard = False
        for line in lines:
            heard = True
            event = _event(line)
            if event["type"] == "ERROR":
                self._version = ""  # whatever it is, listing tells it best
                status = event["object"]
                raise from_status(int(status.get("code") or 500), json.dumps(status).encode(), asked)
            self._version = _version(event["object"])
            yield self._change(event["type"], event["object"])
        if not heard and not self._closed.is_set():
            # Not even a bookmark: one that was restored from a backup is silent until it gets to our version.
            self._version = ""

    def _change(self, kind: str, found: Object) -> Change | None:
        if kind == "BOOKMARK":
            return None
        if kind == "DELETED":
            self._known.pop(_uid(found), None)
            return Change("gone", found)
        self._known[_uid(found)] = found
        return Change("present", found)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
        if {"type", "object"} <= event.keys():
            return event
    except (ValueError, AttributeError):  # the connection broke in the middle of a line
        pass
    raise UnavailableError("the API server, or a proxy before it, broke a watch off")


def _uid(found: Object) -> str:
    return str(found["metadata"]["uid"])


def _version(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])
