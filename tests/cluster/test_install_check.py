import re
from pathlib import Path
from typing import Any

import yaml
from tests.cli.conftest import Run
from tests.cluster.conftest import Account
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installed import (
    add_job,
    add_pod,
    add_workload,
    install,
    labels,
    metadata,
    pod_spec,
    set_ready,
)

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api
from pilothouse.cluster.capacity import requested
from pilothouse.cluster.kinds import CLAIM, CONFIG_MAP, DEPLOYMENT, NAMESPACE, NODE, SECRET

ROOT = Path(__file__).parents[2]


def checked(run: Run, *options: object) -> dict[str, Any]:
    """Runs the command; returns each finding by what was looked at."""
    ran = run("cluster", "install-check", *options, "--json")
    assert ran.err == ""
    findings = {finding["check"]: finding for finding in ran.json["findings"]}
    wrong = [finding for finding in findings.values() if finding["level"] == "error"]
    assert ran.json["healthy"] == (not wrong)
    assert ran.status == (Exit.FAILED if wrong else Exit.OK)
    return findings


def test_before_an_installation_the_cluster_itself_is_looked_at(run: Run, api: Api, kubeconfig: Path) -> None:
    found = checked(run, "--kubeconfig", kubeconfig, "-n", api.namespace)
    assert found["API server"]["detail"].startswith("Kubernetes v1.")
    for check in ("namespace", "rights to install", "rights to operate", "release"):
        assert found[check]["level"] == "ok"
    for check in ("cert-manager", "Gateway API", "KEDA", "Prometheus operator", "metrics API"):
        assert "needed by" in found[check]["detail"]


def test_a_namespace_that_is_not_there_is_told_with_what_makes_it(run: Run, kubeconfig: Path) -> None:
    found = checked(run, "--kubeconfig", kubeconfig, "-n", "no-such-namespace")
    assert found["namespace"]["level"] == "error"
    assert "kubectl create namespace no-such-namespace" in found["namespace"]["mend"]


def test_the_level_of_pod_security_is_told(run: Run, api: Api, kubeconfig: Path) -> None:
    level = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    api.patch(NAMESPACE, api.namespace, {"metadata": level})
    found = checked(run, "--kubeconfig", kubeconfig, "-n", api.namespace)
    assert "pod security level restricted" in found["namespace"]["detail"]


def test_rights_that_are_missing_are_told_with_the_rules_that_give_them(run: Run, account: Account) -> None:
    mine = account({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]})
    found = checked(run, "--kubeconfig", mine)
    assert found["rights to operate"]["level"] == "error"
    assert "get pods/log" in found["rights to operate"]["detail"]
    assert "get, list, watch pods" not in found["rights to operate"]["detail"]
    assert 'resources: ["pods/log"], verbs: [get]' in found["rights to operate"]["mend"]
    assert found["nodes"]["level"] == "warning"
    assert "ask an administrator" in found["nodes"]["mend"]


def documented_rules() -> list[dict[str, Any]]:
    """Returns the rules of the Role in the documentation."""
    text = (ROOT / "docs/kubernetes-cli.md").read_text(encoding="utf-8")
    (role,) = [
        found
        for block in re.findall(r"```yaml\n(.*?)```", text, re.S)
        if (found := yaml.safe_load(block))["kind"] == "Role"
    ]
    return list(role["rules"])


def test_the_role_in_the_documentation_is_enough_to_operate(run: Run, account: Account) -> None:
    found = checked(run, "--kubeconfig", account(*documented_rules()))
    assert found["rights to operate"]["level"] == "ok", found["rights to operate"]
    assert found["rights to install"]["level"] == "warning"


def test_the_role_in_the_documentation_is_enough_for_the_commands(
    run: Run, api: Api, account: Account
) -> None:
    install(api)
    add_workload(api, "policy")
    add_job(api, "j")
    mine = account(*documented_rules())
    for words in ("stop", "resume", "scale policy 0", "status"):
        ran = run("cluster", *words.split(), "--kubeconfig", mine)
        assert ran.status == Exit.OK, ran.err


def test_the_right_to_the_one_secret_that_is_needed_is_enough(run: Run, api: Api, account: Account) -> None:
    install(api)
    mine = [
        rule | {"resources": [each for each in rule["resources"] if each != "secrets"]}
        for rule in documented_rules()
    ]
    one = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    one["resourceNames"] = ["demo-client-tls"]
    found = checked(run, "--kubeconfig", account(*mine, one))
    assert found["rights to operate"]["level"] == "ok", found["rights to operate"]
    found = checked(run, "--kubeconfig", account(*mine))
    assert found["rights to operate"]["detail"] == "missing: get secrets"


def test_the_rights_to_install_are_those_to_make_a_lease_too(run: Run, account: Account) -> None:
    found = checked(run, "--kubeconfig", account())
    assert "leases" in found["rights to install"]["detail"]
    assert found["release"]["level"] == "warning"
    assert "may not list configmaps" in found["release"]["detail"]


