"""One PPO step on the tiny model."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.models.logprobs import response_logprobs
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.losses import policy_terms, value_terms
from pilothouse.trainer.ppo.metrics import explained_variance
from pilothouse.trainer.ppo.ragged import OneRank
from pilothouse.trainer.ppo.step import PpoLearner

TRL_NAMES = (
    "objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward",
    "objective/scores", "policy/approxkl_avg", "policy/clipfrac_avg", "policy/entropy_avg", "loss/policy_avg",
    "loss/value_avg", "val/clipfrac_avg", "val/ratio", "val/ratio_var", "val/num_eos_tokens", "lr", "eps",
    "episode",
)  # fmt: skip


def copy(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in parameters.items()}


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((tensor - second[name]).detach().abs().max()) for name, tensor in first.items())


def test_a_step_reports_every_name_of_trl_and_counts_on(world: Any) -> None:
    learner = world.learner()
    metrics = learner.step(world.batch(learner))
    assert set(TRL_NAMES) <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    assert learner.version == (0, 1)
    assert metrics["objective/rlhf_reward"] == pytest.approx(
        metrics["objective/non_score_reward"] + metrics["objective/shaped_scores"], abs=1e-5
    )
    assert learner.step(world.batch(learner))["episode"] == 16


def test_the_policy_learns_what_is_rewarded(world: Any) -> None:
    learner = world.learner(kl={"placement": "off"}, value={"learning_rate": 0})
    learner.value.model.score_weight.data.zero_()  # no critic: every token of a row is rewarded alike
    batch = world.batch(learner, scores=np.array([1, -1] * 4, np.float32))
    signs = np.repeat(batch.scores, batch.response_lengths)
    for _ in range(5):
        learner.step(world.batch(learner, scores=batch.scores))
    gain = world.batch(learner).behaviour_logprobs - batch.behaviour_logprobs
    assert gain[signs > 0].mean() > 0.05 > -0.05 > gain[signs < 0].mean()


def test_checklist_04_the_trainer_divides_its_logits_by_the_rollouts_temperature(world: Any) -> None:
    learner = world.learner(temperature=0.7, proximal="recompute")
    metrics = learner.step(world.batch(learner, reference_noise=0.0))
    assert abs(metrics["objective/kl"]) < 1e-4
    assert metrics["gap/logprob_max"] < 1e-4


def test_checklist_06_the_value_of_a_token_is_read_at_the_token_before_it(world: Any) -> None:
    learner = world.learner()
    batch = world.batch(learner)
    learner.value.begin(batch, range(len(batch)))
    ours = learner.value.all_values(OneRank())
    with torch.no_grad():
        every = learner.value.model.token_values(batch.sequences)
    start, expected = 0, []
    for sequence, prompt in zip(batch.sequences, batch.prompt_lengths, strict=True):
        expected.append(every[start + prompt - 1 : start + len(sequence) - 1])
        start += len(sequence)
    torch.testing.assert_close(ours, torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_checklist_21_packed_rows_equal_padded_rows_with_constant_log_probs_after_the_end(world: Any) -> None:
    """Padded: both log-probs 1.0 after the end, so ratio 1 and KL 0 there; means over the mask."""
    lengths, width = [3, 1, 5], 5
    rng = np.random.default_rng(0)
    padded = {name: np.full((3, width), 1.0) for name in ("current", "proximal")}
    advantages = np.zeros((3, width))
    mask = np.arange(width) < np.array(lengths)[:, None]
    for values in (*padded.values(), advantages):
        values[mask] = rng.normal(size=mask.sum())
    ratio = np.exp(padded["current"] - padded["proximal"])
    assert (ratio[~mask] == 1).all()
    losses = np.maximum(-advantages * ratio, -advantages * ratio.clip(0.8, 1.2))
    flat = {name: torch.from_numpy(values[mask]) for name, values in padded.items()}
    terms = policy_terms(
        flat["current"], flat["proximal"], torch.from_numpy(advantages[mask]), torch.ones(9), 0.2
    )
    assert float(terms.losses.mean()) == pytest.approx((losses * mask).sum() / mask.sum(), abs=1e-12)


def test_checklist_31_the_value_model_is_a_network_of_its_own_that_starts_as_the_reward_model(
    world: Any,
) -> None:
    policy = load_causal_lm("tiny")
    reward = ScalarModel.from_causal_lm(policy.model, seed=3)
    reward.gain, reward.bias = 2.0, -0.5
    learner = PpoLearner(policy, reward, PpoConfig())
    batch = world.batch(learner)
    learner.value.begin(batch, range(len(batch)))
    values = learner.value.all_values(OneRank())
    with torch.no_grad():
        scores = [reward.token_values([row])[-2] * 2.0 - 0.5 for row in batch.sequences]
    last = torch.from_numpy(batch.offsets[1:] - 1)
    torch.testing.assert_close(values[last], torch.stack(scores), atol=1e-5, rtol=1e-5)
    ours = {parameter.data_ptr() for parameter in learner.value.parameters.values()}
    assert ours.isdisjoint({parameter.data_ptr() for parameter in learner.policy.parameters.values()})


def test_checklist_32_only_the_critic_learns_during_its_warm_up(world: Any) -> None:
    learner = world.learner(critic_warmup_steps=2)
    policy, value = copy(learner.policy.parameters), copy(learner.value.parameters)
    for _ in range(2):
        metrics = learner.step(world.batch(learner))
        assert "loss/policy_avg" not in metrics
        assert "loss/value_avg" in metrics
    assert largest_difference(policy, learner.policy.parameters) == 0
    assert largest_difference(value, learner.value.parameters) > 0
    assert learner.version == (0, 2)
    assert "loss/policy_avg" in learner.step(world.batch(learner))
    assert largest_difference(policy, learner.policy.parameters) > 0


def test_checklist_33_the_value_loss_is_the_worse_of_plain_and_clipped_at_weight_a_tenth() -> None:
    terms = value_terms(
        torch.tensor([1.0, 0.1, 2.0]), torch.zeros(3), torch.tensor([2.0, 1.0, 0.0]), clip_range=0.2
    )
    torch.testing.assert_close(terms.losses, torch.tensor([0.5 * 1.8**2, 0.5 * 0.9**2, 0.5 * 4.0]))
    assert terms.clipped.tolist() == [True, False, False]
    assert (PpoConfig().value_clip_range, PpoConfig().value_loss_weight) == (0.2, 0.1)


def test_checklist_34_explained_variance_is_one_zero_or_below() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.full((4,), 9.0), returns) == 0
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(4)) == 0


@pytest.mark.parametrize("proximal", ["behaviour", "recompute"])
def test_checklist_35_the_first_minibatch_of_a_fresh_batch_has_ratio_one_and_no_clip(
    world: Any, proximal: str
) -> None:
    learner = world.learner(proximal=proximal, gates={"ratio_tolerance": 1e-5})
    metrics = learner.step(world.batch(learner))
    assert metrics["val/ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics["policy/clipfrac_avg"] == 0
    assert metrics["policy/approxkl_avg"] < 1e-9


def test_checklist_36_approximate_kl_is_half_the_mean_square_and_clip_shares_are_counted() -> None:
    current = torch.tensor([0.0, 0.5, -0.5, 0.1])
    terms = policy_terms(current, torch.zeros(4), torch.ones(4), torch.ones(4), 0.2)
    assert float(0.5 * terms.squared_steps.mean()) == pytest.approx((0.25 + 0.25 + 0.01) / 8)
    assert terms.clipped.tolist() == [False, True, False, False]


def test_checklist_36_later_epochs_report_how_far_the_update_went(world: Any) -> None:
    learner = world.learner(epochs=6, policy={"learning_rate": 1e-2, "schedule": "constant"})
    metrics = learner.step(world.batch(learner))
    assert metrics["policy/approxkl_avg"] > 1e-3
    assert 0 < metrics["policy/clipfrac_avg"] < 1
    assert 0 < metrics["val/clipfrac_avg"] < 1
    assert metrics["val/ratio_var"] > 0


def test_checklist_37_there_are_epochs_times_minibatches_optimiser_steps(world: Any) -> None:
    learner = world.learner(epochs=3, minibatches=2)
    learner.step(world.batch(learner))
    steps = [
        float(tensor) for name, tensor in learner.policy.optimiser.state().items() if name[:5] == "step."
    ]
    assert set(steps) == {6.0}
    assert (PpoConfig().epochs, PpoConfig().minibatches) == (4, 1)


@pytest.mark.parametrize("settings", [{}, {"epochs": 2, "minibatches": 2}, {"kl": {"placement": "loss"}}])
def test_checklist_38_one_micro_batch_equals_many(world: Any, settings: dict[str, Any]) -> None:
    whole, pieces = (
        world.learner(**settings, micro_batch_tokens=tokens, value={"learning_rate": 1e-3})
        for tokens in (4096, 8)
    )
    first, second = whole.step(world.batch(whole)), pieces.step(world.batch(pieces))
    assert largest_difference(copy(whole.policy.parameters), pieces.policy.parameters) < 1e-5
    assert largest_difference(copy(whole.value.parameters), pieces.value.parameters) < 1e-5
    for name in set(first) - {"eps"}:
        assert first[name] == pytest.approx(second[name], abs=1e-5, rel=1e-4), name


def test_checklist_42_three_log_probs_are_kept_apart(world: Any) -> None:
    """Stale samples: behaviour is the engine's, proximal the trainer's before the update, current moves."""
    learner = world.learner(max_staleness=1, importance="token", epochs=2)
    old = world.batch(learner)
    learner.step(old)
    now = world.batch(learner).behaviour_logprobs
    assert np.abs(now - old.behaviour_logprobs).max() > 0.01
    metrics = learner.step(old)
    weights = np.minimum(np.exp(now - old.behaviour_logprobs), 2.0)
    assert metrics["importance/weight"] == pytest.approx(weights.mean(), abs=1e-4)
    kl = np.add.reduceat(now - old.reference_logprobs, old.offsets[:-1])
    assert metrics["objective/kl"] == pytest.approx(kl.mean(), abs=1e-3)
    assert metrics["val/ratio"] != pytest.approx(1, abs=1e-6)


def test_checklist_43_log_probs_of_a_cut_distribution_do_not_pass(world: Any) -> None:
    """An engine that renormalises over its top-p set reports larger log-probs than the trainer computes."""
    learner = world.learner()
    batch = world.batch(learner)
    renormalised = batch.behaviour_logprobs - np.float32(np.log(0.9))
    with pytest.raises(Exception, match="engine and trainer disagree"):
        learner.step(world.batch(learner, behaviour_logprobs=renormalised))


def test_checklist_40_the_average_follows_the_policy_at_its_decay(world: Any) -> None:
    learner = world.learner(ema_decay=0.992)
    start = copy(learner.policy.parameters)
    learner.step(world.batch(learner))
    now = learner.policy.parameters
    for name, mean in learner.policy.average.items():
        torch.testing.assert_close(mean, 0.992 * start[name] + 0.008 * now[name], atol=1e-6, rtol=1e-5)


def test_checklist_40_pretraining_text_is_learned_beside_the_reward(world: Any) -> None:
    rng = np.random.default_rng(5)
    text = [rng.integers(3, 500, length).astype(np.int32) for length in (9, 4, 12)]
    learner = world.learner(pretraining_coefficient=27.8, minibatches=2, epochs=3)

    def loss() -> float:
        with torch.no_grad():
            return -float(response_logprobs(learner.policy.model.weights, text, [1] * 3).mean())

    before = loss()
    metrics = learner.step(world.batch(learner), text)
    assert loss() < before - 0.05
    assert metrics["loss/pretraining_avg"] > 0


def test_checklist_41_there_is_no_entropy_bonus(world: Any) -> None:
    learner = world.learner(whiten_advantages=False, kl={"placement": "off"}, policy={"learning_rate": 1e-2})
    before = copy(learner.policy.parameters)
    learner.value.model.score_weight.data.zero_()  # values 0, scores 0: advantages 0
    learner.step(world.batch(learner, scores=np.zeros(8, np.float32)))
    assert largest_difference(before, learner.policy.parameters) == 0
