"""Everything that helps somebody else to find out what is wrong, in one file, without anybody's secrets."""

import datetime
import importlib.metadata
import io
import json
import platform
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pilothouse.cli.output import null_for_nan
from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    JOB,
    LEASE,
    NETWORK_POLICY,
    NODE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Kind,
    Object,
    at,
    name_of,
)
from pilothouse.cluster.logs import containers, open_log
from pilothouse.cluster.looking import Identity, has_figures, lease_of, look
from pilothouse.cluster.objects import restarts
from pilothouse.cluster.redaction import clean, clean_object, clean_text, is_kept
from pilothouse.cluster.release import COMPONENTS, CONFIG_KEY, Release, pods_of
from pilothouse.cluster.scraping import metrics_text, of_each
from pilothouse.errors import InvalidRequestError, NotFoundError, PilothouseError

_KINDS = (
    CONFIG_MAP,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    STATEFUL_SET,
    JOB,
    CLAIM,
    AUTOSCALER,
    NETWORK_POLICY,
    ROLE,
    ROLE_BINDING,
)
_LOG_LINES = 50_000
_LOG_BYTES = 5 * 2**20
"""Of each container's log the end, at most so much: the server's own limit would keep the beginning."""

Result = TypeVar("Result")
Entry = tuple[str, str]
"""(path in the bundle, content)."""


class Bundle:
    """Gathers what can be read; what cannot is listed in ``problems.txt``."""

    def __init__(self, api: Api, release: Release, identity: Identity) -> None:
        self._api, self._release, self._identity = api, release, identity
        self.problems: list[str] = []
        self._names: set[str] = set()  # of the release's objects
        # Names of pods, also of those that are gone, begin with those of what makes them.
        self._makers = {f"{release.fullname}-{component}" for component in COMPONENTS}

    def write(self, file: Path) -> list[str]:
        """Writes a ``.tar.gz``; returns the paths in it.

        Raises:
            FileExistsError: The file is there already.
        """
        with file.open("xb") as raw:
            file.chmod(0o600)  # even cleaned it is for nobody but its owner
            try:
                with tarfile.open(fileobj=raw, mode="w:gz") as archive:
                    return self._fill(archive)
            except BaseException:  # Ctrl-C too: half a bundle looks like a whole one
                file.unlink()
                raise

    def _fill(self, archive: tarfile.TarFile) -> list[str]:
        names = []
        for path, content in self._entries():
            data = content.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"pilothouse-{self._release.name}/{path}")
            entry.size, entry.mtime, entry.mode = len(data), _now().timestamp(), 0o600
            archive.addfile(entry, io.BytesIO(data))
            names.append(path)
        return names

    def _entries(self) -> Iterator[Entry]:
        pods = self._try("pods", lambda: pods_of(self._api, self._release)) or []
        for gather in (
            self._versions,
            self._status,
            self._configuration,
            lambda: self._objects(pods),
            self._events,
            self._nodes,
            lambda: self._metrics(pods),
            lambda: self._logs(pods),
        ):
            yield from gather()
        if self.problems:
            yield "problems.txt", clean_text("\n".join(self.problems) + "\n")

    def _versions(self) -> Iterator[Entry]:
        server = self._try("version", lambda: self._api.read("/version"))
        yield (
            "versions.json",
            _json(
                {
                    "made": _now().isoformat(),
                    "client": importlib.metadata.version("pilothouse"),
                    "kubernetes_client": importlib.metadata.version("kubernetes"),
                    "python": platform.python_version(),
                    "system": platform.platform(),
                    "server": server,
                    "release": {"name": self._release.name, "namespace": self._release.namespace}
                    | {"chart": self._release.chart, "version": self._release.version},
                }
            ),
        )

    def _status(self) -> Iterator[Entry]:
        found = self._try("status", lambda: look(self._api, self._release, self._identity))
        if found is not None:
            yield "status.json", _json(clean(null_for_nan(asdict(found))))

    def _configuration(self) -> Iterator[Entry]:
        settings = self._try("configuration", lambda: self._api.get(CONFIG_MAP, self._release.fullname))
        if settings is not None:
            yield CONFIG_KEY, clean_text(settings["data"][CONFIG_KEY])

    def _objects(self, pods: list[Object]) -> Iterator[Entry]:
        for kind in _KINDS:
            yield from self._kind(kind)
        self._names |= set(map(name_of, pods))
        yield from (_object("pods", pod) for pod in pods)
        lease = self._try("lease", lambda: lease_of(self._api, self._release))
        if lease is not None:
            yield _object(LEASE.plural, lease)

    def _kind(self, kind: Kind) -> Iterator[Entry]:
        selector = self._release.selector()
        found = self._try(kind.plural, lambda: self._api.list(kind, selector).items) or []
        self._names |= set(map(name_of, found))
        if kind in (DEPLOYMENT, STATEFUL_SET, JOB):
            self._makers |= set(map(name_of, found))
        yield from (_object(kind.plural, each) for each in found if is_kept(each))

    def _events(self) -> Iterator[Entry]:
        events = self._try("events", lambda: self._api.list(EVENT).items)
        if events is not None:
            events = [each for each in events if self._is_own(str(at(each, "involvedObject", "name")))]
            events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
            yield "events.json", _json([clean_object(event) for event in events])

    def _is_own(self, name: str) -> bool:
        """Returns whether an object is the release's: others in the namespace have events too."""
        made = tuple(f"{each}-" for each in self._makers)
        return name in self._names | self._makers or name.startswith(made)

    def _nodes(self) -> Iterator[Entry]:
        nodes = self._try("nodes", lambda: self._api.list(NODE).items)
        if nodes is not None:
            yield "nodes.json", _json([clean_object(node) for node in nodes])

    def _metrics(self, pods: list[Object]) -> Iterator[Entry]:
        for name, text in of_each(
            filter(has_figures, pods), lambda pod: metrics_text(self._api, pod)
        ).items():
            if isinstance(text, PilothouseError):
                self.problems.append(f"metrics of {name}: {text}")
            else:
                yield f"metrics/{name}.prom", text

    def _logs(self, pods: list[Object]) -> Iterator[Entry]:
        for pod in pods:
            for container in containers(pod):
                yield from self._log(name_of(pod), container)
                if restarts(pod):
                    yield from self._log(name_of(pod), container, previous=True)

    def _log(self, pod: str, container: str, *, previous: bool = False) -> Iterator[Entry]:
        query = {"timestamps": "1", "tailLines": str(_LOG_LINES)} | ({"previous": "1"} if previous else {})

        def read() -> str | None:
            try:
                lines = open_log(self._api, pod, container, query)
            except (InvalidRequestError, NotFoundError):
                return None  # it has not begun, or did not run before
            return "".join(f"{line.decode('utf-8', 'replace')}\n" for line in _last(lines))

        text = self._try(f"log of {pod}", read)
        if text is not None:
            yield f"logs/{pod}/{container}{'.previous' if previous else ''}.log", clean_text(text)

    def _try(self, what: str, read: Callable[[], Result]) -> Result | None:
        try:
            return read()
        except PilothouseError as error:
            self.problems.append(f"{what}: {error}")
            return None


def _last(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Returns the last lines, `_LOG_BYTES` in all."""
    kept: deque[bytes] = deque()
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line) + 1
        while size > _LOG_BYTES:
            size -= len(kept.popleft()) + 1
    return kept


def _object(plural: str, found: Object) -> Entry:
    return f"objects/{plural}/{name_of(found)}.json", _json(clean_object(found))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
