import datetime
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cluster.conftest import Account
from tests.cluster.control_plane import write_kubeconfig
from tests.cluster.installed import (
    add_job,
    add_lease,
    add_pod,
    add_workload,
    install,
    set_job,
    set_ready,
)

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import DEPLOYMENT
from pilothouse.cluster.looking import objects_of
from pilothouse.cluster.picture import Answers, picture
from pilothouse.cluster.release import find_release
from pilothouse.cluster.screen import age
from pilothouse.errors import PilothouseError, PortClosedError, UnavailableError


@pytest.fixture
def here(api: Api, kubeconfig: Path) -> list[object]:
    """The options that name the cluster and the namespace."""
    return ["--kubeconfig", kubeconfig, "--namespace", api.namespace]


def complete(api: Api, component: str, replicas: int = 1) -> None:
    add_workload(api, component, replicas)
    status = {"status": {"replicas": replicas, "readyReplicas": replicas}}
    api.patch(DEPLOYMENT, f"demo-{component}", status, "status")


def test_status_shows_components_pods_training_and_lease(run: Run, api: Api, here: list[object]) -> None:
    install(api)
    complete(api, "policy", 2)
    add_pod(api, "policy", "demo-policy-a", ready=True)
    add_pod(api, "policy", "demo-policy-b")
    set_ready(api, "demo-policy-b", ready=False, reason="ImagePullBackOff")
    add_job(api)
    set_job(api, "demo-trainer-1", active=1)
    add_lease(api, "demo-trainer-1-xyz")
    ran = run("cluster", "status", *here, "--json")
    assert ran.status == Exit.OK, ran.err
    assert ran.json["components"] == [{"name": "policy", "ready": 2, "wanted": 2}]
    first, second = ran.json["pods"]
    assert (first["name"], first["state"], first["restarts"]) == ("demo-policy-a", "Ready", 1)
    assert (second["state"], second["problem"]) == ("ImagePullBackOff", "told: ImagePullBackOff")
    assert ran.json["trainer"]["job"] == "demo-trainer-1"
    assert ran.json["jobs"] == {"demo-trainer-1": "running"}
    assert ran.json["lease"]["holder"] == "demo-trainer-1-xyz"
    screen = run("cluster", "status", *here).out
    assert "demo-policy-b" in screen
    assert "policy 2/2" in screen
    assert "lease   demo-trainer-1-xyz, renewed" in screen


def test_a_pod_that_cannot_be_reached_is_shown_with_the_reason(
    run: Run, api: Api, here: list[object]
) -> None:
    install(api)
    add_pod(api, "policy", "demo-policy-a", ready=True)
    (pod,) = run("cluster", "status", *here, "--json").json["pods"]
    assert pod["weights"] == ""
    assert pod["waiting"] is None
    assert "demo-policy-a" in pod["problem"]


def test_status_fails_while_pods_are_missing(run: Run, api: Api, here: list[object]) -> None:
    install(api)
    add_workload(api, "policy", 2)
    ran = run("cluster", "status", *here)
    assert ran.status == Exit.FAILED
    assert "policy 0/2" in ran.out


def test_a_job_that_failed_is_told_with_its_reason(run: Run, api: Api, here: list[object]) -> None:
    install(api)
    add_job(api)
    set_job(api, "demo-trainer-1", condition="Failed", message="out of memory")
    ran = run("cluster", "status", *here, "--json")
    assert ran.status == Exit.FAILED
    assert ran.json["trainer"]["state"] == "failed"
    assert ran.json["trainer"]["problem"] == "Told: out of memory"


def test_the_job_that_runs_counts_and_not_a_newer_one_that_has_ended(
    run: Run, api: Api, here: list[object]
) -> None:
    install(api)
    for name in ("a", "b"):
        add_job(api, name)
    set_job(api, "a", active=1)
    set_job(api, "b", condition="Complete")
    ran = run("cluster", "status", *here, "--json")
    assert ran.json["trainer"]["job"] == "a"
    assert ran.json["jobs"] == {"a": "running", "b": "finished"}


def test_a_loop_that_has_not_opened_its_ports_waits_and_is_no_complaint(api: Api) -> None:
    install(api)
    add_workload(api, "trainer")
    add_pod(api, "trainer", "loop-pod", ready=True)
    objects = objects_of(api, find_release(api))

    def seen(error: PilothouseError) -> tuple[str, str, str]:
        answers = Answers({"loop-pod": error}, error, "loop-pod")
        found = picture(find_release(api), objects, answers, datetime.datetime.now(datetime.UTC))
        assert found.trainer
        return found.trainer.state, found.trainer.problem, found.pods[0].problem

    assert seen(PortClosedError("nothing listens there")) == ("waiting", "", "")
    assert seen(UnavailableError("gone")) == ("running", "gone", "gone")


def test_rights_that_are_missing_are_one_line_and_exit_status_1(run: Run, api: Api, account: Account) -> None:
    install(api)
    ran = run("cluster", "status", "--kubeconfig", account())
    assert ran.status == Exit.FAILED
    assert ran.err.count("\n") == 1
    assert "may not list configmaps" in ran.err
    assert "verbs: [list]" in ran.err


def test_what_the_figures_need_may_be_missing(run: Run, api: Api, account: Account) -> None:
    """Who may only look at objects sees objects."""
    install(api)
    add_pod(api, "policy", "demo-policy-a", ready=True)
    look = ["get", "list"]
    mine = account(
        {"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": look},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": look},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": look},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": look},
    )
    ran = run("cluster", "status", "--kubeconfig", mine, "--json")
    assert ran.status == Exit.OK, ran.err
    assert "may not get and create pods/portforward" in ran.json["pods"][0]["problem"]


def test_what_is_wrong_decides_the_exit_status(run: Run, here: list[object], tmp_path: Path) -> None:
    assert run("cluster", "status", *here).status == Exit.FAILED  # no release
    assert run("cluster", "status", "--kubeconfig", tmp_path / "none").status == Exit.USAGE
    authority = tmp_path / "ca.crt"
    authority.touch()
    away = write_kubeconfig(tmp_path / "c", server="http://127.0.0.1:1", authority=authority, user={})
    assert run("cluster", "status", "--kubeconfig", away).status == Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (200000, "2d")],
)
def test_ages_are_told_in_one_unit(seconds: float, told: str) -> None:
    assert age(seconds) == told
