import threading

import pytest
from tests.cluster.conftest import Account, names, settings
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installed import pod_spec
from tests.cluster.proxy import Proxy

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import CONFIG_MAP, POD, SECRET, Kind, Object
from pilothouse.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)


def test_objects_are_made_read_listed_by_label_patched_and_deleted(api: Api) -> None:
    api.create(CONFIG_MAP, settings("one", app="a"))
    api.create(CONFIG_MAP, settings("two", app="b"))
    assert names(api.list(CONFIG_MAP, "app in (a, b)").items) == ["one", "two"]
    assert names(api.list(CONFIG_MAP, "app=b", fields="metadata.name=two").items) == ["two"]
    assert api.list(CONFIG_MAP, "app=a").items[0]["kind"] == "ConfigMap"
    api.patch(CONFIG_MAP, "one", {"data": {"a": "1", "b": "2"}})
    api.patch(CONFIG_MAP, "one", {"data": {"a": None}})
    assert api.get(CONFIG_MAP, "one")["data"] == {"b": "2"}
    api.delete(CONFIG_MAP, "one")
    assert names(api.list(CONFIG_MAP, "app").items) == ["two"]


def test_long_lists_are_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.cluster.api._PAGE", 2)
    for number in range(5):
        api.create(CONFIG_MAP, settings(f"page-{number}", app="paged"))
    assert len(api.list(CONFIG_MAP, "app=paged").items) == 5


def test_a_list_whose_next_page_is_gone_is_read_again(
    own_api: Api, own_control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The continue token's version is compacted away between two pages."""
    monkeypatch.setattr("pilothouse.cluster.api._PAGE", 2)
    for number in range(5):
        own_api.create(CONFIG_MAP, settings(f"page-{number}", app="gone"))
    read = own_api._json
    pages = 0

    def compacted(method: str, *arguments: object, **named: object) -> Object:
        nonlocal pages
        page = read(method, *arguments, **named)  # type: ignore[arg-type]
        pages += method == "GET"
        if method == "GET" and pages == 1:
            own_api.create(CONFIG_MAP, settings("late", app="gone"))
            own_control_plane.compact()
        return page

    monkeypatch.setattr(own_api, "_json", compacted)
    found = own_api.list(CONFIG_MAP, "app=gone").items
    assert names(found) == ["late", *(f"page-{number}" for number in range(5))]


def test_what_is_not_there_is_named_with_its_namespace(api: Api) -> None:
    with pytest.raises(NotFoundError, match=rf'"no-such" not found in namespace {api.namespace}'):
        api.get(CONFIG_MAP, "no-such")
    with pytest.raises(NotFoundError, match=r"this cluster has no things of example.org"):
        api.list(Kind("Thing", "things", "example.org"))


def test_a_name_that_is_taken_is_told(api: Api) -> None:
    api.create(CONFIG_MAP, settings("taken"))
    with pytest.raises(AlreadyExistsError, match=r'"taken" already exists; choose another name'):
        api.create(CONFIG_MAP, settings("taken"))


def test_an_object_that_the_server_finds_wrong_is_refused_with_its_reason(api: Api) -> None:
    with pytest.raises(InvalidRequestError, match=r"create configmaps .*Not_A_Name"):
        api.create(CONFIG_MAP, settings("Not_A_Name"))


def test_an_old_copy_never_overwrites_a_newer_one(api: Api) -> None:
    api.create(CONFIG_MAP, settings("shared"))
    old = api.get(CONFIG_MAP, "shared")
    api.patch(CONFIG_MAP, "shared", {"data": {"by": "somebody else"}})
    with pytest.raises(ConflictError, match=r"cannot update configmaps shared.*modified"):
        api.replace(CONFIG_MAP, "shared", old)


def test_changes_of_many_at_once_all_arrive(api: Api) -> None:
    """Every conflict is met with the fresh object."""
    api.create(CONFIG_MAP, settings("counter") | {"data": {"count": "0"}})

    def one_more(found: Object) -> None:
        found["data"]["count"] = str(int(found["data"]["count"]) + 1)

    def five_more() -> None:
        for _ in range(5):
            api.change(CONFIG_MAP, "counter", one_more)

    threads = [threading.Thread(target=five_more) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.get(CONFIG_MAP, "counter")["data"]["count"] == "20"


def test_a_change_that_always_conflicts_is_given_up(api: Api) -> None:
    api.create(CONFIG_MAP, settings("busy"))
    attempts = 0

    def overtaken(found: Object) -> None:
        nonlocal attempts
        attempts += 1
        api.patch(CONFIG_MAP, "busy", {"data": {"at": str(attempts)}})

    with pytest.raises(ConflictError):
        api.change(CONFIG_MAP, "busy", overtaken)
    assert attempts > 1


def test_a_missing_right_is_told_with_the_rule_that_gives_it(api: Api, account: Account) -> None:
    mine = connect(kubeconfig=account({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}))
    with pytest.raises(PermissionDeniedError) as caught:
        mine.list(POD)
    told = str(caught.value)
    assert f"system:serviceaccount:{api.namespace}:operator-0 may not list pods" in told
    assert f"a Role in {api.namespace} must allow it" in told
    assert '{apiGroups: [""], resources: ["pods"], verbs: [list]}' in told


def test_the_rule_that_is_told_is_the_one_that_helps(account: Account) -> None:
    rules: list[dict[str, list[str]]] = []
    for verb, resource in (("get", "secrets"), ("create", "configmaps")):
        rules.append({"apiGroups": [""], "resources": [resource], "verbs": [verb]})
    without, allowed = connect(kubeconfig=account()), connect(kubeconfig=account(*rules))
    with pytest.raises(PermissionDeniedError, match=r'resources: \["secrets"\], verbs: \[get\]'):
        without.get(SECRET, "s")
    with pytest.raises(PermissionDeniedError, match=r'resources: \["configmaps"\], verbs: \[create\]'):
        without.create(CONFIG_MAP, settings("c"))
    allowed.create(CONFIG_MAP, settings("c"))
    with pytest.raises(NotFoundError):
        allowed.get(SECRET, "s")


def test_a_limit_is_not_taken_for_a_missing_right(api: Api) -> None:
    limits = {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}
    api.create(Kind("LimitRange", "limitranges"), {"metadata": {"name": "small"}, "spec": limits})
    spec = pod_spec("policy")
    spec["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
    with pytest.raises(PermissionDeniedError, match=r"the cluster refuses to create pods.*memory") as caught:
        api.create(POD, {"metadata": {"name": "large"}, "spec": spec})
    assert "must allow" not in str(caught.value)


def test_a_connection_that_breaks_between_two_requests_is_opened_again(
    proxied: tuple[Api, Proxy],
) -> None:
    api, proxy = proxied
    api.create(CONFIG_MAP, settings("a"))
    proxy.cut()
    assert names(api.list(CONFIG_MAP, fields="metadata.name=a").items) == ["a"]


def test_a_server_that_stays_away_is_an_error_that_says_so(proxied: tuple[Api, Proxy]) -> None:
    api, proxy = proxied
    proxy.refuse(True)
    proxy.cut()
    with pytest.raises(UnavailableError, match="cannot reach the API server"):
        api.list(CONFIG_MAP)
