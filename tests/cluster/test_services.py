"""Calls of the operator to Pilothouse's own processes in pods, through the API server."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.cli.conftest import Run
from tests.cluster.conftest import until
from tests.cluster.installed import install, labels, metadata
from tests.conftest import require

from pilothouse.cli.exits import Exit
from pilothouse.client.trainer import TrainerClient
from pilothouse.client.weights import WeightsClient
from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import calling
from pilothouse.cluster.kinds import JOB, NODE, POD, Object, at
from pilothouse.cluster.looking import look
from pilothouse.cluster.objects import is_running
from pilothouse.cluster.picture import Picture
from pilothouse.cluster.release import Release, find_release, pods_of
from pilothouse.errors import PilothouseError

# Processes that import torch beside others need minutes on two cores.
pytestmark = [pytest.mark.kubelet, pytest.mark.usefixtures("nodes"), pytest.mark.timeout(900)]

Arrays = dict[str, npt.NDArray[np.generic]]


@pytest.fixture
def here(api: Api, kubeconfig: Path) -> list[object]:
    """The options that name the cluster and the namespace, in which a release is."""
    install(api)
    return ["--kubeconfig", kubeconfig, "--namespace", api.namespace]


def image(api: Api, component: str) -> str:
    """Returns the name of a component's image on the nodes."""
    images = [each for node in api.list(NODE).items for each in at(node, "status", "images") or ()]
    found = [name for each in images for name in each["names"] or () if f"pilothouse/{component}:" in name]
    require(found, f"an image pilothouse/{component} on the nodes; deploy/docker/build makes it")
    return str(found[0])


def pod_of(api: Api, component: str, command: list[str], **environment: str) -> Object:
    """Returns metadata and spec of a pod whose servers listen on its own loopback only."""
    ports = {"grpc": 50051, "weights": 50052, "http": 8080}
    container = {
        "name": component,
        "image": image(api, component),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": name, "containerPort": number} for name, number in ports.items()],
        "workingDir": "/tmp",
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
    }
    return {"metadata": {"labels": labels(component)}, "spec": spec}


def add_policy(api: Api, name: str) -> None:
    command = ["python", "-m", "pilothouse.policy"]
    settings = {
        "PILOTHOUSE_POLICY__MODEL": "tiny",
        "PILOTHOUSE_POLICY__THREADS": "1",
        "PILOTHOUSE_POLICY__MAX_SEQUENCE_TOKENS": "64",
        "PILOTHOUSE_POLICY__SERVER__PORT": "50051",
        "PILOTHOUSE_POLICY__SERVER__HTTP_PORT": "8080",
        "PILOTHOUSE_POLICY__WEIGHTS_SERVER__PORT": "50052",
    }
    pod = pod_of(api, "policy", command, **settings)
    pod["metadata"]["name"] = name
    api.create(POD, pod)


def add_trainer(api: Api) -> None:
    """A Job that fine-tunes the tiny model for ever."""
    record = json.dumps({"prompt": "a", "completion": " b"})
    settings = {
        "model": "tiny",
        "data": '["data.jsonl"]',
        "output": "runs/sft",
        "epochs": "100000",
        "batch_size": "2",
        "max_sequence_tokens": "16",
        "threads": "1",
        "tensorboard": "false",
        "checkpoint_every_steps": "1000",
        "server.port": "50051",
        "server.http_port": "8080",
    }
    options = " ".join(f"--set 'sft.{key}={value}'" for key, value in settings.items())
    script = f"yes '{record}' | head -8 >data.jsonl; exec pilothouse train sft {options}"
    template = pod_of(api, "trainer", ["sh", "-c", script])
    api.create(JOB, {"metadata": metadata("demo-trainer-1", "trainer"), "spec": {"template": template}})


def tiny_weights(folder: Path) -> Arrays:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))


def push(api: Api, release: Release, arrays: Arrays, version: int) -> None:
    scaled = {name: (array * np.float32(version)).astype(array.dtype) for name, array in arrays.items()}
    for pod in pods_of(api, release, "policy"):
        with calling(WeightsClient, api, release, pod, "weights", service="weights", tls=None) as client:
            client.push(scaled, run="test", epoch=4, version=version)


def seen(api: Api, release: Release) -> Picture:
    return look(api, release, None)


def weights_of(picture: Picture) -> list[str]:
    return [pod.weights for pod in picture.pods if pod.component == "policy"]


def test_rollback_takes_the_last_push_back_on_every_policy_pod(
    run: Run, api: Api, here: list[object], tiny_folder: Path
) -> None:
    for name in ("p-1", "p-2"):
        add_policy(api, name)
    release = find_release(api)
    until(lambda: all(weights_of(seen(api, release))), "both policies serve", 600)
    for version in (1, 2):
        push(api, release, tiny_weights(tiny_folder), version)
    assert weights_of(seen(api, release)) == ["4.2", "4.2"]
    ran = run("cluster", "rollback", *here, "--json")
    assert ran.status == Exit.OK, ran.err
    assert ran.json["before"] == {"epoch": 4, "version": 2}
    now = {"epoch": 4, "version": 1}
    assert ran.json["pods"] == {"p-1": now, "p-2": now}
    assert weights_of(seen(api, release)) == ["4.1", "4.1"]
    again = run("cluster", "rollback", *here)
    assert again.status == Exit.FAILED  # there is no earlier version: told for each pod
    assert again.out.count("p-") == 2


def test_pods_with_different_weights_are_not_rolled_back(
    run: Run, api: Api, here: list[object], tiny_folder: Path
) -> None:
    add_policy(api, "p-1")
    release = find_release(api)
    until(lambda: all(weights_of(seen(api, release))), "the policy serves", 600)
    push(api, release, tiny_weights(tiny_folder), 1)
    add_policy(api, "p-2")
    until(lambda: all(weights_of(seen(api, release))), "both policies serve", 600)
    ran = run("cluster", "rollback", *here)
    assert ran.status == Exit.FAILED
    assert "the pods serve different weights" in ran.err
    assert weights_of(seen(api, release))[0] == "4.1"


def test_a_real_trainer_is_watched_held_and_stopped(run: Run, api: Api, here: list[object]) -> None:
    add_trainer(api)
    release = find_release(api)

    def step() -> int | None:
        trainer = seen(api, release).trainer
        return trainer.step if trainer and trainer.state == "running" else None

    until(step, "it takes steps", 600)
    refused = run("cluster", "rollback", *here)
    assert refused.status == Exit.FAILED
    assert "the trainer is running and would push again" in refused.err
    assert run("cluster", "pause", *here).status == Exit.OK
    until(lambda: state(api, release) == "paused", "it is held")
    shown = run("cluster", "status", *here, "--json").json["trainer"]
    assert (shown["state"], shown["job"]) == ("paused", "demo-trainer-1")
    assert shown["figures"]["loss"] > 0
    assert run("cluster", "resume", *here).status == Exit.OK
    until(lambda: state(api, release) == "running", "it goes on")
    stopped = run("cluster", "stop", *here)
    assert stopped.status == Exit.OK, stopped.err
    assert "demo-trainer-1 is stopped" in stopped.out
    until(lambda: not [pod for pod in pods_of(api, release) if is_running(pod)], "its pod ends")
    assert "is stopped" in run("cluster", "pause", *here).err


def state(api: Api, release: Release) -> str:
    pod = next(iter(pods_of(api, release, "trainer")))
    try:
        with calling(TrainerClient, api, release, pod, "grpc", service="trainer", tls=None) as client:
            return client.status().state
    except PilothouseError as error:
        return str(error)
