"""Adam, its schedules and the gradient clip."""

import math

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from pilothouse.errors import CorruptCheckpointError
from pilothouse.trainer.ppo.config import OptimiserConfig
from pilothouse.trainer.ppo.optimiser import Optimiser, learning_rate
from pilothouse.trainer.ppo.ragged import OneRank


def test_checklist_39_adam_has_epsilon_1e_5_beside_the_root() -> None:
    config = OptimiserConfig(learning_rate=0.1, schedule="constant", max_gradient_norm=None)
    assert config.adam_epsilon == 1e-5
    parameter = Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimiser = Optimiser(config, {"p": parameter}, total_steps=10)
    expected, m, v = np.array([1.0, -2.0, 3.0]), np.zeros(3), np.zeros(3)
    for step, gradient in enumerate(([1e-5, 0.5, -2.0], [3e-5, -0.1, 1.0], [0.0, 0.2, 0.3]), start=1):
        parameter.grad = torch.tensor(gradient)
        optimiser.apply(step - 1, section="ppo.policy", ranks=OneRank())
        m, v = 0.9 * m + 0.1 * np.array(gradient), 0.999 * v + 0.001 * np.square(gradient)
        expected -= 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-5)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-5)


def test_checklist_39_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    linear = OptimiserConfig(learning_rate=1.0, schedule="linear", warmup_steps=10)
    assert [learning_rate(linear, step, 110) for step in (0, 4, 9, 10, 60, 110)] == [
        0.1,
        0.5,
        1.0,
        1.0,
        0.5,
        0.0,
    ]
    cosine = OptimiserConfig(learning_rate=2.0, schedule="cosine")
    assert learning_rate(cosine, 25, 100) == pytest.approx(1 + math.cos(math.pi / 4))
    assert learning_rate(cosine, 100, 100) == pytest.approx(0)
    constant = OptimiserConfig(learning_rate=2.0, schedule="constant")
    assert learning_rate(constant, 99, 100) == 2.0


def test_checklist_41_gradients_are_scaled_to_norm_one() -> None:
    def moved(scale: float) -> torch.Tensor:
        first, second = Parameter(torch.zeros(2)), Parameter(torch.zeros(1))
        config = OptimiserConfig(learning_rate=1.0, schedule="constant", adam_beta1=0.0, adam_epsilon=1e3)
        assert config.max_gradient_norm == 1.0
        optimiser = Optimiser(config, {"a": first, "b": second}, total_steps=1)
        first.grad, second.grad = torch.tensor([3.0, 0.0]) * scale, torch.tensor([4.0]) * scale
        norm = optimiser.apply(0, section="ppo.policy", ranks=OneRank())
        assert norm == pytest.approx(5.0 * scale)
        return torch.cat([first.detach(), second.detach()]) * 1e3  # so large an epsilon makes the step -grad

    torch.testing.assert_close(moved(10.0), torch.tensor([-0.6, 0.0, -0.8]), atol=1e-2, rtol=0)
    torch.testing.assert_close(moved(0.1), torch.tensor([-0.3, 0.0, -0.4]), atol=1e-2, rtol=0)


def test_gradients_are_gone_after_a_step() -> None:
    parameter = Parameter(torch.ones(2))
    optimiser = Optimiser(OptimiserConfig(), {"p": parameter}, total_steps=1)
    parameter.grad = torch.ones(2)
    optimiser.apply(0, section="ppo.policy", ranks=OneRank())
    assert parameter.grad is None


def test_a_state_with_a_missing_or_misshapen_moment_is_refused() -> None:
    parameter = Parameter(torch.ones(2))
    optimiser = Optimiser(OptimiserConfig(), {"p": parameter}, total_steps=1)
    parameter.grad = torch.ones(2)
    optimiser.apply(0, section="ppo.policy", ranks=OneRank())
    state = optimiser.state()
    with pytest.raises(CorruptCheckpointError, match="has not shape"):
        optimiser.load_state(state | {"exp_avg.p": torch.ones(3)})
    del state["exp_avg_sq.p"]
    with pytest.raises(CorruptCheckpointError, match=r"exp_avg_sq\.p"):
        optimiser.load_state(state)
