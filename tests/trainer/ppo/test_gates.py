"""Gates stop a run with the right error and a message that helps."""

from typing import Any

import numpy as np
import pytest

from pilothouse.errors import (
    KlBudgetError,
    LogprobGapError,
    NonFiniteLossError,
    RatioGateError,
    VersionMixError,
)
from pilothouse.trainer.ppo.config import GateConfig
from pilothouse.trainer.ppo.gates import KlGate, check_first_ratio, check_gap


def weights_of(learner: Any) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in learner.policy.parameters.items()}


def unmoved(learner: Any, before: dict[str, Any]) -> bool:
    return all((tensor == before[name]).all() for name, tensor in learner.policy.parameters.items())


def test_a_wrong_temperature_is_caught_before_the_policy_moves(world: Any) -> None:
    learner, other = world.learner(temperature=1.0), world.learner(temperature=0.9)
    before = weights_of(learner)
    with pytest.raises(LogprobGapError, match="same weights, temperature and dtype"):
        learner.step(world.batch(other))
    assert unmoved(learner, before)


def test_a_small_but_systematic_gap_fails_the_ratio_gate(world: Any) -> None:
    learner = world.learner()
    batch = world.batch(learner)
    shifted = world.batch(learner, behaviour_logprobs=batch.behaviour_logprobs + np.float32(0.01))
    before = weights_of(learner)
    with pytest.raises(RatioGateError, match=r"ppo\.proximal = 'recompute'"):
        learner.step(shifted)
    assert unmoved(learner, before)


def test_with_recomputed_log_probs_a_tolerable_gap_passes_and_is_reported(world: Any) -> None:
    learner = world.learner(proximal="recompute")
    batch = world.batch(learner)
    shifted = world.batch(learner, behaviour_logprobs=batch.behaviour_logprobs + np.float32(0.01))
    metrics = learner.step(shifted)
    assert metrics["gap/logprob_mean"] == pytest.approx(0.01, rel=1e-3)
    assert metrics["gap/logprob_max"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(("mean", "largest"), [(0.03, 0.1), (0.001, 1.5), (float("nan"), 0.1)])
def test_checklist_46_the_gap_gate_has_a_mean_and_a_largest_limit(mean: float, largest: float) -> None:
    check_gap(GateConfig(), 0.019, 0.9)
    with pytest.raises(LogprobGapError, match="engine and trainer disagree"):
        check_gap(GateConfig(), mean, largest)


@pytest.mark.parametrize(("distance", "share"), [(2e-3, 0.0), (1e-6, 0.1), (float("nan"), 0.0)])
def test_the_ratio_gate_demands_ratio_one_and_nothing_clipped(distance: float, share: float) -> None:
    check_first_ratio(GateConfig(), 9e-4, 0.0)
    with pytest.raises(RatioGateError, match="first minibatch"):
        check_first_ratio(GateConfig(), distance, share)


@pytest.mark.parametrize("what", ["policy", "value"])
def test_a_non_finite_loss_stops_the_step(world: Any, what: str) -> None:
    learner = world.learner()
    batch = world.batch(learner)
    network = learner.policy if what == "policy" else learner.value
    next(iter(network.parameters.values())).data.fill_(float("nan"))
    with pytest.raises((NonFiniteLossError, LogprobGapError), match=r"nan|disagree"):
        learner.step(batch)


def test_a_non_finite_gradient_leaves_the_parameters_alone(world: Any) -> None:
    learner = world.learner()
    before = weights_of(learner)
    for parameter in learner.policy.optimiser.parameters.values():
        parameter.grad = parameter.detach() * float("inf")
    with pytest.raises(NonFiniteLossError, match=r"lower ppo\.policy\.learning_rate"):
        learner.policy.optimiser.apply(0, section="ppo.policy", ranks=learner.ranks)
    assert unmoved(learner, before)


def test_the_kl_budget_is_a_mean_over_the_window() -> None:
    gate = KlGate(GateConfig(kl_budget_nats=10, kl_window_steps=3))
    for kl in (5.0, 12.0, 13.0):
        gate.check(kl)
    with pytest.raises(KlBudgetError, match=r"over the last 3 steps, the budget is 10"):
        gate.check(6.0)


def test_the_kl_budget_holds_before_the_window_is_full() -> None:
    gate = KlGate(GateConfig(kl_budget_nats=10, kl_window_steps=3))
    gate.check(5.0)
    with pytest.raises(KlBudgetError, match=r"10\.5 nats over the last 2 steps"):
        gate.check(16.0)


def test_a_run_beyond_its_kl_budget_stops_before_it_learns_more(world: Any) -> None:
    learner = world.learner(gates={"kl_budget_nats": 5, "kl_window_steps": 1})
    batch = world.batch(learner)
    far = world.batch(learner, reference_logprobs=batch.behaviour_logprobs - np.float32(3.0))
    before = weights_of(learner)
    with pytest.raises(KlBudgetError, match=r"ppo\.kl\.beta"):
        learner.step(far)
    assert unmoved(learner, before)


def test_checklist_27_kl_below_zero_for_many_steps_means_wrong_log_probs() -> None:
    gate = KlGate(GateConfig(negative_kl_steps=4))
    for kl in (-1.0, -1.0, 0.1, -1.0, -0.5, -0.2, 0.0, -1.0, -1.0, -1.0):
        gate.check(kl)
    with pytest.raises(LogprobGapError, match="below zero for 4 steps"):
        gate.check(-1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": 1}, "push its weights first"),
        ({"epochs": 7}, "the trainer is at epoch 0"),
        ({"reward_version": "reward-b"}, "scores are of reward model 'reward-b'"),
        ({"reference_digest": "reference-b"}, "log-probs are of reference 'reference-b'"),
    ],
)
def test_checklist_44_what_other_models_made_is_refused(
    world: Any, change: dict[str, Any], message: str
) -> None:
    learner = world.learner()
    learner.step(world.batch(learner))
    good = world.batch(learner)
    for name in ("versions", "epochs"):
        if name in change:
            mixed = getattr(good, name).copy()
            mixed[-1] += change[name]
            change = {name: mixed}
    before = weights_of(learner)
    with pytest.raises(VersionMixError, match=message):
        learner.step(world.batch(learner, **change))
    assert unmoved(learner, before)


def test_checklist_45_samples_older_than_the_bound_are_refused_and_younger_ones_corrected(world: Any) -> None:
    learner = world.learner(max_staleness=1, importance="token")
    old = world.batch(learner)
    learner.step(old)
    corrected = learner.step(old)
    assert corrected["staleness/mean"] == 1
    assert corrected["staleness/stale_share"] == 1
    assert corrected["importance/weight"] != 1.0
    with pytest.raises(VersionMixError, match=r"sample sample-0 is 2 versions old, the limit is 1"):
        learner.step(old)
