"""The whole system on a real cluster, from images to an empty namespace: what `make e2e-kubernetes` runs.

It installs the chart with the values for a small cluster, lets the trainer train, and meanwhile scales the
policy, kills a pod of each kind, upgrades and rolls back; then demands that the run has ended with every
sample accounted for, that no late policy pod answered with older weights, and that the held-out reward has
risen beyond its interval. `runs/e2e-kubernetes/summary.json` has each step, its seconds and its verdict.

Environment:

    KUBECONFIG             the cluster, as for kubectl
    KUBEBUILDER_ASSETS     folder with kubectl and helm; else the path
    PILOTHOUSE_E2E_LOAD    command that brings an image archive, its last word, to the nodes
                           (``ctr --namespace k8s.io images import``, ``kind load image-archive``). Unset: the
                           images are there already.
    PILOTHOUSE_E2E_VOLUMES folder on the only node, for volumes, where the cluster has no provisioner
    PILOTHOUSE_E2E_PREFIX  goes before kubectl and helm, see `kube.Kube`
    BASE                   base of the images, see deploy/docker/build
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kube import Kube, Object, StepFailedError, run, wait_for
from story import Story
from verdicts import late_pods_that_answered_old

ROOT = Path(__file__).resolve().parents[2]
CHART = str(ROOT / "helm/pilothouse")
VALUES = [
    f"--values={ROOT / 'deploy/config/cluster-tiny.yaml'}",
    f"--values={ROOT / 'deploy/e2e/values.yaml'}",
]
SERVICES = ("policy", "reward", "reference", "feedback")
RELEASE, BASELINE = "rlhf", "before"
FULL = f"{RELEASE}-pilothouse"
STEPS_BETWEEN = 3
"""Steps that the trainer must take after each disturbance."""
READY_SECONDS = 420
RUN_STEPS = 150
"""Least steps of the run."""


class EndToEnd:
    """One run; its steps are methods, in the order in which they are called."""

    def __init__(self, kube: Kube, story: Story, tag: str) -> None:
        self.kube, self.story = kube, story
        self.images = [f"defaults.image.tag={tag}"]
        self.changes = [f"--set={value}" for value in ("policy.replicas=1", *self.images)]
        """What installation and upgrades have set."""

    def install(self) -> None:
        """One install brings everything up, the trainer too."""
        with self.story.step("helm install, everything Ready") as found:
            self.kube.helm("install", RELEASE, CHART, *VALUES, *self.changes, "--wait", "--timeout=10m")
            wait_for("the trainer to be Ready", lambda: self.kube.ready("trainer"), seconds=READY_SECONDS)
            found["pods"] = sorted(
                name for component in (*SERVICES, "trainer") for name in self.kube.ready(component)
            )

    def helm_test(self) -> None:
        """The chart's own test."""
        with self.story.step("helm test"):
            self.kube.helm("test", RELEASE, "--timeout=5m")

    def watch(self) -> None:
        """From here on every policy pod is asked, again and again."""
        with self.story.step("a probe asks every policy pod"):
            self.start_tool(
                "probe", ["python", "/e2e/probe.py", "watch", f"{FULL}-weights.{self.kube.namespace}.svc"]
            )
            self.train_on()

    def scale(self) -> None:
        """1 -> 3 -> 2 amid training."""
        for count in (3, 2):
            with self.story.step(f"policy scaled to {count}") as found:
                self.kube.kubectl("scale", f"deployment/{FULL}-policy", f"--replicas={count}")
                wait_for(
                    f"{count} policy pods Ready",
                    lambda count=count: (
                        len(self.kube.ready("policy")) == len(self.kube.pods("policy")) == count
                    ),
                    seconds=READY_SECONDS,
                )
                found["steps"] = self.train_on()

    def kill(self) -> None:
        """A pod of each kind, without a warning, amid training."""
        for component in (*SERVICES, "trainer"):
            with self.story.step(f"a {component} pod killed") as found:
                victim, before = self.kube.ready(component)[0], self.kube.lives(component)
                self.kube.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
                began = time.monotonic()
                wait_for(
                    f"another {component} pod Ready",
                    partial(self.replaced, component, before),
                    seconds=READY_SECONDS,
                )
                found["seconds_to_ready"] = round(time.monotonic() - began, 1)
                found["steps"] = self.train_on()

    def upgrade(self) -> None:
        """Every service's pods are replaced; then the release goes back, and they are replaced again."""
        trainer = self.kube.pods("trainer")[-1]["metadata"]["name"]
        with self.story.step("helm upgrade during training") as found:
            before = {component: self.kube.lives(component) for component in SERVICES}
            changed = [f"--set={component}.podAnnotations.e2e=upgraded" for component in SERVICES]
            self.helm_upgrade("--set=policy.replicas=2", *changed)
            for component in SERVICES:
                if not before[component].isdisjoint(self.kube.lives(component)):
                    raise StepFailedError(f"the upgrade left an old {component} pod")
            found["steps"] = self.train_on()
        with self.story.step("helm rollback during training") as found:
            self.kube.helm("rollback", RELEASE, "1", "--wait", "--timeout=10m")
            found["steps"] = self.train_on()
            if self.kube.pods("trainer")[-1]["metadata"]["name"] != trainer:
                raise StepFailedError("upgrade and rollback have replaced the trainer needlessly")

    def finish(self) -> None:
        """An upgrade of the trainer itself says how many steps are enough; another Job goes on to the end."""
        with self.story.step("helm upgrade of the trainer, which then finishes") as found:
            enough = max(RUN_STEPS, self.steps() + 20)
            self.helm_upgrade(f"--set=config.ppo.total_steps={enough}")
            wait_for("the trainer Job to complete", self.job_is_complete, seconds=1200)
            found["total_steps"] = enough

    def account(self) -> None:
        """Every sample was used once, or dropped for a reason."""
        with self.story.step("sample accounting is exact") as found:
            words = ["python", "/e2e/probe.py", "ledger", "/var/lib/pilothouse/runs/e2e/ledger.jsonl"]
            report = json.loads(self.run_tool("ledger", words))
            found |= report
            if report["problems"] or not report["trained"] or report["in_flight"]:
                raise StepFailedError(f"the ledger does not add up: {report['problems'][:3] or report}")

    def judge_probe(self) -> None:
        """No pod that came late ever answered with weights older than those that all others answered with."""
        with self.story.step("late policy pods answer with current weights only") as found:
            lines = self.kube.kubectl("logs", "probe").splitlines()
            answers = [json.loads(line) for line in lines if line.startswith("{")]
            late, stale = late_pods_that_answered_old(answers)
            found |= {"answers": len(answers), "late_pods": len(late), "stale": stale[:5]}
            if stale or len(late) < 4:
                raise StepFailedError(f"{len(stale)} stale answers of {len(late)} late pods")
            self.kube.kubectl("delete", "pod", "probe", "--wait=true", "--grace-period=1")

    def learn(self) -> None:
        """The reward on held-out prompts, against that of a release that never trained."""
        with self.story.step("held-out reward has risen beyond its interval") as found:
            words = ["pilothouse", "eval", "--config", "/etc/pilothouse/pilothouse.toml", "--json"]
            after = json.loads(self.run_tool("after", words))
            off = ["trainer.enabled=false", "feedback.enabled=false", "policy.mountRuns=false"]
            off += ["config.policy.catch_up.run=none", *self.images]
            sets = [f"--set={value}" for value in off]
            self.kube.helm("install", BASELINE, CHART, *VALUES, *sets, "--wait", "--timeout=5m")
            before = json.loads(self.run_tool("before", words, release=BASELINE))
            self.kube.helm("uninstall", BASELINE, "--wait")
            found |= {
                "before": before["reward"],
                "after": after["reward"],
                "version": after["policy_version"],
            }
            if not after["reward"]["low"] > before["reward"]["high"]:
                raise StepFailedError("the intervals overlap")

    def uninstall(self) -> None:
        """Nothing stays but the volumes."""
        with self.story.step("helm uninstall leaves the volumes only") as found:
            self.kube.helm("uninstall", RELEASE, "--wait")
            wait_for("pods to end", lambda: not self.kube.get("pods"), seconds=180)
            left = self.left()
            found["left"] = left
            if [name for name in left if not name.startswith("persistentvolumeclaim/")]:
                raise StepFailedError("objects were left behind")

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
        pod: Object = load_yaml(manifest)
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


