"""A learner's state brings another learner to the same bits."""

import json
from typing import Any

import pytest
import torch

from pilothouse.errors import CorruptCheckpointError

SETTINGS = {
    "epochs": 2, "minibatches": 2, "ema_decay": 0.9, "kl": {"adaptive": True}, "scores": {"normalise": True},
    "policy": {"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 2},
}  # fmt: skip


def steps(world: Any, learner: Any, seeds: range) -> None:
    for seed in seeds:
        learner.step(world.batch(learner, seed=seed))


def snapshot(learner: Any) -> dict[str, Any]:
    """What a checkpoint holds: copied tensors, and numbers that went through JSON text."""
    state = learner.state_dict()
    tensors = {name: tensor.clone() for name, tensor in state["tensors"].items()}
    return {"tensors": tensors, "json": json.loads(json.dumps(state["json"]))}


def test_checklist_48_a_restored_learner_goes_on_bit_for_bit(world: Any) -> None:
    unbroken = world.learner(**SETTINGS)
    steps(world, unbroken, range(2))
    saved = snapshot(unbroken)
    steps(world, unbroken, range(2, 5))

    resumed = world.learner(**SETTINGS)
    steps(world, resumed, range(7, 8))  # whatever it was before must not matter
    resumed.load_state_dict(saved)
    steps(world, resumed, range(2, 5))

    ours, theirs = resumed.state_dict(), unbroken.state_dict()
    assert ours["json"] == theirs["json"]
    assert set(ours["tensors"]) == set(theirs["tensors"])
    for name, tensor in ours["tensors"].items():
        assert torch.equal(tensor, theirs["tensors"][name]), name


def test_the_state_names_policy_value_and_both_optimisers(world: Any) -> None:
    learner = world.learner(**SETTINGS)
    steps(world, learner, range(1))
    tensors = learner.state_dict()["tensors"]
    for name in learner.policy.parameters:
        for kind in ("policy", "policy_optimiser.exp_avg", "policy_optimiser.exp_avg_sq", "average"):
            assert f"{kind}.{name}" in tensors
    for name in learner.value.parameters:
        for kind in (
            "value",
            "value_optimiser.exp_avg",
            "value_optimiser.exp_avg_sq",
            "value_optimiser.step",
        ):
            assert f"{kind}.{name}" in tensors


def test_a_restored_learner_still_refuses_another_reward_model(world: Any) -> None:
    learner = world.learner()
    steps(world, learner, range(1))
    resumed = world.learner()
    resumed.load_state_dict(snapshot(learner))
    with pytest.raises(Exception, match="scores are of reward model 'reward-b'"):
        resumed.step(world.batch(resumed, reward_version="reward-b"))


def test_a_learner_that_has_not_stepped_can_be_saved_and_restored(world: Any) -> None:
    fresh, stepped = world.learner(), world.learner()
    saved = snapshot(fresh)
    steps(world, stepped, range(1))
    stepped.load_state_dict(saved)
    steps(world, stepped, range(1))
    steps(world, fresh, range(1))
    for name, tensor in fresh.policy.parameters.items():
        assert torch.equal(tensor, stepped.policy.parameters[name])


@pytest.mark.parametrize("part", ["policy.model.norm.weight", "value.score.weight"])
def test_a_state_without_a_tensor_is_refused_by_name(world: Any, part: str) -> None:
    learner = world.learner()
    saved = snapshot(learner)
    del saved["tensors"][part]
    with pytest.raises(CorruptCheckpointError, match=f"{part} is missing"):
        learner.load_state_dict(saved)


def test_a_state_without_a_number_is_refused_by_name(world: Any) -> None:
    learner = world.learner()
    saved = snapshot(learner)
    del saved["json"]["beta"]
    with pytest.raises(CorruptCheckpointError, match="'beta'"):
        learner.load_state_dict(saved)
