"""The leash: estimators, where KL is charged, and the controller of its price."""

import math
from typing import Any

import pytest
import torch

from pilothouse.config import parse
from pilothouse.errors import ConfigError
from pilothouse.trainer.ppo.config import KlConfig, PpoConfig
from pilothouse.trainer.ppo.kl import KlController, kl_estimate


def test_checklist_22_beta_is_the_papers_unless_set() -> None:
    assert KlController.start(KlConfig()).in_reward == 0.05
    assert KlController.start(KlConfig(beta=0.02)).in_reward == 0.02


def five_way() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1, -0.4], dtype=torch.float64)
    reference = torch.tensor([0.0, 0.2, 1.1, -0.9, 0.5], dtype=torch.float64)
    return logits.requires_grad_(), reference.log_softmax(0)


def test_checklist_23_k1_and_k3_are_unbiased_values_and_k3_is_never_negative() -> None:
    logits, reference = five_way()
    policy = logits.detach().log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    for estimator in ("k1", "k3", "k3+"):
        expected = (policy.exp() * kl_estimate(policy, reference, estimator)).sum()
        torch.testing.assert_close(expected, exact, atol=1e-12, rtol=0)
    assert (kl_estimate(policy, reference, "k3") >= 0).all()
    assert (policy.exp() * kl_estimate(policy, reference, "k2")).sum() != exact


def test_checklist_23_only_k2_has_the_gradient_of_kl_in_expectation() -> None:
    logits, reference = five_way()
    policy = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits)

    def expected_gradient(estimator: Any) -> torch.Tensor:
        policy = logits.log_softmax(0)
        weight = policy.detach().exp()  # the samples are fixed; only the estimate is differentiated
        (gradient,) = torch.autograd.grad((weight * kl_estimate(policy, reference, estimator)).sum(), logits)
        return gradient

    torch.testing.assert_close(expected_gradient("k2"), exact, atol=1e-12, rtol=0)
    torch.testing.assert_close(expected_gradient("k3+"), exact, atol=1e-12, rtol=0)
    torch.testing.assert_close(expected_gradient("k1"), torch.zeros_like(exact), atol=1e-12, rtol=0)
    assert not torch.allclose(expected_gradient("k3"), exact, atol=1e-3)


@pytest.mark.parametrize(
    ("placement", "in_reward", "in_loss"),
    [("reward", 1.0, 0.0), ("loss", 0.0, 1.0), ("both", 1.0, 1.0), ("off", 0.0, 0.0)],
)
def test_checklist_24_kl_is_charged_where_asked_and_metrics_say_where(
    world: Any, placement: str, in_reward: float, in_loss: float
) -> None:
    learner = world.learner(kl={"placement": placement, "beta": 0.5})
    metrics = learner.step(world.batch(learner))
    assert (metrics["kl/in_reward"], metrics["kl/in_loss"]) == (in_reward, in_loss)
    assert (metrics["objective/non_score_reward"] != 0) == bool(in_reward)
    if in_reward:
        expected = -0.5 * metrics["objective/kl"]
        assert metrics["objective/non_score_reward"] == pytest.approx(expected, rel=1e-5)


def test_checklist_24_no_default_charges_kl_twice() -> None:
    controller = KlController.start(PpoConfig().kl)
    assert controller.in_reward > 0
    assert controller.in_loss == 0


def test_kl_in_the_loss_pulls_the_policy_back_to_the_reference(world: Any) -> None:
    free, held = (
        world.learner(kl={"placement": "loss", "beta": beta}, epochs=20, gates={"kl_budget_nats": None})
        for beta in (0.0, 50.0)
    )
    reference = world.batch(free, reference_noise=0.0).reference_logprobs
    for learner in (free, held):
        learner.step(world.batch(learner, reference_noise=0.0))
    kls = []
    for learner in (free, held):
        batch = world.batch(learner, reference_logprobs=reference)
        kls.append(((batch.behaviour_logprobs - reference) ** 2).mean())
    assert kls[1] < 0.2 * kls[0]


def test_k1_is_refused_in_the_loss() -> None:
    with pytest.raises(ConfigError, match="use k2 or k3\\+"):
        parse(PpoConfig, {"kl": {"placement": "loss", "loss_estimator": "k1"}}, section="ppo")


def test_checklist_25_beta_follows_the_known_trajectory() -> None:
    controller = KlController.start(
        KlConfig(beta=0.1, adaptive=True, target_nats=6.0, horizon_episodes=10_000)
    )
    beta = 0.1
    for kl, error in ((12.0, 0.2), (6.0, 0.0), (6.6, 0.1), (0.0, -0.2), (5.4, -0.1)):
        controller.update(kl, episodes=500)
        beta *= 1 + error * 500 / 10_000
        assert math.isclose(controller.beta, beta, rel_tol=1e-12)


def test_a_fixed_beta_stays(world: Any) -> None:
    learner = world.learner()
    learner.step(world.batch(learner))
    assert learner.kl.beta == 0.05


def test_an_adaptive_beta_moves_by_the_measured_kl(world: Any) -> None:
    learner = world.learner(kl={"adaptive": True, "beta": 0.1, "horizon_episodes": 100})
    metrics = learner.step(world.batch(learner))
    assert metrics["kl/beta"] == 0.1
    error = min(max(metrics["objective/kl"] / 6 - 1, -0.2), 0.2)
    assert learner.kl.beta == pytest.approx(0.1 * (1 + error * 8 / 100), rel=1e-6)