def load_yaml(text: str) -> Any:
    """Returns the one document of a rendered template."""
    import yaml

    return yaml.safe_load(text)


def build_images(story: Story, tag: str) -> None:
    """Builds the five images and brings them to the nodes."""
    with story.step("images built"):
        run([str(ROOT / "deploy/docker/build"), "--tag", tag, "all"])
    load = os.environ.get("PILOTHOUSE_E2E_LOAD")
    if not load:
        return
    with story.step("images loaded"), tempfile.TemporaryDirectory() as folder:
        for service in (*SERVICES, "trainer"):
            image, archive = f"localhost/pilothouse/{service}:{tag}", f"{folder}/{service}.tar"
            run(["buildah", "push", "--quiet", image, f"docker-archive:{archive}:{image}"])
            run([*shlex.split(load), archive])
            Path(archive).unlink()


@contextmanager
def namespace(kube: Kube, story: Story) -> Iterator[None]:
    """A namespace with restricted pod security, and volumes where nothing makes them; both go in the end."""
    volumes = []
    if folder := os.environ.get("PILOTHOUSE_E2E_VOLUMES"):
        for name in ("runs", "feedback"):
            path = Path(folder) / kube.namespace / name
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o777)  # a hostPath knows nothing of fsGroup
            volumes.append(volume(kube.namespace, name, path))
    with story.step("namespace and volumes made"):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        kube.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace, "labels": labels}},
            *volumes,
        )
        kube.apply(
            config_map("e2e", ROOT / "deploy/e2e/probe.py"),
            config_map("e2e-data", ROOT / "helm/pilothouse/files/held-out.jsonl"),
        )
    try:
        yield
    finally:
        kube.kubectl("delete", "namespace", kube.namespace, "--wait=true", "--timeout=180s")
        for made in volumes:
            kube.kubectl("delete", "persistentvolume", made["metadata"]["name"], "--wait=false")


