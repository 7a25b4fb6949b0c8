"""The whole system on a real cluster, from images to an empty namespace: what `make e2e-kubernetes` runs.

It installs the chart with the values for a small cluster, lets the trainer train, and meanwhile scales the
policy, holds the trainer, kills a pod of each kind, upgrades and rolls back; then demands that the run has
ended with every sample accounted for, that no late policy pod answered with older weights, and that the
held-out reward has risen beyond its interval. `runs/e2e-kubernetes/summary.json` has each step, its seconds
and its verdict.

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
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from kube import Kube, Object, StepFailedError, wait_for
from release import CHART, FULL, READY_SECONDS, RELEASE, ROOT, SERVICES, VALUES, Release
from stage import build_images, namespace
from story import Story
from verdicts import late_pods_that_answered_old

BASELINE = "before"
BUNDLE = "bundle-of-the-failure.tar.gz"
RUN_STEPS = 150
"""Least steps of the run."""


class EndToEnd:
    """One run; its steps are methods, in the order in which they are called."""

    def __init__(self, kube: Kube, story: Story, tag: str) -> None:
        self.kube, self.story = kube, story
        self.release = Release(kube, tag)

    def install(self) -> None:
        """One install brings everything up, the trainer too."""
        with self.story.step("helm install, everything Ready") as found:
            self.kube.helm(
                "install", RELEASE, CHART, *VALUES, *self.release.changes, "--wait", "--timeout=10m"
            )
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
            self.release.start_tool(
                "probe", ["python", "/e2e/probe.py", "watch", f"{FULL}-weights.{self.kube.namespace}.svc"]
            )
            self.release.train_on()

    def scale(self) -> None:
        """1 -> 3 -> 2 amid training."""
        for count in (3, 2):
            with self.story.step(f"policy scaled to {count}") as found:
                self.kube.pilothouse("scale", "policy", str(count))
                wait_for(
                    f"{count} policy pods Ready",
                    lambda count=count: (
                        len(self.kube.ready("policy")) == len(self.kube.pods("policy")) == count
                    ),
                    seconds=READY_SECONDS,
                )
                found["steps"] = self.release.train_on()

    def operate(self) -> None:
        """What an operator has for it: see, hold, let go on, and collect what support needs."""
        with self.story.step("pilothouse cluster status, pause, resume, bundle") as found:
            self.kube.pilothouse("pause")
            wait_for(
                "the trainer to be held", lambda: self.seen()["trainer"]["state"] == "paused", seconds=60
            )
            held, seen = self.release.steps(), self.seen()
            policies = [pod for pod in seen["pods"] if pod["component"] == "policy" and pod["ready"]]
            weights = {pod["weights"] for pod in policies}
            found |= {"trainer": seen["trainer"], "weights": sorted(weights)}
            if seen["trainer"]["step"] != held or weights != {seen["trainer"]["weights"]}:
                raise StepFailedError("the release is not shown as it is")
            if self.release.steps() != held:
                raise StepFailedError("a trainer that is held has gone on")
            self.kube.pilothouse("resume")
            found["steps"] = self.release.train_on()
            with tempfile.TemporaryDirectory() as folder:
                self.kube.pilothouse("bundle", "--out", f"{folder}/bundle.tar.gz")
                with tarfile.open(f"{folder}/bundle.tar.gz") as bundle:
                    found["files"] = len(bundle.getnames())

    def seen(self) -> Object:
        """Returns what `pilothouse cluster status` shows."""
        found: Object = json.loads(self.kube.pilothouse("status", "--json"))
        return found

    def kill(self) -> None:
        """A pod of each kind, without a warning, amid training."""
        for component in (*SERVICES, "trainer"):
            with self.story.step(f"a {component} pod killed") as found:
                victim, before = self.kube.ready(component)[0], self.kube.lives(component)
                self.kube.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
                began = time.monotonic()
                wait_for(
                    f"another {component} pod Ready",
                    partial(self.release.replaced, component, before),
                    seconds=READY_SECONDS,
                )
                found["seconds_to_ready"] = round(time.monotonic() - began, 1)
                found["steps"] = self.release.train_on()

    def upgrade(self) -> None:
        """Every service's pods are replaced; then the release goes back, and they are replaced again."""
        trainer = self.kube.pods("trainer")[-1]["metadata"]["name"]
        with self.story.step("helm upgrade during training") as found:
            before = {component: self.kube.lives(component) for component in SERVICES}
            changed = [f"--set={component}.podAnnotations.e2e=upgraded" for component in SERVICES]
            self.release.helm_upgrade("--set=policy.replicas=2", *changed)
            for component in SERVICES:
                if not before[component].isdisjoint(self.kube.lives(component)):
                    raise StepFailedError(f"the upgrade left an old {component} pod")
            found["steps"] = self.release.train_on()
        with self.story.step("helm rollback during training") as found:
            self.kube.helm("rollback", RELEASE, "1", "--wait", "--timeout=10m")
            found["steps"] = self.release.train_on()
            if self.kube.pods("trainer")[-1]["metadata"]["name"] != trainer:
                raise StepFailedError("upgrade and rollback have replaced the trainer needlessly")

    def finish(self) -> None:
        """An upgrade of the trainer itself says how many steps are enough; another Job goes on to the end."""
        with self.story.step("helm upgrade of the trainer, which then finishes") as found:
            enough = max(RUN_STEPS, self.release.steps() + 20)
            self.release.helm_upgrade(f"--set=config.ppo.total_steps={enough}")
            wait_for("the trainer Job to complete", self.release.job_is_complete, seconds=1200)
            found["total_steps"] = enough

    def account(self) -> None:
        """Every sample was used once, or dropped for a reason."""
        with self.story.step("sample accounting is exact") as found:
            words = ["python", "/e2e/probe.py", "ledger", "/var/lib/pilothouse/runs/e2e/ledger.jsonl"]
            report = json.loads(self.release.run_tool("ledger", words))
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
            after = json.loads(self.release.run_tool("after", words))
            off = ["trainer.enabled=false", "feedback.enabled=false", "policy.mountRuns=false"]
            off += ["config.policy.catch_up.run=none", *self.release.images]
            sets = [f"--set={value}" for value in off]
            self.kube.helm("install", BASELINE, CHART, *VALUES, *sets, "--wait", "--timeout=5m")
            before = json.loads(self.release.run_tool("before", words, release=BASELINE))
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
            left = self.release.left()
            found["left"] = left
            if [name for name in left if not name.startswith("persistentvolumeclaim/")]:
                raise StepFailedError("objects were left behind")


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
            try:
                run_all(EndToEnd(kube, story, options.tag))
            except BaseException:  # soon nothing will be left to look at
                with suppress(StepFailedError):
                    kube.pilothouse("bundle", "--release", RELEASE, "--out", str(options.out.parent / BUNDLE))
                raise
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
    run.operate()
    run.kill()
    run.upgrade()
    run.finish()
    run.account()
    run.judge_probe()
    run.learn()
    run.uninstall()


if __name__ == "__main__":
    sys.exit(main())
