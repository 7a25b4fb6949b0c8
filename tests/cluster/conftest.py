"""A real API server: the one that KUBECONFIG names, else one of our own. Every test has its own namespace."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import run as run
from tests.cluster.control_plane import ControlPlane, tool, write_kubeconfig
from tests.cluster.proxy import Proxy

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import NAMESPACE, NODE, Kind, Object, at, name_of
from pilothouse.errors import NotFoundError, PilothouseError

_NUMBERS = itertools.count()

ROLE = Kind("Role", "roles", "rbac.authorization.k8s.io")
BINDING = Kind("RoleBinding", "rolebindings", "rbac.authorization.k8s.io")
ACCOUNT = Kind("ServiceAccount", "serviceaccounts")


@pytest.fixture(scope="session")
def own_control_plane(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]
) -> Iterator[ControlPlane]:
    """An API server of our own, which a test may kill."""
    etcd, apiserver = tool("etcd"), tool("kube-apiserver")
    require(etcd and apiserver, "etcd and kube-apiserver; set KUBEBUILDER_ASSETS to the folder that has them")
    assert etcd
    assert apiserver
    plane = ControlPlane(tmp_path_factory.mktemp("control-plane"), etcd, apiserver)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """Of the administrator of a cluster."""
    if given := os.environ.get("KUBECONFIG"):
        file = Path(given)
        with suppress(PilothouseError):
            connect(kubeconfig=file).read("/version")
            return file
    plane: ControlPlane = request.getfixturevalue("own_control_plane")
    return plane.kubeconfig


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[Api]:
    """The API, as its administrator, in a namespace that is empty."""
    yield from _in_namespace(kubeconfig)


@pytest.fixture
def own_api(own_control_plane: ControlPlane) -> Iterator[Api]:
    """The same on the API server of our own."""
    yield from _in_namespace(own_control_plane.kubeconfig)


@pytest.fixture
def nodes(api: Api, require: Callable[[object, str], None]) -> None:
    """Returns when the namespace can have pods."""
    ready = any(
        each["type"] == "Ready" and each["status"] == "True"
        for node in api.list(NODE).items
        for each in at(node, "status", "conditions") or ()
    )
    require(ready, "a cluster with a Ready node; set KUBECONFIG")
    until(lambda: "default" in names(api.list(ACCOUNT).items), "a controller has made the default account")


def _in_namespace(kubeconfig: Path) -> Iterator[Api]:
    name = f"cli-test-{os.getpid()}-{next(_NUMBERS)}"
    api = connect(kubeconfig=kubeconfig, namespace=name)
    api.create(NAMESPACE, {"metadata": {"name": name}})
    try:
        yield api
    finally:
        with suppress(NotFoundError):
            api.delete(NAMESPACE, name)


Account = Callable[..., Path]


@pytest.fixture
def account(api: Api, kubeconfig: Path, tmp_path: Path) -> Account:
    """``account({"apiGroups": [""], ...}, ...)``: the kubeconfig of an account that has these rights only."""
    numbers = itertools.count()

    def make(*rules: dict[str, list[str]]) -> Path:
        name = f"operator-{next(numbers)}"
        api.create(ACCOUNT, {"metadata": {"name": name}})
        api.create(ROLE, {"metadata": {"name": name}, "rules": list(rules)})
        api.create(
            BINDING,
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": ROLE.group, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": api.namespace}],
            },
        )
        token = api.create(Kind("TokenRequest", "serviceaccounts", "", "v1"), _TOKEN, name, "token")[
            "status"
        ]["token"]
        file = write_kubeconfig(
            tmp_path / f"{name}.kubeconfig",
            server=api.server,
            authority=Path(str(api.configuration.ssl_ca_cert)),
            user={"token": token},
            namespace=api.namespace,
        )
        return file

    return make


_TOKEN = {"apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 3600}}


@pytest.fixture
def proxied(api: Api, tmp_path: Path) -> Iterator[tuple[Api, Proxy]]:
    """The API behind a proxy whose connections can be cut."""
    host, _, port = api.server.removeprefix("https://").partition(":")
    proxy = Proxy(host, int(port))
    configuration = api.configuration
    if token := api.authorization():
        user = {"token": token.removeprefix("Bearer ")}
    else:
        user = {"client-certificate": str(configuration.cert_file), "client-key": str(configuration.key_file)}
    file = write_kubeconfig(
        tmp_path / "proxied.kubeconfig",
        server=f"https://127.0.0.1:{proxy.port}",
        authority=Path(str(configuration.ssl_ca_cert)),
        user=user,
        namespace=api.namespace,
        server_name=host,
    )
    try:
        yield connect(kubeconfig=file), proxy
    finally:
        proxy.close()


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Returns the first true value of ``condition``; fails when it takes for ever."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.05)
    return found


def settings(name: str, **labels: str) -> Object:
    """Returns an empty ConfigMap."""
    return {"metadata": {"name": name, "labels": labels}}


def names(items: list[Object]) -> list[str]:
    """Returns the names of objects, sorted."""
    return sorted(map(name_of, items))
