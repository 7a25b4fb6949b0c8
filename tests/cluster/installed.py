"""A release as the chart installs it, in the fewest objects; pods are real where a kubelet runs them."""

from typing import Any

from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    LEASE,
    POD,
    STATEFUL_SET,
    Kind,
    Object,
)

IMAGE = "localhost/pause:1"
"""Has a busybox."""
CONFIG = """
[policy]
model = "tiny"
[feedback]
database = "sqlite:////var/lib/pilothouse/feedback/feedback.db"
[ppo]
total_steps = 20
device = "cuda:0"
[ppo.server]
host = "0.0.0.0"
port = 50051
http_port = 8080
[ppo.services]
policy = "kubernetes:///demo-policy.rlhf:50051"
weights = "kubernetes:///demo-weights.rlhf:50052"
reward = "dns:///demo-reward.rlhf.svc:50051"
reference = "dns:///demo-reference.rlhf.svc:50051"
wait_seconds = 600
[ppo.rollout]
prompts = ["data/prompts.jsonl"]
[sft.server]
port = 50051
"""
PORTS = {
    "policy": {"grpc": 50051, "weights": 50052, "http": 8080},
    "reward": {"grpc": 50051, "http": 8080},
    "reference": {"grpc": 50051, "http": 8080},
    "feedback": {"grpc": 50051, "page": 8000, "http": 8080},
    "trainer": {"grpc": 50051, "http": 8080},
}


def labels(component: str = "", release: str = "demo") -> dict[str, str]:
    """Returns the labels by which pods are known."""
    found = {"app.kubernetes.io/name": "pilothouse", "app.kubernetes.io/instance": release}
    return found | ({"app.kubernetes.io/component": component} if component else {})


def metadata(name: str, component: str = "", release: str = "demo") -> dict[str, Any]:
    """Returns name and labels of an object of the chart."""
    more = {
        "app.kubernetes.io/part-of": "pilothouse",
        "app.kubernetes.io/version": "0.1.0",
        "helm.sh/chart": "pilothouse-0.1.0",
    }
    return {"name": name, "labels": labels(component, release) | more}


def pod_spec(component: str, *command: str) -> dict[str, Any]:
    """Returns a pod with one container, which sleeps unless told otherwise."""
    ports = [
        {"name": name, "containerPort": number, "protocol": "TCP"}
        for name, number in PORTS.get(component, {}).items()
    ]
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": component,
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": list(command or ("busybox", "sleep", "3600")),
                "ports": ports,
            }
        ],
    }


def template(component: str, *command: str) -> dict[str, Any]:
    """Returns the template of a workload's pods."""
    return {"metadata": {"labels": labels(component)}, "spec": pod_spec(component, *command)}


def install(api: Api, *, release: str = "demo", config: str = CONFIG) -> None:
    """Makes the configuration of a release."""
    api.create(
        CONFIG_MAP, {"metadata": metadata(release, release=release), "data": {"pilothouse.toml": config}}
    )


def add_workload(api: Api, component: str, replicas: int = 1, kind: Kind = DEPLOYMENT) -> Object:
    """Makes a Deployment or StatefulSet of a component."""
    spec = template(component)
    spec["spec"] = spec["spec"] | {"restartPolicy": "Always"}
    body = {
        "replicas": replicas,
        "selector": {"matchLabels": labels(component)},
        "template": spec,
    }
    if kind is STATEFUL_SET:
        body["serviceName"] = f"demo-{component}"
    return api.create(kind, {"metadata": metadata(f"demo-{component}", component), "spec": body})


def add_pod(
    api: Api, component: str, name: str, *command: str, ready: bool | None = None, job: str = ""
) -> Object:
    """Makes a pod, as a Job would where one is named; with ``ready`` given, its status too, as a kubelet."""
    known = labels(component) | ({"job-name": job} if job else {})
    made = api.create(
        POD,
        {"metadata": {"name": name, "labels": known}, "spec": pod_spec(component, *command)},
    )
    return made if ready is None else set_ready(api, name, ready=ready)


def set_ready(api: Api, name: str, *, ready: bool, reason: str = "") -> Object:
    """Writes a pod's status, where no kubelet does."""
    pod = api.get(POD, name)
    container = pod["spec"]["containers"][0]
    waiting = {"waiting": {"reason": reason, "message": f"told: {reason}"}}
    status = {
        "phase": "Pending" if reason else "Running",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": 1,
                "state": waiting if reason else {"running": {}},
            }
        ],
    }
    return api.patch(POD, name, {"status": status}, "status")


def add_job(api: Api, name: str = "demo-trainer-1", *command: str, parallelism: int = 1) -> Object:
    """Makes a trainer's Job."""
    spec = {"parallelism": parallelism, "backoffLimit": 2, "template": template("trainer", *command)}
    return api.create(JOB, {"metadata": metadata(name, "trainer"), "spec": spec})


def set_job(api: Api, name: str, *, active: int = 0, condition: str = "", message: str = "") -> Object:
    """Writes a Job's status, where no controller does."""
    told = {"type": condition, "status": "True", "reason": "Told", "message": message}
    status: Object = {"active": active, "conditions": [told] if condition else []}
    return api.patch(JOB, name, {"status": status}, "status")


def add_lease(api: Api, holder: str) -> Object:
    """Makes the trainer's lease."""
    spec = {
        "holderIdentity": holder,
        "leaseTransitions": 2,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }
    return api.create(LEASE, {"metadata": {"name": "demo-trainer"}, "spec": spec})
