"""The chart and a real API server: it takes every object; a release comes, changes and goes as it should."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.rendering import (
    CHART,
    FULL_NAME,
    INDEXED_JOBS,
    NAMESPACE,
    RELEASE,
    VALUES,
    Manifest,
    Renderer,
    Require,
    program,
)
from tests.cluster.conftest import Account, until
from tests.cluster.control_plane import ControlPlane
from tests.cluster.test_endpoints import SERVICE, Pods

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.endpoints import ServiceAddresses
from pilothouse.cluster.kinds import CONFIG_MAP, ENDPOINTS, LEASE, POD, SECRET
from pilothouse.cluster.lease import Lease
from pilothouse.errors import PermissionDeniedError

ROOT = Path(__file__).parents[2]
CUSTOM = ROOT / "tests/chart/custom.yaml"

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Renderer:
    return Renderer(program("helm", require), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def kubectl(own_control_plane: ControlPlane, require: Require) -> Iterator[Kubectl]:
    """``kubectl("get", "pods")``: what it writes. What the release needs of a cluster is there."""
    client = program("kubectl", require)
    environment = {**os.environ, "KUBECONFIG": str(own_control_plane.kubeconfig)}

    def run(*words: str, given: str = "") -> str:
        command = [client, *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("apply", "--filename", str(CUSTOM))
    kinds = [f"customresourcedefinition/{found['metadata']['name']}" for found in custom()]
    run("wait", "--for=condition=Established", "--timeout=60s", *kinds)
    run("create", "namespace", NAMESPACE)
    run("create", "priorityclass", "rlhf", "--value=1")
    yield run
    run("delete", "namespace", NAMESPACE, "--wait=false")


def custom() -> list[Manifest]:
    return list(yaml.safe_load_all(CUSTOM.read_text()))


@pytest.fixture(scope="module")
def version(kubectl: Kubectl) -> str:
    """The server's, for example ``1.20.2``."""
    return str(json.loads(kubectl("get", "--raw", "/version"))["gitVersion"].removeprefix("v"))


@pytest.mark.heavy
def test_it_takes_every_object_of_every_value_set(render: Renderer, kubectl: Kubectl, version: str) -> None:
    asked: set[str] = set()
    too_old = INDEXED_JOBS if tuple(map(int, version.split(".")[:2])) < (1, 22) else set()
    for values in sorted(set(VALUES) - too_old):
        objects = [json.dumps(found, ensure_ascii=False) for found in render(values, version=version).objects]
        new = [found for found in objects if found not in asked]
        asked.update(new)
        if new:
            kubectl(
                "create", "--dry-run=server", "--validate=true", "--filename", "-", given="\n---\n".join(new)
            )
    assert len(asked) > 300


def test_it_refuses_what_is_wrong(render: Renderer, kubectl: Kubectl, version: str) -> None:
    """So that the test before is one."""
    found = render(version=version).one("Service", "policy")
    wrong = json.dumps({**found, "spec": {**found["spec"], "selecter": {}}})
    with pytest.raises(AssertionError, match="selecter"):
        kubectl("create", "--dry-run=server", "--validate=true", "--filename", "-", given=wrong)


def test_the_trainers_rights_are_enough_for_a_trainer_and_for_nothing_else(
    render: Renderer, api: Api, account: Account
) -> None:
    server = str(api.read("/version")["gitVersion"]).removeprefix("v")
    role = render(version=server).one("Role", "trainer")
    mine = connect(kubeconfig=account(*role["rules"]))
    name = f"{FULL_NAME}-trainer"
    for made_by_helm in (True, False):  # or somebody has deleted it
        if made_by_helm:
            api.create(LEASE, {"metadata": {"name": name}})
        with Lease(name, duration_seconds=15, api=mine) as lease:
            assert lease.acquire()
            lease.note_epoch(3)
        api.delete(LEASE, name)
    with closing(ServiceAddresses(SERVICE, 50052, mine)) as addresses:
        assert addresses.current() == frozenset()
        Pods(api).are("10.0.0.1")
        until(lambda: addresses.current() == {"10.0.0.1:50052"}, "seen by a watch")
    for refused in (
        lambda: mine.list(POD),
        lambda: mine.list(LEASE),
        lambda: mine.get(LEASE, "another"),
        lambda: mine.patch(LEASE, name, {}),
        lambda: mine.delete(LEASE, name),
        lambda: mine.get(ENDPOINTS, "kubernetes"),
        lambda: mine.list(CONFIG_MAP),
        lambda: mine.get(SECRET, f"{FULL_NAME}-ca"),
    ):
        with pytest.raises(PermissionDeniedError):
            refused()


