"""The release under test, as somebody with kubectl and helm sees and changes it."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from kube import Kube, Object, StepFailedError, wait_for

ROOT = Path(__file__).resolve().parents[2]
CHART = str(ROOT / "helm/pilothouse")
VALUES = [
    f"--values={ROOT / 'deploy/config/cluster-tiny.yaml'}",
    f"--values={ROOT / 'deploy/e2e/values.yaml'}",
]
SERVICES = ("policy", "reward", "reference", "feedback")
RELEASE = "rlhf"
FULL = f"{RELEASE}-pilothouse"
STEPS_BETWEEN = 3
"""Steps that the trainer must take after each disturbance."""
READY_SECONDS = 420


class Release:
    """An installation of the chart in the namespace of ``kube``."""

    def __init__(self, kube: Kube, tag: str) -> None:
        self.kube = kube
        self.images = [f"defaults.image.tag={tag}"]
        self.changes = [f"--set={value}" for value in ("policy.replicas=1", *self.images)]
        """What installation and upgrades have set."""

    def replaced(self, component: str, before: set[str]) -> bool:
        """Returns whether as many pods are Ready as before, and one of them is new."""
        now = self.kube.lives(component)
        return len(now) >= len(before) and not now <= before

    def steps(self) -> int:
        """Returns how many steps the trainer has taken."""
        for pod in reversed(self.kube.ready("trainer")):
            return int(self.kube.metrics(pod).get("pilothouse_trainer_step", 0))
        raise StepFailedError("no trainer pod is Ready")

    def train_on(self) -> str:
        """Waits until the trainer has taken some steps more."""
        wait_for("the trainer to tell its step", lambda: self.steps() >= 0, seconds=READY_SECONDS)
        start = self.steps()
        wait_for("the trainer to go on", lambda: self.steps() >= start + STEPS_BETWEEN, seconds=READY_SECONDS)
        return f"{start} -> {self.steps()}"

    def job_is_complete(self) -> bool:
        """Returns whether the trainer's newest Job has ended well."""
        jobs = self.kube.get("jobs", "--selector=app.kubernetes.io/component=trainer")
        newest = max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
        states = {
            entry["type"] for entry in newest["status"].get("conditions", []) if entry["status"] == "True"
        }
        if "Failed" in states:
            raise SystemExit("the trainer Job has failed")
        return len(jobs) == 1 and "Complete" in states

    def helm_upgrade(self, *changes: str) -> None:
        """Upgrades by what has been set so far and some changes more."""
        self.changes += changes
        self.kube.helm("upgrade", RELEASE, CHART, *VALUES, *self.changes, "--wait", "--timeout=10m")

    def run_tool(self, name: str, words: Sequence[str], release: str = RELEASE) -> str:
        """Runs a command in a pod like the release's own and returns what it wrote."""
        self.start_tool(name, words, release)
        wait_for(
            f"pod {name} to end",
            lambda: self.kube.get("pod", name)[0]["status"]["phase"] in ("Succeeded", "Failed"),
            seconds=300,
        )
        told = self.kube.kubectl("logs", name)
        phase = self.kube.get("pod", name)[0]["status"]["phase"]
        self.kube.kubectl("delete", "pod", name, "--wait=true")
        if phase == "Failed":
            raise StepFailedError(f"pod {name} failed: {told[-1500:]}")
        return told[told.index("{") :]

    def start_tool(self, name: str, words: Sequence[str], release: str = RELEASE) -> None:
        """Starts a pod of the trainer's image, with the configuration and an operator's certificate."""
        manifest = self.kube.helm(
            "template", release, CHART, *VALUES, "--show-only=templates/tests/serving.yaml", *self.changes
        )
        pod: Object = yaml.safe_load(manifest)
        volume = {"name": "runs", "persistentVolumeClaim": {"claimName": f"{FULL}-runs", "readOnly": True}}
        pod["metadata"] = {
            "name": name,
            "labels": {
                f"pilothouse.io/{role}": "true" for role in ("operator", "generate-client", "score-client")
            },
        }
        container = pod["spec"]["containers"][0]
        container |= {"command": list(words), "args": []}
        container["volumeMounts"] += [
            {"name": "runs", "mountPath": "/var/lib/pilothouse/runs", "readOnly": True},
            {"name": "e2e", "mountPath": "/e2e"},
            {"name": "data", "mountPath": "/var/lib/pilothouse/data"},
        ]
        pod["spec"]["volumes"] += [
            volume,
            {"name": "e2e", "configMap": {"name": "e2e"}},
            {"name": "data", "configMap": {"name": "e2e-data"}},
        ]
        self.kube.apply(pod)

    def left(self) -> list[str]:
        """Returns the objects of the namespace but those Kubernetes makes in each, and this run's own."""
        kinds = self.kube.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        kinds = [kind for kind in kinds if not kind.startswith(("events", "endpoints", "endpointslices"))]
        own = {"configmap/e2e", "configmap/e2e-data", "configmap/kube-root-ca.crt", "serviceaccount/default"}
        found = self.kube.kubectl("get", ",".join(kinds), "--output=name", "--ignore-not-found").split()
        return sorted({name for name in found if name not in own and "default-token" not in name})
