"""templates/triton.yaml."""

import pytest

from .rendering import FULL_NAME, NAMESPACE, ROOT, RefusedError, Renderer


def test_the_reward_service_stands_before_it(render: Renderer) -> None:
    rendered = render("triton")
    reward = rendered.config()["reward"]
    assert reward["backend"] == "triton"
    assert reward["model"] == "models/reward-onnx"
    assert reward["triton"]["target"] == f"{FULL_NAME}-triton.{NAMESPACE}.svc:8001"
    assert [port["port"] for port in rendered.one("Service", "triton")["spec"]["ports"]] == [8001, 8002]


def test_its_repository_is_that_of_deploy_triton(render: Renderer) -> None:
    data = render("triton").one("ConfigMap", "triton")["data"]
    for file, name in (("config.pbtxt", "config.pbtxt"), ("1/model.py", "model.py")):
        source = (ROOT / "deploy/triton/reward" / file).read_text()
        assert data[name].rstrip("\n") == source.rstrip("\n")


def test_repository_and_model_are_put_together_before_it_starts(render: Renderer) -> None:
    pod = render("triton").pod("triton")
    (repository,) = pod["initContainers"]
    assert {"name": "MODEL", "value": "models/reward-onnx"} in repository["env"]
    assert "REWARD_VERSION" in repository["args"][0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "models"}
    (server,) = pod["containers"]
    assert "--model-repository=/repository" in server["args"]
    mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
    assert mounts["repository"] == {"name": "repository", "mountPath": "/repository", "readOnly": True}


def test_it_takes_gpus_and_is_scheduled_as_said(render: Renderer) -> None:
    rendered = render("triton-gpu")
    pod = rendered.pod("triton")
    (server,) = pod["containers"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--log-verbose=1" in server["args"]
    assert rendered.workload("triton")["spec"]["replicas"] == 2
    assert pod["nodeSelector"] == {"gpu": "true"}
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["imagePullSecrets"] == [{"name": "ngc"}]
    settings = rendered.one("ConfigMap", "triton")["data"]["config.pbtxt"]
    assert "instance_group [ { kind: KIND_GPU, count: 1 } ]" in settings


def test_one_that_nobody_asks_is_refused(render: Renderer) -> None:
    for unused in ({"config": {"reward": {"backend": "rules"}}}, {"reward": {"enabled": False}}):
        with pytest.raises(RefusedError, match=r"triton.enabled is true and nobody asks it"):
            render("triton", unused)
    parts = [{"name": name, "backend": name, "rule": {"kind": "length"}} for name in ("triton", "rules")]
    parts[0]["triton"] = {"target": "run-pilothouse-triton.rl.svc:8001", "inputs": "text"}
    assert render("triton", {"config": {"reward": {"backend": "composite", "parts": parts}}}).objects


def test_it_needs_an_image_and_a_model_on_a_volume(render: Renderer) -> None:
    with pytest.raises(RefusedError) as refused:
        render({"triton": {"enabled": True}})
    assert "triton.image is empty" in str(refused.value)
    assert "triton.model is empty" in str(refused.value)
    assert "triton needs the volume of the models" in str(refused.value)
    with pytest.raises(RefusedError, match=r"triton.model is runs/rm: it must lie under models/"):
        render("triton", {"triton": {"model": "runs/rm"}})


def test_there_is_none_unasked(render: Renderer) -> None:
    assert "triton" not in render().names("Deployment") | render().names("Service")
