"""What a run needs before anything is installed: images on the nodes, a namespace, volumes."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kube import Kube, Object, run
from release import FULL, ROOT, SERVICES
from story import Story


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
            shutil.rmtree(path, ignore_errors=True)  # of an earlier run, whose training would go on
            path.mkdir(parents=True)
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
