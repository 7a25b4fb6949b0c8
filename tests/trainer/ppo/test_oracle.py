"""Every quantity of the step against an independent NumPy oracle, float64, on random ragged batches."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pilothouse.trainer.ppo.advantages import (
    advantages_and_returns,
    generalised_advantages,
    length_adaptive_lambda,
    token_rewards,
)
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.kl import kl_estimate
from pilothouse.trainer.ppo.losses import importance_weights, policy_terms, value_terms
from pilothouse.trainer.ppo.ragged import whiten

Numbers = npt.NDArray[np.float64]
TOLERANCE = 1e-6


@dataclass
class Case:
    lengths: list[int]
    flat: dict[str, Numbers]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.flat[name].copy())

    @property
    def tensor_lengths(self) -> Tensor:
        return torch.tensor(self.lengths)

    def rows(self, values: Numbers) -> list[Numbers]:
        return np.split(values, np.cumsum(self.lengths)[:-1])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-3, 0.1, 1.0, 3.0]))
    tokens = sum(lengths)
    logprobs = -np.abs(rng.normal(0, 3, tokens))
    flat = {
        "logprobs": logprobs + rng.normal(0, scale, tokens),
        "proximal": logprobs,
        "behaviour": logprobs + rng.normal(0, scale, tokens),
        "reference": logprobs + rng.normal(0, scale, tokens),
        "scores": rng.normal(0, 5, len(lengths)),
        "old_values": rng.normal(0, 1, tokens),
        "values": rng.normal(0, 1, tokens),
        "returns": rng.normal(0, 2, tokens),
        "advantages": rng.normal(0, 1, tokens),
        "rewards": rng.normal(0, 1, tokens),
    }
    return Case(lengths, flat)


def close(ours: Tensor, oracle: Numbers) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), oracle, atol=TOLERANCE, rtol=TOLERANCE)


def oracle_rewards(case: Case, beta: float) -> Numbers:
    kl = case.rows(case.flat["proximal"] - case.flat["reference"])
    rewards = [-beta * row for row in kl]
    for row, score in zip(rewards, case.flat["scores"], strict=True):
        row[-1] += score
    return np.concatenate(rewards)


def oracle_gae(
    rewards: Numbers, values: Numbers, lengths: list[int], gamma: float, lams: list[float]
) -> Numbers:
    """A_t is the sum over k >= t of (gamma lambda)^(k - t) delta_k, written out: O(n^2)."""
    cuts = np.cumsum(lengths)[:-1]
    out = []
    for reward, value, lam in zip(np.split(rewards, cuts), np.split(values, cuts), lams, strict=True):
        n = len(reward)
        deltas = [reward[k] + gamma * (value[k + 1] if k + 1 < n else 0.0) - value[k] for k in range(n)]
        out += [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]
    return np.array(out)


def oracle_whiten(values: Numbers, keep_mean: bool) -> Numbers:
    white = (values - values.mean()) / np.sqrt(values.var() + 1e-8)
    return white + values.mean() if keep_mean else white


@given(cases(), st.floats(0, 2))
@settings(deadline=None)
def test_checklist_20_rewards_are_minus_beta_kl_plus_the_score_once_at_the_end(
    case: Case, beta: float
) -> None:
    kl = kl_estimate(case["proximal"], case["reference"], "k1")
    rewards = token_rewards(kl, case["scores"], case.tensor_lengths, beta)
    close(rewards, oracle_rewards(case, beta))
    for row, terms, score in zip(
        case.rows(rewards.numpy()), case.rows(kl.numpy()), case.flat["scores"], strict=True
    ):
        assert abs(row.sum() - (score - beta * terms.sum())) < TOLERANCE


@given(cases(), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_checklist_28_advantages_equal_the_quadratic_sum(case: Case, gamma: float, lam: float) -> None:
    ours = generalised_advantages(case["rewards"], case["values"], case.tensor_lengths, gamma=gamma, lam=lam)
    oracle = oracle_gae(
        case.flat["rewards"], case.flat["values"], case.lengths, gamma, [lam] * len(case.lengths)
    )
    close(ours, oracle)


@given(cases(), st.floats(0.01, 1))
@settings(deadline=None)
def test_checklist_30_a_length_adaptive_lambda_is_the_policys_while_the_critic_has_one(
    case: Case, alpha: float
) -> None:
    lams = [max(0.0, 1 - 1 / (alpha * length)) for length in case.lengths]
    close(length_adaptive_lambda(case.tensor_lengths, alpha), np.array(lams))
    advantages, returns = advantages_and_returns(
        case["rewards"], case["values"], case.tensor_lengths, PpoConfig(length_adaptive_alpha=alpha)
    )
    rewards, values, ones = case.flat["rewards"], case.flat["values"], [1.0] * len(case.lengths)
    close(advantages, oracle_gae(rewards, values, case.lengths, 1.0, lams))
    close(returns, oracle_gae(rewards, values, case.lengths, 1.0, ones) + values)


@given(cases(), st.booleans())
@settings(deadline=None)
def test_whitening_equals_the_textbook(case: Case, keep_mean: bool) -> None:
    close(
        whiten(case["rewards"], keep_mean=keep_mean),
        oracle_whiten(case.flat["rewards"], keep_mean),
    )


@given(cases(), st.sampled_from([0.1, 0.2]))
@settings(deadline=None)
def test_the_clipped_policy_loss_and_its_gradient_equal_the_formula(case: Case, clip: float) -> None:
    logprobs = case["logprobs"].requires_grad_()
    weights = case["behaviour"].exp()
    terms = policy_terms(logprobs, case["proximal"], case["advantages"], weights, clip)
    (terms.losses.sum() / len(logprobs)).backward()

    ratio = np.exp(case.flat["logprobs"] - case.flat["proximal"])
    assume(np.abs(np.abs(ratio - 1) - clip).min() > 1e-9)  # at the corner itself there is no one gradient
    advantage, weight = case.flat["advantages"], np.exp(case.flat["behaviour"])
    bounded = np.where(ratio > 1 + clip, 1 + clip, np.where(ratio < 1 - clip, 1 - clip, ratio))
    decided = (-advantage * bounded) > (-advantage * ratio)
    close(terms.losses, np.where(decided, -advantage * bounded, -advantage * ratio) * weight)
    assert logprobs.grad is not None
    close(logprobs.grad, np.where(decided, 0.0, -advantage * ratio) * weight / len(ratio))
    assert terms.clipped.tolist() == decided.tolist()


@given(cases(), st.sampled_from([0.1, 0.2, 1.0]))
@settings(deadline=None)
def test_the_clipped_value_loss_and_its_gradient_equal_the_formula(case: Case, clip: float) -> None:
    values = case["values"].requires_grad_()
    terms = value_terms(values, case["old_values"], case["returns"], clip)
    (terms.losses.sum() / len(values)).backward()

    value, old, target = case.flat["values"], case.flat["old_values"], case.flat["returns"]
    assume(np.abs(np.abs(value - old) - clip).min() > 1e-9)
    bounded = np.minimum(np.maximum(value, old - clip), old + clip)
    plain, clipped = (value - target) ** 2, (bounded - target) ** 2
    close(terms.losses, 0.5 * np.maximum(plain, clipped))
    moves = np.where(clipped > plain, (np.abs(value - old) < clip) * (bounded - target), value - target)
    assert values.grad is not None
    close(values.grad, moves / len(value))


@given(cases())
@settings(deadline=None)
def test_the_whole_chain_from_scores_to_gradients_equals_the_oracle(case: Case) -> None:
    config = PpoConfig(importance="token")
    lengths = case.tensor_lengths
    kl = kl_estimate(case["proximal"], case["reference"], "k1")
    rewards = whiten(token_rewards(kl, case["scores"], lengths, 0.05), keep_mean=True)
    advantages, returns = advantages_and_returns(rewards, case["old_values"], lengths, config)
    advantages = whiten(advantages, keep_mean=False)
    weights = importance_weights(case["proximal"], case["behaviour"], lengths, config)
    logprobs = case["logprobs"].requires_grad_()
    policy_terms(logprobs, case["proximal"], advantages, weights, 0.2).losses.mean().backward()

    o_rewards = oracle_whiten(oracle_rewards(case, 0.05), keep_mean=True)
    raw = oracle_gae(o_rewards, case.flat["old_values"], case.lengths, 1.0, [0.95] * len(case.lengths))
    o_weights = np.minimum(np.exp(case.flat["proximal"] - case.flat["behaviour"]), 2.0)
    ratio = np.exp(case.flat["logprobs"] - case.flat["proximal"])
    advantage = oracle_whiten(raw, keep_mean=False)
    assume(np.abs(np.abs(ratio - 1) - 0.2).min() > 1e-9)
    assume(np.abs(advantage).min() > 1e-9)  # else rounding picks the side of the clip
    held = np.where(advantage > 0, ratio > 1.2, ratio < 0.8)
    close(returns, raw + case.flat["old_values"])
    assert logprobs.grad is not None
    close(logprobs.grad, np.where(held, 0.0, -advantage * ratio * o_weights) / len(ratio))


@given(cases())
@settings(deadline=None)
def test_checklist_42_importance_weights_equal_their_definitions(case: Case) -> None:
    def weights(mode: str) -> Tensor:
        config = PpoConfig.model_validate({"importance": mode})
        return importance_weights(case["proximal"], case["behaviour"], case.tensor_lengths, config)

    ratios = np.exp(case.flat["proximal"] - case.flat["behaviour"])
    close(weights("token"), np.minimum(ratios, 2.0))
    close(weights("mask"), ((ratios >= 0.5) & (ratios <= 2.0)).astype(float))
    means = [float(np.exp(np.log(row).mean())) for row in case.rows(ratios)]
    assume(all(abs(mean - edge) > 1e-9 for mean in means for edge in (0.99, 1.01)))
    kept = [np.full(n, float(0.99 <= mean <= 1.01)) for n, mean in zip(case.lengths, means, strict=True)]
    close(weights("sequence"), np.concatenate(kept))
    close(weights("off"), np.ones(len(ratios)))
