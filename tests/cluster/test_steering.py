import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cluster.conftest import Account
from tests.cluster.installed import (
    add_job,
    add_lease,
    add_pod,
    add_workload,
    install,
    labels,
    metadata,
    pod_spec,
    set_job,
    set_ready,
    template,
)

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api, Listing
from pilothouse.cluster.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    JOB,
    LEASE,
    POD,
    STATEFUL_SET,
    Kind,
    Object,
    at,
    name_of,
)
from pilothouse.cluster.release import find_release
from pilothouse.cluster.steering import COUNT_BEFORE, Training, running_trainer, start, training_of
from pilothouse.errors import PreconditionError


@pytest.fixture
def here(api: Api, kubeconfig: Path) -> list[object]:
    """The options that name the cluster and the namespace, in which a release is."""
    install(api)
    return ["--kubeconfig", kubeconfig, "--namespace", api.namespace]


@contextmanager
def changed_all_the_time(api: Api, kind: Kind, name: str) -> Iterator[None]:
    """Somebody else annotates an object again and again while inside."""
    done = threading.Event()

    def annotate() -> None:
        number = 0
        while not done.wait(0.03):  # time enough for one who asks again
            number += 1
            api.patch(kind, name, {"metadata": {"annotations": {"busy": str(number)}}})

    thread = threading.Thread(target=annotate)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_stopped_job_gets_no_pods_until_it_is_resumed(run: Run, api: Api, here: list[object]) -> None:
    add_job(api, "j", parallelism=2)
    set_job(api, "j", active=1)
    ran = run("cluster", "stop", *here)
    assert ran.status == Exit.OK, ran.err
    assert "j is stopped" in ran.out
    found = api.get(JOB, "j")
    assert found["spec"]["parallelism"] == 0
    assert found["metadata"]["annotations"][COUNT_BEFORE] == "2"
    assert run("cluster", "stop", *here).status == Exit.OK  # stopping twice is no error
    ran = run("cluster", "resume", *here)
    assert ran.status == Exit.OK, ran.err
    assert "goes on from its checkpoint" in ran.out
    assert api.get(JOB, "j")["spec"]["parallelism"] == 2


def test_ranks_that_kubectl_has_stopped_come_back_all_together(
    run: Run, api: Api, here: list[object]
) -> None:
    spec = {"parallelism": 0, "completions": 3, "completionMode": "Indexed", "template": template("trainer")}
    api.create(JOB, {"metadata": metadata("j", "trainer"), "spec": spec})
    assert run("cluster", "resume", *here).status == Exit.OK
    assert api.get(JOB, "j")["spec"]["parallelism"] == 3


