"""Pictures of a release as it changes: objects by watches, the pods' figures by asking them now and then."""

import datetime
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import DEPLOYMENT, JOB, LEASE, POD, STATEFUL_SET, Kind, Object
from pilothouse.cluster.looking import Identity, answers_of
from pilothouse.cluster.objects import is_running
from pilothouse.cluster.picture import Answers, Objects, Picture, picture
from pilothouse.cluster.release import Release
from pilothouse.cluster.screen import trainer_line
from pilothouse.cluster.watching import Change, Watch
from pilothouse.errors import PilothouseError

_SETTLE_SECONDS = 0.2
"""What changes at the same time is shown at once."""
_IDLE_SECONDS = 1.0

News = tuple[Kind, Change] | Answers | PilothouseError


class Follower:
    """Keeps what is known of a release; see `follow`."""

    def __init__(self, api: Api, release: Release, identity: Identity, every_seconds: float) -> None:
        self._api, self._release, self._identity = api, release, identity
        self._every_seconds = every_seconds
        self._news: queue.Queue[News] = queue.Queue()
        selector = release.selector()
        self._watches = {
            POD: Watch(api, POD, selector),
            DEPLOYMENT: Watch(api, DEPLOYMENT, selector),
            STATEFUL_SET: Watch(api, STATEFUL_SET, selector),
            JOB: Watch(api, JOB, release.selector("trainer")),
            LEASE: Watch(api, LEASE, fields=f"metadata.name={release.lease}"),
        }
        self._objects: dict[Kind, dict[str, Object]] = {kind: {} for kind in self._watches}
        self._unlisted = set(self._watches)
        self._answers = Answers()
        self._closed = threading.Event()
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._watch, args=(kind,), daemon=True) for kind in self._watches
        ]
        self._threads.append(threading.Thread(target=self._ask, daemon=True))

    def start(self) -> None:
        """Begins to watch and to ask."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends all threads."""
        self._closed.set()
        self._wanted.set()
        for watch in self._watches.values():
            watch.close()
        for thread in self._threads:
            thread.join()

    def pictures(self) -> Iterator[Picture]:
        """Yields a picture whenever something is new; the first when all objects are known.

        Raises:
            PilothouseError: A kind may not be watched, or the API server stays out of reach.
        """
        while True:
            self._take(self._news.get())
            self._closed.wait(_SETTLE_SECONDS)
            while not self._news.empty():
                self._take(self._news.get())
            if not self._unlisted:
                yield self.now()

    def now(self) -> Picture:
        """Returns the picture of this moment."""
        now = datetime.datetime.now(datetime.UTC)
        return picture(self._release, self._known(), self._answers, now)

    def _known(self) -> Objects:
        with self._lock:
            found = {kind: list(objects.values()) for kind, objects in self._objects.items()}
        return Objects(
            pods=found[POD],
            workloads=[*found[DEPLOYMENT], *found[STATEFUL_SET]],
            jobs=found[JOB],
            lease=next(iter(found[LEASE]), None),
        )

    def _take(self, news: News) -> None:
        if isinstance(news, PilothouseError):
            raise news
        if isinstance(news, Answers):
            self._answers = news
            return
        kind, change = news
        if change.what == "listed":
            self._unlisted.discard(kind)
            if not self._unlisted:
                self._wanted.set()
            return
        uid = str(change.object["metadata"]["uid"])
        with self._lock:
            if change.what == "gone":
                self._objects[kind].pop(uid, None)
            else:
                self._objects[kind][uid] = change.object

    def _watch(self, kind: Kind) -> None:
        try:
            for change in self._watches[kind]:
                self._news.put((kind, change))
        except PilothouseError as error:
            self._news.put(error)

    def _ask(self) -> None:
        """Asks the pods, from the moment when they are known."""
        self._wanted.wait()
        while not self._closed.is_set():
            known = self._known()
            running = any(map(is_running, known.pods))
            if running:
                self._news.put(answers_of(self._api, self._release, known, self._identity))
            self._closed.wait(self._every_seconds if running else _IDLE_SECONDS)


@contextmanager
def follow(
    api: Api, release: Release, identity: Identity, every_seconds: float = 5.0
) -> Iterator[Iterator[Picture]]:
    """Yields an endless iterator of pictures, one whenever something has changed.

    Args:
        api: The cluster.
        release: Which one.
        identity: Who the operator is to the services.
        every_seconds: How often the pods are asked for their figures.
    """
    follower = Follower(api, release, identity, every_seconds)
    follower.start()
    try:
        yield follower.pictures()
    finally:
        follower.close()


def news(before: Picture | None, after: Picture) -> Sequence[str]:
    """Returns what has become different, a line each."""
    told = []
    old = {} if before is None else {pod.name: pod for pod in before.pods}
    for pod in after.pods:
        known = old.pop(pod.name, None)
        if known is None or pod.state != known.state:
            problem = f": {pod.problem}" if pod.problem and not pod.ready else ""
            told.append(f"pod {pod.name} {pod.state}{problem}")
    told += [f"pod {name} gone" for name in old]
    if after.trainer is not None:
        line = f"trainer {trainer_line(after.trainer)}"
        if before is None or before.trainer is None or line != f"trainer {trainer_line(before.trainer)}":
            told.append(line + (f": {after.trainer.problem}" if after.trainer.problem else ""))
    holder = after.lease.holder if after.lease else ""
    if holder and (before is None or before.lease is None or before.lease.holder != holder):
        told.append(f"lease held by {holder}")
    return told
