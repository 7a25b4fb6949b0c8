"""templates/reward.yaml."""

import pytest

from .rendering import RefusedError, Renderer


def test_without_reward_models_to_stage_their_port_is_closed(render: Renderer) -> None:
    rendered = render()
    assert {port["name"] for port in rendered.container("reward")["ports"]} == {"grpc", "http"}
    assert [port["name"] for port in rendered.one("Service", "reward")["spec"]["ports"]] == ["grpc"]


def test_a_loop_shares_a_volume_of_reward_models_with_it(render: Renderer) -> None:
    rendered = render("loop")
    assert {port["name"] for port in rendered.container("reward")["ports"]} == {"grpc", "models", "http"}
    assert [port["name"] for port in rendered.one("Service", "reward")["spec"]["ports"]] == ["grpc", "models"]
    config = rendered.config()
    folder = config["reward"]["models_folder"]
    assert folder == config["loop"]["models_folder"] == "/var/lib/pilothouse/reward-models"
    for component in ("reward", "trainer"):
        mounts = {mount["name"]: mount for mount in rendered.container(component)["volumeMounts"]}
        assert mounts["reward-models"] == {"name": "reward-models", "mountPath": folder}


def test_two_processes_never_write_one_folder_of_reward_models(render: Renderer) -> None:
    assert render("loop").workload("reward")["spec"]["strategy"] == {"type": "Recreate"}
    with pytest.raises(RefusedError, match=r"reward: each process needs a reward.models_folder of its own"):
        render("loop", {"reward": {"replicas": 2}})
    with pytest.raises(
        RefusedError, match=r"config.reward.models_folder is runs/reward-models: .* reward-models;"
    ):
        render({"config": {"reward": {"models_folder": "runs/reward-models"}}})


def test_a_rule_gets_the_tokenizer_of_the_policy(render: Renderer) -> None:
    assert render().config()["reward"]["tokenizer"] == "tiny"
    assert render("fetched-models").config()["reward"]["tokenizer"] == "models/smollm2"
    assert "tokenizer" not in render("models-volume").config()["reward"]


def test_replicas_are_found_one_by_one(render: Renderer) -> None:
    rendered = render("services-only")
    assert rendered.workload("reward")["spec"]["replicas"] == 2
    assert rendered.one("Service", "reward")["spec"]["clusterIP"] == "None"


def test_switched_off_it_is_not_there(render: Renderer) -> None:
    assert "reward" not in render("one-service").names("Deployment") | render("one-service").names("Service")
