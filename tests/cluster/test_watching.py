import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.cluster.conftest import Account, settings, until
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fake_api import Answer, Query, event, failure, fake_api, listing
from tests.cluster.proxy import Proxy

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import CONFIG_MAP, Object, at, name_of
from pilothouse.cluster.watching import Watch
from pilothouse.errors import PermissionDeniedError, UnavailableError

Told = Callable[[], str]


@contextmanager
def watched(api: Api, **options: float) -> Iterator[Told]:
    """Yields a function that returns the next thing that is told; an error is told by its class."""
    told: queue.Queue[str] = queue.Queue()
    watch = Watch(api, CONFIG_MAP, "app=watched", **options)

    def run() -> None:
        try:
            for change in watch:
                name = name_of(change.object) if change.object else ""
                value = at(change.object, "data", "value") or ""
                told.put(" ".join(filter(None, (change.what, name, value))))
        except Exception as error:
            told.put(type(error).__name__)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield lambda: told.get(timeout=60)
    finally:
        watch.close()
        thread.join(timeout=30)
        assert not thread.is_alive()


def put(api: Api, name: str) -> None:
    api.create(CONFIG_MAP, settings(name, app="watched"))


def test_all_there_is_comes_first_then_every_change(api: Api) -> None:
    put(api, "old")
    with watched(api) as told:
        assert [told(), told()] == ["present old", "listed"]
        put(api, "new")
        assert told() == "present new"
        api.patch(CONFIG_MAP, "old", {"data": {"value": "other"}})
        assert told() == "present old other"
        api.create(CONFIG_MAP, settings("foreign", app="another"))
        api.delete(CONFIG_MAP, "new")
        assert told() == "gone new"


def test_a_broken_connection_loses_nothing_and_repeats_nothing(proxied: tuple[Api, Proxy], api: Api) -> None:
    mine, proxy = proxied
    put(api, "old")
    with watched(mine) as told:
        assert [told(), told()] == ["present old", "listed"]
        for number in range(5):
            proxy.refuse(True)
            proxy.cut()
            put(api, f"while-cut-{number}")
            proxy.refuse(False)
            assert told() == f"present while-cut-{number}"
        api.delete(CONFIG_MAP, "old")
        assert told() == "gone old"


def test_an_api_server_that_is_killed_and_comes_back_is_watched_on(
    own_api: Api, own_control_plane: ControlPlane
) -> None:
    put(own_api, "old")
    with watched(own_api) as told:
        assert [told(), told()] == ["present old", "listed"]
        own_control_plane.kill_apiserver()
        own_control_plane.start_apiserver()
        put(own_api, "new")
        assert told() == "present new"


def test_a_version_that_is_gone_is_made_up_for_by_listing_again(
    own_api: Api, own_control_plane: ControlPlane
) -> None:
    """Between the list and the watch everything changes, and etcd forgets how."""
    put(own_api, "stays")
    put(own_api, "goes")
    watch = Watch(own_api, CONFIG_MAP, "app=watched")
    changes = iter(watch)
    assert {name_of(next(changes).object) for _ in range(2)} == {"stays", "goes"}
    assert next(changes).what == "listed"
    own_api.delete(CONFIG_MAP, "goes")
    put(own_api, "comes")
    own_control_plane.kill_apiserver()  # its cache would still know
    own_control_plane.compact()
    own_control_plane.start_apiserver()
    rest = [next(changes) for _ in range(3)]
    assert [(change.what, name_of(change.object)) for change in rest[:2]] == [
        ("gone", "goes"),
        ("present", "comes"),
    ]
    assert rest[2].what == "listed"
    put(own_api, "later")
    assert name_of(next(changes).object) == "later"
    watch.close()


def test_what_may_not_be_watched_is_an_error_at_once(account: Account) -> None:
    mine = connect(
        kubeconfig=account({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]})
    )
    watch = Watch(mine, CONFIG_MAP)
    with pytest.raises(PermissionDeniedError, match=r"may not watch configmaps.*verbs: \[watch\]"):
        list(watch)


def test_a_server_that_stays_away_ends_the_watch_with_an_error(proxied: tuple[Api, Proxy], api: Api) -> None:
    mine, proxy = proxied
    with watched(mine, patience_seconds=0.5) as told:
        assert told() == "listed"
        proxy.refuse(True)
        proxy.cut()
        assert told() == UnavailableError.__name__


def config_map(name: str, version: int) -> Object:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def test_a_server_that_takes_every_watch_and_fails_ends_it_with_an_error_too() -> None:
    def answer(query: Query) -> Answer:
        if "watch" not in query:
            return listing(1)
        return event("ERROR", failure(500, "etcd has no leader"))

    with fake_api(answer) as api, watched(api, patience_seconds=0.5) as told:
        said = [told()]
        while said[-1] == "listed":
            said.append(told())
        assert said[-1] == UnavailableError.__name__
        assert len(said) < 8  # less and less often


RESTORED: dict[str, Answer] = {
    "says so": event("ERROR", failure(504, "Too large resource version: 900, current: 5")),
    "says so at once": (
        504,
        json.dumps(failure(504, "Too large resource version: 900, current: 5")).encode(),
    ),
    "is silent": (200, b""),
    "has lost the watch": event("ERROR", failure(500, "unexpected")),
}


@pytest.mark.parametrize("restored", RESTORED)
def test_a_server_that_was_restored_from_a_backup_is_listed_again(restored: str) -> None:
    asked = list[Query]()

    def answer(query: Query) -> Answer:
        asked.append(query)
        if "watch" in query:
            return (
                RESTORED[restored]
                if query["resourceVersion"] == "900"
                else event("ADDED", config_map("later", 6))
            )
        return listing(900, config_map("old", 9)) if len(asked) == 1 else listing(5, config_map("new", 5))

    with fake_api(answer) as api, watched(api) as told:
        assert [told(), told()] == ["present old", "listed"]
        assert [told(), told(), told()] == ["gone old", "present new", "listed"]
        assert told() == "present later"


def test_closing_ends_a_watch_that_waits(api: Api) -> None:
    watch = Watch(api, CONFIG_MAP, "app=nobody")
    done = threading.Event()

    def run() -> None:
        for _ in watch:
            pass
        done.set()

    threading.Thread(target=run, daemon=True).start()
    until(lambda: watch._lines, "watching")
    watch.close()
    assert done.wait(30)