def volume(namespace: str, name: str, path: Path) -> Object:
    """Returns a volume in a folder of the only node, bound to the release's claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(path)},
            "claimRef": {"namespace": namespace, "name": f"{FULL}-{name}"},
        },
    }


def config_map(name: str, file: Path) -> Object:
    """Returns one file as a ConfigMap."""
    content = {file.name: file.read_text(encoding="utf-8")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": content}


def main() -> int:
    """Runs it all; returns 0 only if every step has passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--namespace", default="pilothouse-e2e")
    parser.add_argument("--tag", default="dev", help="of the images")
    parser.add_argument("--no-build", action="store_true", help="the images are on the nodes already")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/e2e-kubernetes/summary.json")
    options = parser.parse_args()
    story = Story(options.out)
    try:
        kube = Kube(options.namespace)
        story.facts["server"] = json.loads(kube.kubectl("version", "--output=json"))["serverVersion"][
            "gitVersion"
        ]
        if not options.no_build:
            build_images(story, options.tag)
        with namespace(kube, story):
            run_all(EndToEnd(kube, story, options.tag))
    except StepFailedError as error:
        sys.stderr.write(f"e2e: {error}\n")
    sys.stdout.write(f"{'passed' if story.passed else 'FAILED'}; {options.out}\n")
    return 0 if story.steps and story.passed else 1


def run_all(run: EndToEnd) -> None:
    """The story."""
    run.install()
    run.helm_test()
    run.watch()
    run.scale()
    run.kill()
    run.upgrade()
    run.finish()
    run.account()
    run.judge_probe()
    run.learn()
    run.uninstall()


if __name__ == "__main__":
    sys.exit(main())
