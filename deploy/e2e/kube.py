"""kubectl and helm, as an operator types them."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]

_LOOK_SECONDS = 1.0


class StepFailedError(Exception):
    """A step did not come to its end; the message says what was seen instead."""


def program(name: str) -> str:
    """Returns a tool from ``KUBEBUILDER_ASSETS``, else from the path.

    Raises:
        StepFailedError: It is in neither.
    """
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = shutil.which(name, path=folder) or shutil.which(name)
    if found is None:
        raise StepFailedError(
            f"{name} is missing; put it on the path, or name its folder in KUBEBUILDER_ASSETS"
        )
    return found


class Kube:
    """One namespace of the cluster of ``KUBECONFIG``.

    ``PILOTHOUSE_E2E_PREFIX`` goes before every command that talks to the cluster, for one that can only be
    reached from elsewhere (``nsenter --net=...``).
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        prefix = shlex.split(os.environ.get("PILOTHOUSE_E2E_PREFIX", ""))
        self._kubectl = [*prefix, program("kubectl"), "--namespace", namespace]
        self._helm = [*prefix, program("helm"), "--namespace", namespace]
        self._pilothouse = [*prefix, sys.executable, "-m", "pilothouse.cli.main", "cluster"]

    def helm(self, *words: str) -> str:
        """Runs helm; raises with what it wrote."""
        return run([*self._helm, *words])

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Runs kubectl; raises with what it wrote."""
        return run([*self._kubectl, *words], stdin=stdin)

    def pilothouse(self, command: str, *words: str) -> str:
        """Runs `pilothouse cluster`; raises with what it wrote."""
        return run([*self._pilothouse, command, "--namespace", self.namespace, *words])

    def apply(self, *objects: Object) -> None:
        """Creates or changes objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--filename=-", stdin=json.dumps(items))

    def get(self, kind: str, *words: str) -> list[Object]:
        """Returns the objects of a kind."""
        found = json.loads(self.kubectl("get", kind, "--output=json", *words))
        items: list[Object] = found["items"] if found["kind"].endswith("List") else [found]
        return items

    def pods(self, component: str) -> list[Object]:
        """Returns a component's pods that are not on their way out, the oldest first."""
        found = self.get("pods", f"--selector=app.kubernetes.io/component={component}")
        here = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(here, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def ready(self, component: str) -> list[str]:
        """Returns the names of a component's pods that are Ready, the oldest first."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if is_ready(pod)]

    def lives(self, component: str) -> set[str]:
        """Returns what tells a component's Ready pods from others of the same name, before or after them."""
        return {pod["metadata"]["uid"] for pod in self.pods(component) if is_ready(pod)}

    def metrics(self, pod: str) -> dict[str, float]:
        """Returns a pod's gauges and counters without labels, by way of the API server."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:8080/proxy/metrics"
        rows = (line.rpartition(" ") for line in self.kubectl("get", "--raw", path).splitlines())
        return {name: float(value) for name, _, value in rows if name.isidentifier()}


def is_ready(pod: Object) -> bool:
    """Returns whether a pod is Ready."""
    conditions = pod["status"].get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def run(command: list[str], *, stdin: str | None = None) -> str:
    """Runs a command and returns what it wrote.

    Raises:
        StepFailedError: It failed.
    """
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if ended.returncode:
        told = (ended.stderr or ended.stdout).strip()[-2000:]
        raise StepFailedError(f"{' '.join(command[:8])} ...: {told}")
    return ended.stdout


def wait_for(what: str, seen: Callable[[], object], *, seconds: float) -> None:
    """Returns as soon as ``seen()`` is true; a command that fails meanwhile has seen nothing.

    Raises:
        StepFailedError: Not in time.
    """
    deadline = time.monotonic() + seconds
    last = ""
    while time.monotonic() < deadline:
        try:
            if seen():
                return
        except StepFailedError as error:
            last = f" ({error})"
        time.sleep(_LOOK_SECONDS)
    raise StepFailedError(f"{what}: not within {seconds:g} s{last}")
