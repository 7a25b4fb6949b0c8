"""The pods behind a Service, followed on a real API server."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from tests.cluster.conftest import Account, until
from tests.cluster.fake_api import Answer, Query, event, fake_api, listing
from tests.cluster.proxy import Proxy

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.endpoints import ServiceAddresses, follow_service, ips
from pilothouse.cluster.kinds import ENDPOINT_SLICE, ENDPOINTS, Object
from pilothouse.errors import ConfigError, NotFoundError, PermissionDeniedError

SERVICE = "rlhf-weights"


class Pods:
    """What Kubernetes writes when pods come and go: slices, or Endpoints where it has no slices."""

    def __init__(self, api: Api) -> None:
        self._api = api
        try:
            api.list(ENDPOINT_SLICE)
            self._kind = ENDPOINT_SLICE
        except NotFoundError:
            self._kind = ENDPOINTS

    def are(self, *found: str) -> None:
        body = self._body(found)
        try:
            body["metadata"]["resourceVersion"] = self._api.get(self._kind, SERVICE)["metadata"][
                "resourceVersion"
            ]
        except NotFoundError:
            self._api.create(self._kind, body)
        else:
            self._api.replace(self._kind, SERVICE, body)

    def vanish(self) -> None:
        self._api.delete(self._kind, SERVICE)

    def _body(self, found: tuple[str, ...]) -> Object:
        head = {"apiVersion": self._kind.api_version, "kind": self._kind.kind}
        ports = [{"name": "weights", "port": 50052, "protocol": "TCP"}]
        if self._kind is ENDPOINTS:
            subsets = [{"addresses": [{"ip": ip} for ip in found], "ports": ports}] if found else []
            return head | {"metadata": {"name": SERVICE}, "subsets": subsets}
        labels = {"kubernetes.io/service-name": SERVICE}
        endpoints = [{"addresses": [ip], "conditions": {"ready": True}} for ip in found]
        more = {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        return head | {"metadata": {"name": SERVICE, "labels": labels}} | more


@pytest.fixture
def pods(api: Api) -> Pods:
    return Pods(api)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def shown(*last: int) -> set[str]:
    return {f"10.0.0.{number}:50052" for number in last}


def test_pods_are_followed_as_they_come_and_go(api: Api, pods: Pods, stack: ExitStack) -> None:
    pods.are("10.0.0.1")
    addresses = stack.enter_context(closing(ServiceAddresses(SERVICE, 50052, api)))
    assert addresses.name == f"{SERVICE}.{api.namespace}.svc"
    assert addresses.current() == shown(1)
    pods.are("10.0.0.1", "10.0.0.2", "10.0.0.3")
    until(lambda: addresses.current() == shown(1, 2, 3), "three")
    pods.are("10.0.0.3")
    until(lambda: addresses.current() == shown(3), "one left")
    pods.vanish()
    until(lambda: not addresses.current(), "none")


def test_a_service_without_pods_has_no_addresses(api: Api, stack: ExitStack) -> None:
    addresses = stack.enter_context(closing(ServiceAddresses(SERVICE, 50052, api)))
    assert addresses.current() == frozenset()


def test_what_was_known_is_kept_while_the_api_is_away(
    proxied: tuple[Api, Proxy], pods: Pods, stack: ExitStack
) -> None:
    through, proxy = proxied
    pods.are("10.0.0.1")
    addresses = stack.enter_context(closing(ServiceAddresses(SERVICE, 50052, through)))
    assert addresses.current() == shown(1)
    proxy.refuse(True)
    proxy.cut()
    pods.are("10.0.0.1", "10.0.0.2")
    assert addresses.current() == shown(1)
    proxy.refuse(False)
    until(lambda: addresses.current() == shown(1, 2), "both, once it is back")


def test_a_missing_right_is_named(account: Account, stack: ExitStack) -> None:
    rules = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    addresses = ServiceAddresses(SERVICE, 50052, connect(kubeconfig=account(rules)))
    with pytest.raises(PermissionDeniedError, match="may not list endpoint"):
        stack.enter_context(closing(addresses)).current()


def slice_of(version: int, *found: str) -> Object:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": SERVICE, "uid": "1", "resourceVersion": str(version)},
        "endpoints": [{"addresses": [ip]} for ip in found],
    }


ILL: dict[str, list[Answer]] = {
    "credentials that are not known for a moment": [(401, b"")],
    "a right that is missing for a moment": [(403, b"{}")],
    "a page of a proxy instead of events": [(200, b"<html>try again</html>")],
    "a page of a proxy instead of a list": [(410, b"{}"), (200, b"<html>try again</html>")],
    "something else": [(410, b"{}"), (200, b"[]")],
}


@pytest.mark.parametrize("ill", ILL)
def test_after_the_first_answer_nothing_ends_the_following(ill: str, stack: ExitStack) -> None:
    answers = [listing(1, slice_of(1, "10.0.0.1")), *ILL[ill]]

    def answer(query: Query) -> Answer:
        if answers:
            return answers.pop(0)
        new = slice_of(2, "10.0.0.1", "10.0.0.2")
        return event("MODIFIED", new) if "watch" in query else listing(2, new)

    api = stack.enter_context(fake_api(answer))
    addresses = stack.enter_context(closing(ServiceAddresses(SERVICE, 50052, api)))
    until(lambda: addresses.current() == shown(1, 2), "both")


@pytest.mark.parametrize(
    "target", ["", "name", "name:1", "name.space", "name.space:x", ".space:1", "name.:1"]
)
def test_a_target_names_service_namespace_and_port(target: str) -> None:
    with pytest.raises(ConfigError, match=r"kubernetes:///SERVICE\.NAMESPACE:PORT"):
        follow_service(target)


def test_pods_that_are_on_their_way_out_are_left_out() -> None:
    found = {
        "kind": "EndpointSlice",
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True, "terminating": False}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": True, "terminating": True}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
            {"addresses": ["10.0.0.4"], "conditions": {}},
            {"addresses": ["fd00::5"]},
        ],
    }
    assert ips(found) == ["10.0.0.1", "10.0.0.4", "fd00::5"]
    assert ips({"kind": "EndpointSlice", "endpoints": None}) == []
    assert ips({"kind": "Endpoints"}) == []