class Suspending(Api):
    """Knows ``suspend``, which API servers do from 1.21 on; keeps what a Job is to become."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.configuration, api.namespace)
        self.spec: Object = {}

    def list(self, kind: Kind, selector: str = "", *, fields: str = "") -> Listing:
        found = super().list(kind, selector, fields=fields)
        for each in found.items if kind is JOB else ():
            each["spec"]["suspend"] = True
        return found

    def get(self, kind: Kind, name: str, part: str = "") -> Object:
        found = super().get(kind, name, part)
        return found | {"spec": found["spec"] | {"suspend": True}}

    def replace(self, kind: Kind, name: str, body: Object, part: str = "") -> Object:
        self.spec = body["spec"]
        return body


def test_a_suspended_job_counts_as_stopped_and_is_started_with_all_its_pods(
    api: Api, here: list[object]
) -> None:
    add_job(api, "j", parallelism=2)
    suspending = Suspending(api)
    training = training_of(suspending, find_release(api))
    with pytest.raises(PreconditionError, match="j is stopped; `pilothouse cluster resume`"):
        running_trainer(training)
    start(suspending, training)
    assert (suspending.spec["parallelism"], suspending.spec["suspend"]) == (2, False)


def test_a_stopped_loop_has_no_pod_until_it_is_resumed(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "trainer")
    assert run("cluster", "stop", *here).status == Exit.OK
    assert api.get(DEPLOYMENT, "demo-trainer")["spec"]["replicas"] == 0
    assert run("cluster", "resume", *here).status == Exit.OK
    assert api.get(DEPLOYMENT, "demo-trainer")["spec"]["replicas"] == 1


def test_a_stop_meets_a_controllers_changes_with_the_fresh_object(
    run: Run, api: Api, here: list[object]
) -> None:
    """Somebody changes the Job all the time while it is stopped."""
    add_job(api, "j")
    with changed_all_the_time(api, JOB, "j"):
        for _ in range(3):
            assert run("cluster", "stop", *here).status == Exit.OK
            assert run("cluster", "resume", *here).status == Exit.OK
    assert api.get(JOB, "j")["spec"]["parallelism"] == 1


def test_what_cannot_be_paused_is_told_with_what_to_do(run: Run, api: Api, here: list[object]) -> None:
    ran = run("cluster", "pause", *here)
    assert ran.status == Exit.FAILED
    assert "has no trainer; give it a job with `pilothouse cluster submit`" in ran.err
    add_job(api, "j")
    ran = run("cluster", "pause", *here)
    assert ran.status == Exit.UNAVAILABLE
    assert "j has no pod that runs" in ran.err
    run("cluster", "stop", *here)
    assert "j is stopped; `pilothouse cluster resume` goes on" in run("cluster", "pause", *here).err
    run("cluster", "resume", *here)
    set_job(api, "j", condition="Complete")
    for command in ("pause", "resume", "stop"):
        ran = run("cluster", command, *here)
        assert ran.status == Exit.FAILED
        assert "job j is over" in ran.err
    assert "there are: j" in run("cluster", "stop", *here, "--job", "other").err


def test_an_evaluation_takes_no_calls(run: Run, api: Api, here: list[object]) -> None:
    add_job(api, "e")
    spec = pod_spec("trainer")
    del spec["containers"][0]["ports"]
    known = labels("trainer") | {"job-name": "e"}
    api.create(POD, {"metadata": {"name": "e-pod", "labels": known}, "spec": spec})
    set_ready(api, "e-pod", ready=True)
    assert "e is an evaluation, which cannot be held" in run("cluster", "pause", *here).err
    assert run("cluster", "status", *here, "--json").json["trainer"]["problem"] == ""
    assert "has no policy pods" in run("cluster", "rollback", *here).err


def meant(api: Api, job: str | None = None) -> Training:
    return training_of(api, find_release(api), job)


def test_a_job_that_waits_is_steered_by_its_own_pod_and_not_by_that_of_another(
    run: Run, api: Api, here: list[object]
) -> None:
    add_job(api, "a")
    add_job(api, "b")
    for job in ("a", "b"):
        set_job(api, job, active=1)
    add_pod(api, "trainer", "a-pod", ready=True, job="a")
    ran = run("cluster", "pause", *here, "--job", "b")
    assert ran.status == Exit.UNAVAILABLE
    assert "b has no pod that runs" in ran.err
    assert meant(api, "b").pod is None
    assert name_of(meant(api, "a").pod or {}) == "a-pod"
    add_pod(api, "trainer", "loop-pod", ready=True)
    assert name_of(meant(api, "a").pod or {}) == "a-pod"


def test_whoever_has_the_lease_is_meant_before_a_newer_job_that_waits_for_it(
    run: Run, api: Api, here: list[object]
) -> None:
    for job in ("a", "b"):
        add_job(api, job)
        set_job(api, job, active=1)
        add_pod(api, "trainer", f"{job}-pod", ready=True, job=job)
    assert meant(api).name == "b"
    add_lease(api, "a-pod_0123abcd")
    assert meant(api).name == "a"
    assert run("cluster", "status", *here, "--json").json["trainer"]["job"] == "a"
    assert "a is stopped" in run("cluster", "stop", *here).out
    api.patch(LEASE, "demo-trainer", {"spec": {"holderIdentity": ""}})
    assert meant(api).name == "b"


def test_a_loop_that_has_the_lease_is_meant_before_a_job_that_waits_for_it(
    api: Api, here: list[object]
) -> None:
    add_workload(api, "trainer")
    add_pod(api, "trainer", "loop-pod", ready=True)
    add_job(api, "j")
    assert meant(api).name == "j"
    add_lease(api, "loop-pod_0123abcd")
    assert (meant(api).name, name_of(meant(api).pod or {})) == ("demo-trainer", "loop-pod")


def test_a_job_that_is_over_does_not_hide_a_loop(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "trainer")
    status = {"status": {"replicas": 1, "readyReplicas": 1}}
    api.patch(DEPLOYMENT, "demo-trainer", status, "status")
    add_job(api, "old")
    set_job(api, "old", condition="Failed")
    assert "demo-trainer has no pod that runs" in run("cluster", "pause", *here).err
    ran = run("cluster", "status", *here, "--json")
    assert ran.status == Exit.OK, ran.err
    assert (ran.json["trainer"]["job"], ran.json["trainer"]["state"]) == ("", "pending")
    assert "demo-trainer is stopped" in run("cluster", "stop", *here).out
    assert run("cluster", "status", *here, "--json").json["trainer"]["state"] == "stopped"
    assert "demo-trainer is started again" in run("cluster", "resume", *here).out


def test_a_component_is_scaled_through_its_scale(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "policy", 1)
    ran = run("cluster", "scale", "policy", 3, *here)
    assert ran.status == Exit.OK, ran.err
    assert "demo-policy: 1 -> 3" in ran.out
    assert api.get(DEPLOYMENT, "demo-policy")["spec"]["replicas"] == 3
    ran = run("cluster", "scale", "reward", 1, *here)
    assert ran.status == Exit.FAILED
    assert "no component 'reward' that can be scaled" in ran.err


def test_scaling_meets_somebody_elses_changes_with_the_fresh_object(
    run: Run, api: Api, here: list[object]
) -> None:
    add_workload(api, "policy")
    with changed_all_the_time(api, DEPLOYMENT, "demo-policy"):
        for count in (3, 2, 4):
            assert run("cluster", "scale", "policy", count, *here).status == Exit.OK
    assert api.get(DEPLOYMENT, "demo-policy")["spec"]["replicas"] == 4


def test_what_an_autoscaler_owns_is_left_to_it(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "policy")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-policy"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5}
    api.create(AUTOSCALER, {"metadata": {"name": "demo-policy"}, "spec": spec})
    ran = run("cluster", "scale", "policy", 3, *here)
    assert ran.status == Exit.FAILED
    assert "autoscaler demo-policy decides how many pods policy has, 2 to 5" in ran.err
    assert api.get(DEPLOYMENT, "demo-policy")["spec"]["replicas"] == 1


def test_feedback_on_sqlite_has_one_pod_or_none(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "feedback", kind=STATEFUL_SET)
    ran = run("cluster", "scale", "feedback", 2, *here)
    assert ran.status == Exit.USAGE
    assert "feedback.postgresql.enabled=true" in ran.err
    assert run("cluster", "scale", "feedback", 0, *here).status == Exit.OK
    assert at(api.get(STATEFUL_SET, "demo-feedback"), "spec", "replicas") == 0


def test_a_trainer_is_not_scaled(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "trainer")
    ran = run("cluster", "scale", "trainer", 2, *here)
    assert ran.status == Exit.USAGE
    assert "trainer.ranks" in ran.err


def test_rights_that_scaling_lacks_are_told(run: Run, api: Api, here: list[object], account: Account) -> None:
    add_workload(api, "policy")
    mine = account(
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["list"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]},
    )
    ran = run("cluster", "scale", "policy", 2, "--kubeconfig", mine)
    assert ran.status == Exit.FAILED
    assert 'apiGroups: ["apps"], resources: ["deployments/scale"], verbs: [update]' in ran.err


def test_rollback_without_pods_that_run_changes_nothing(run: Run, api: Api, here: list[object]) -> None:
    assert "has no policy pods" in run("cluster", "rollback", *here).err
    add_pod(api, "policy", "p", ready=True)
    add_pod(api, "policy", "q")
    ran = run("cluster", "rollback", *here)
    assert ran.status == Exit.UNAVAILABLE
    assert "not running: q; nothing was changed" in ran.err
