"""Frozen lower layers, and the forward pass that serves twice."""

from typing import Any

import pytest
import torch

from pilothouse.errors import ConfigError
from pilothouse.models.logprobs import response_logprobs
from pilothouse.trainer.ppo.ragged import OneRank, Ranks


def test_log_probs_equal_those_of_the_shared_scoring_code(world: Any) -> None:
    learner = world.learner(micro_batch_tokens=30, temperature=0.7)
    batch = world.batch(learner)
    learner.policy.begin(batch, range(len(batch)))
    with torch.no_grad():
        expected = response_logprobs(
            learner.policy.model.weights, batch.sequences, batch.prompt_lengths.tolist(), temperature=0.7
        )
    torch.testing.assert_close(learner.policy.all_logprobs(OneRank()), expected, atol=1e-5, rtol=1e-5)


def test_frozen_layers_stay_and_the_upper_ones_learn(world: Any) -> None:
    learner = world.learner(trainable_layers=1, epochs=2)
    networks = (learner.policy, learner.value)
    before = [{name: tensor.detach().clone() for name, tensor in n.parameters.items()} for n in networks]
    learner.step(world.batch(learner))
    for network, old in zip(networks, before, strict=True):
        moved = {name for name, tensor in network.parameters.items() if not torch.equal(tensor, old[name])}
        assert moved == set(network.optimiser.parameters)
        assert not any("layers.0." in name or "embed" in name for name in moved)
        assert any("layers.1." in name for name in moved)
        assert "model.norm.weight" in moved
    assert "score.weight" in learner.value.optimiser.parameters


def test_the_cached_trunk_changes_no_gradient(world: Any) -> None:
    cached, plain = world.learner(trainable_layers=1), world.learner(trainable_layers=1)
    plain.policy._frozen = plain.value._frozen = 0  # same frozen parameters, computed anew in every pass
    for learner in (cached, plain):
        learner.step(world.batch(learner))
    for ours, theirs in ((cached.policy, plain.policy), (cached.value, plain.value)):
        for name, tensor in ours.parameters.items():
            torch.testing.assert_close(tensor, theirs.parameters[name], atol=1e-6, rtol=0)


def test_more_trainable_layers_than_there_are_is_a_config_error(world: Any) -> None:
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        world.learner(trainable_layers=3)


def test_the_value_pass_that_serves_twice_gives_the_same_update(world: Any) -> None:
    held, anew = world.learner(), world.learner()
    begin = anew.value.all_values

    def without_holding(ranks: Ranks) -> torch.Tensor:
        values = begin(ranks)
        anew.value._held = None
        return values

    anew.value.all_values = without_holding
    for learner in (held, anew):
        learner.step(world.batch(learner))
    for name, tensor in held.value.parameters.items():
        assert torch.equal(tensor, anew.value.parameters[name])