def test_nodes_without_room_or_gpus_for_a_pod_are_told(
    run: Run, own_api: Api, own_control_plane: ControlPlane
) -> None:
    install(own_api)
    spec = pod_spec("policy")
    amounts = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    spec["containers"][0]["resources"] = {"requests": amounts, "limits": {"nvidia.com/gpu": "1"}}
    spec["restartPolicy"] = "Always"
    own_api.create(
        DEPLOYMENT,
        {
            "metadata": metadata("demo-policy", "policy"),
            "spec": {
                "selector": {"matchLabels": labels("policy")},
                "template": {"metadata": {"labels": labels("policy")}, "spec": spec},
            },
        },
    )
    where = ("--kubeconfig", own_control_plane.kubeconfig, "-n", own_api.namespace)
    assert checked(run, *where)["nodes"]["level"] == "error"
    own_api.create(NODE, {"metadata": {"name": "n1"}})
    try:
        ready = [{"type": "Ready", "status": "True"}]
        have = {"cpu": "4", "memory": "8Gi"}
        own_api.patch(NODE, "n1", {"status": {"conditions": ready, "allocatable": have}}, "status")
        own_api.patch(NODE, "n1", {"spec": {"taints": None, "unschedulable": None}})
        found = checked(run, *where)
        assert found["nodes"]["detail"] == "1 Ready, 4 cores, 8 GiB"
        assert found["room for demo-policy"]["level"] == "error"
        assert "no node has so much nvidia.com/gpu" in found["room for demo-policy"]["detail"]
        gpu = {"status": {"allocatable": {"nvidia.com/gpu": "2"}}}
        own_api.patch(NODE, "n1", gpu, "status")
        found = checked(run, *where)
        assert found["room for demo-policy"]["level"] == "ok"
        assert found["GPUs"]["detail"] == "2 nvidia.com/gpu"
    finally:
        own_api.delete(NODE, "n1")


def test_after_an_installation_its_claims_images_and_secrets_are_looked_at(
    run: Run, api: Api, kubeconfig: Path
) -> None:
    install(api)
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    api.create(CLAIM, {"metadata": metadata("demo-runs"), "spec": claim | {"storageClassName": "none-such"}})
    spec = pod_spec("policy") | {"restartPolicy": "Always", "imagePullSecrets": [{"name": "login"}]}
    template = {"metadata": {"labels": labels("policy")}, "spec": spec}
    workload = {"selector": {"matchLabels": labels("policy")}, "template": template, "replicas": 0}
    api.create(DEPLOYMENT, {"metadata": metadata("demo-policy", "policy"), "spec": workload})
    where = ("--kubeconfig", kubeconfig, "-n", api.namespace)
    found = checked(run, *where)
    assert found["release"]["detail"].startswith("demo, Pilothouse 0.1.0")
    assert found["claim demo-runs"]["level"] == "warning"
    assert found["pull secret login"]["level"] == "error"
    api.create(SECRET, {"metadata": {"name": "login"}})
    assert checked(run, *where)["pull secret login"]["level"] == "ok"


def test_an_image_that_cannot_be_pulled_is_told(
    run: Run, own_api: Api, own_control_plane: ControlPlane
) -> None:
    install(own_api)
    add_pod(own_api, "policy", "p")
    set_ready(own_api, "p", ready=False, reason="ErrImagePull")
    found = checked(run, "--kubeconfig", own_control_plane.kubeconfig, "-n", own_api.namespace)
    assert found["image of p"]["detail"] == "told: ErrImagePull"


def test_a_release_of_another_version_is_told(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    version = {"app.kubernetes.io/version": "9.9.9"}
    api.patch(CONFIG_MAP, "demo", {"metadata": {"labels": version}})
    found = checked(run, "--kubeconfig", kubeconfig, "-n", api.namespace)
    assert found["release"]["level"] == "warning"
    assert "pip install pilothouse==9.9.9" in found["release"]["mend"]


def test_a_pod_asks_for_its_containers_together_or_for_an_init_container() -> None:
    def container(**amounts: str) -> dict[str, Any]:
        return {"resources": {"requests": amounts}}

    spec = {
        "containers": [container(cpu="500m", memory="1Gi"), container(cpu="1")],
        "initContainers": [container(cpu="1", memory="3Gi")],
    }
    found = requested({"spec": spec})
    assert (float(found["cpu"]), float(found["memory"])) == (1.5, 3 * 2**30)


def test_the_table_is_for_people(run: Run, api: Api, kubeconfig: Path) -> None:
    ran = run("cluster", "install-check", "--kubeconfig", kubeconfig, "-n", api.namespace)
    assert re.search(r"^API server +ok +Kubernetes v1\.", ran.out, re.M), ran.out
    assert f"none in namespace {api.namespace} yet" in ran.out