class Release:
    """A release on the API server; nothing runs its pods."""

    def __init__(self, renderer: Renderer, kubectl: Kubectl, kubeconfig: Path) -> None:
        self._renderer = renderer
        self._kubectl = kubectl
        self._kubeconfig = kubeconfig

    def helm(self, *words: str, values: dict[str, Any] | None = None) -> str:
        """Runs a command of helm on it."""
        verb, *rest = words
        command = [verb, RELEASE, *rest, "--namespace", NAMESPACE, "--kubeconfig", str(self._kubeconfig)]
        for key, value in (values or {}).items():
            command += ["--set-json", f"{key}={json.dumps(value)}"]
        return self._renderer.helm(*command)

    def objects(self, kind: str) -> dict[str, Manifest]:
        """Returns its objects of a kind by name."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        found = self._kubectl(
            "get", kind, "--namespace", NAMESPACE, "--selector", selector, "--output", "json"
        )
        return {one["metadata"]["name"]: one for one in json.loads(found)["items"]}


@pytest.fixture
def release(render: Renderer, kubectl: Kubectl, own_control_plane: ControlPlane) -> Iterator[Release]:
    release = Release(render, kubectl, own_control_plane.kubeconfig)
    release.helm("install", str(CHART))
    yield release
    kubectl("delete", "--all", "pvc", "--namespace", NAMESPACE, "--wait=false")


def test_certificates_stay_over_an_upgrade_and_follow_their_names(release: Release) -> None:
    first = release.objects("secret")
    assert len(first) == 7
    release.helm("upgrade", str(CHART), values={"policy.replicas": 2})
    assert {name: one["data"] for name, one in release.objects("secret").items()} == {
        name: one["data"] for name, one in first.items()
    }
    release.helm("upgrade", str(CHART), values={"tls.extraDnsNames": ["policy.example.org"]})
    changed = release.objects("secret")
    authority, policy = f"{FULL_NAME}-ca", f"{FULL_NAME}-policy-tls"
    assert changed[authority]["data"] == first[authority]["data"]
    assert changed[policy]["data"]["tls.crt"] != first[policy]["data"]["tls.crt"]
    assert changed[policy]["data"]["ca.crt"] == first[policy]["data"]["ca.crt"]
    release.helm("uninstall")


def test_the_trainers_job_stays_over_an_upgrade_that_is_not_its_own_and_comes_back_with_a_rollback(
    release: Release,
) -> None:
    (first,) = release.objects("job").values()
    release.helm("upgrade", str(CHART), values={"policy.replicas": 3, "config.policy.max_running": 4})
    (same,) = release.objects("job").values()
    assert same["metadata"]["uid"] == first["metadata"]["uid"]
    release.helm("upgrade", str(CHART), values={"config.ppo.total_steps": 7})
    (other,) = release.objects("job").values()
    assert other["metadata"]["name"] != first["metadata"]["name"]
    release.helm("rollback", "1")
    (back,) = release.objects("job").values()
    assert back["metadata"]["name"] == first["metadata"]["name"]
    release.helm("uninstall")


def test_only_volume_claims_outlive_it(release: Release, kubectl: Kubectl) -> None:
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list,create", "--output=name").split()
    release.helm("uninstall")
    left = [f"{kind}/{name}" for kind in kinds for name in release.objects(kind)]
    assert sorted(left) == [
        f"persistentvolumeclaims/{FULL_NAME}-feedback",
        f"persistentvolumeclaims/{FULL_NAME}-runs",
    ]


def test_the_documented_command_takes_away_what_else_may_be_left(
    release: Release, render: Renderer, kubectl: Kubectl, version: str
) -> None:
    release.helm("uninstall")
    rendered = render("postgresql", "cert-manager", version=version)
    left = [rendered.one("Pod", "test"), rendered.one("Job", "migration")]
    left.append(rendered.one("NetworkPolicy", "migration"))
    for spec in (certificate["spec"] for certificate in rendered.all("Certificate")):  # as cert-manager does
        metadata = {"name": spec["secretName"], "namespace": NAMESPACE, **spec["secretTemplate"]}
        left.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    kubectl("create", "--filename", "-", given="\n---\n".join(map(json.dumps, left)))
    text = (ROOT / "docs/operations.md").read_text()
    (command,) = re.findall(r"^kubectl (delete .*--selector.*)$", text, re.MULTILINE)
    kubectl(*command.replace("RELEASE", RELEASE).replace("NAMESPACE", NAMESPACE).split(), "--grace-period=0")
    kinds = ("job", "pod", "networkpolicy", "secret")
    assert not [name for kind in kinds for name in release.objects(kind)]
    assert len(release.objects("pvc")) == 2
