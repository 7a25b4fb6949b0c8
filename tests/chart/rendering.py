"""The chart as `helm template` renders it, for other files of this folder."""

import functools
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "pilothouse"
RELEASE, NAMESPACE, FULL_NAME = "run", "rl", "run-pilothouse"
NEWEST = "1.37.0"
OLDEST = "1.20.2"
VALUES = {
    file.stem: file
    for file in (
        *sorted((Path(__file__).parent / "values").glob("*.yaml")),
        ROOT / "deploy/config/cluster-tiny.yaml",
    )
}
"""The value sets under which everything is rendered."""
INDEXED_JOBS = {"ranks", "ranks-gpus"}
"""Value sets that Kubernetes 1.20 cannot do."""
POD_KINDS = {"Deployment", "StatefulSet", "Job", "Pod"}
COMPONENTS = ("policy", "reward", "reference", "feedback", "trainer")

Manifest = dict[str, Any]
Require = Callable[[object, str], None]


class RefusedError(Exception):
    """Helm refused the values; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of one rendering, hooks included."""

    objects: tuple[Manifest, ...]

    def all(self, kind: str) -> list[Manifest]:
        """Returns the objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str = "") -> Manifest:
        """Returns the object ``run-pilothouse-NAME`` of a kind."""
        wanted = f"{FULL_NAME}-{name}" if name else FULL_NAME
        (found,) = [found for found in self.all(kind) if found["metadata"]["name"] == wanted]
        return found

    def names(self, kind: str) -> set[str]:
        """Returns the names of the objects of a kind, without the release's."""
        return {found["metadata"]["name"].removeprefix(f"{FULL_NAME}-") for found in self.all(kind)}

    def workload(self, component: str) -> Manifest:
        """Returns the Deployment, StatefulSet or Job of a component."""
        (found,) = [
            found
            for found in self.objects
            if found["kind"] in POD_KINDS - {"Pod"}
            and found["metadata"]["labels"].get("app.kubernetes.io/component") == component
        ]
        return found

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Yields name and template (metadata, spec) of everything that becomes pods."""
        for found in self.objects:
            if found["kind"] in POD_KINDS:
                pod = found if found["kind"] == "Pod" else found["spec"]["template"]
                yield f"{found['kind']}/{found['metadata']['name']}", pod

    def pod(self, component: str) -> Manifest:
        """Returns the pod spec of a component."""
        spec: Manifest = self.workload(component)["spec"]["template"]["spec"]
        return spec

    def container(self, component: str) -> Manifest:
        """Returns the one container of a component."""
        (found,) = self.pod(component)["containers"]
        return dict(found)

    def config(self) -> dict[str, Any]:
        """Returns the content of the configuration file."""
        return tomllib.loads(self.one("ConfigMap")["data"]["pilothouse.toml"])


def program(name: str, require: Require) -> str:
    """Returns where a tool is: in the folder that KUBEBUILDER_ASSETS names, else on PATH.

    Without it the test is skipped, in CI it fails.
    """
    folders = [os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ["PATH"]]
    found = shutil.which(name, path=os.pathsep.join(filter(None, folders)))
    require(found, f"{name}; set KUBEBUILDER_ASSETS to the folder that has it, or install it on PATH")
    return str(found)


class Renderer:
    """Renders the chart, each combination of values and version once."""

    def __init__(self, helm: str, folder: Path) -> None:
        self._helm = helm
        self._folder = folder

    def __call__(
        self, *layers: str | Mapping[str, Any], version: str = NEWEST, release: str = RELEASE
    ) -> Rendered:
        """Renders value sets, by their names, and values, later ones over earlier ones.

        Raises:
            RefusedError: Helm does not take the values.
        """
        keys = tuple(layer if isinstance(layer, str) else json.dumps(layer) for layer in layers)
        return self._rendered(keys, version, release)

    @functools.cache  # noqa: B019 - one renderer lives as long as the session
    def _rendered(self, layers: tuple[str, ...], version: str, release: str) -> Rendered:
        return Rendered(tuple(documents(self.text(*layers, version=version, release=release))))

    def text(self, *layers: str, version: str = NEWEST, release: str = RELEASE) -> str:
        """Renders to text; layers are names of value sets, or JSON."""
        command = [self._helm, "template", release, str(CHART), "--namespace", NAMESPACE]
        command += ["--kube-version", version]
        for index, layer in enumerate(layers):
            file = VALUES.get(layer)
            if file is None:
                file = self._folder / f"{abs(hash(layer))}-{index}.json"
                file.write_text(layer)
            command += ["--values", str(file)]
        return self.helm(*command[1:])

    def helm(self, *words: str) -> str:
        """Runs helm and returns what it writes.

        Raises:
            RefusedError: It failed.
        """
        home = {"HOME": str(self._folder), "PATH": os.environ["PATH"]}
        done = subprocess.run([self._helm, *words], capture_output=True, text=True, env=home, check=False)
        if done.returncode:
            raise RefusedError(done.stderr)
        return done.stdout


def documents(text: str) -> Iterator[Manifest]:
    """Yields the objects in a rendering, by the safe loader in C where there is one: ten times as fast."""
    yield from yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def containers(pod: Manifest) -> Iterator[Manifest]:
    """Yields every container of a pod spec, those that run first included."""
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def component_of(found: Manifest) -> str:
    """Returns the component that an object belongs to; empty for none."""
    return str(found["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))
