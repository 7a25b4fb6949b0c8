"""From scores to advantages. R response tokens of B responses, end to end."""

import torch
from torch import Tensor

from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.ragged import last_tokens


def token_rewards(kl: Tensor, scores: Tensor, lengths: Tensor, beta: float) -> Tensor:
    """Returns [R]: -beta * KL for every response token, plus the score once, at the last token.

    The last token is the EOS or stop token itself, where there is one: a response includes it.

    Args:
        kl: [R] nats per token.
        scores: [B].
        lengths: int64 [B], at least 1.
        beta: Price of one nat.
    """
    return (-beta * kl).index_add(0, last_tokens(lengths), scores.to(kl.dtype))


def generalised_advantages(
    rewards: Tensor, values: Tensor, lengths: Tensor, *, gamma: float, lam: float | Tensor
) -> Tensor:
    """Returns [R] advantages (GAE, Schulman et al. 2016, equation 16).

    delta_t = r_t + gamma V_{t+1} - V_t; A_t = delta_t + gamma lambda A_{t+1}; V after the last token is 0.
    Walks all rows backwards at once from their own ends, so no row sees another.

    Args:
        rewards: [R].
        values: [R], V_t read before token t was sampled.
        lengths: int64 [B], at least 1.
        gamma: Discount.
        lam: Lambda, one for all or [B] for each row.
    """
    advantages = torch.empty_like(rewards)
    lams = torch.as_tensor(lam, dtype=rewards.dtype, device=rewards.device).expand(len(lengths))
    ends = last_tokens(lengths)
    following = rewards.new_zeros(len(lengths))
    next_value = rewards.new_zeros(len(lengths))
    for back in range(int(lengths.max())):
        rows = lengths > back
        here = ends[rows] - back
        delta = rewards[here] + gamma * next_value[rows] - values[here]
        advantages[here] = delta + gamma * lams[rows] * following[rows]
        following[rows], next_value[rows] = advantages[here], values[here]
    return advantages


def length_adaptive_lambda(lengths: Tensor, alpha: float) -> Tensor:
    """Returns float64 [B]: 1 - 1 / (alpha * length), at least 0 (VAPO, equation 7).

    Args:
        lengths: int64 [B].
        alpha: 0.05 in the paper: a response of 400 tokens has lambda 0.95.
    """
    return (1 - 1 / (alpha * lengths.double())).clamp_min(0)


def advantages_and_returns(
    rewards: Tensor, values: Tensor, lengths: Tensor, config: PpoConfig
) -> tuple[Tensor, Tensor]:
    """Returns advantages [R] before whitening and returns [R] = those advantages + values.

    With ``length_adaptive_alpha`` the policy has a lambda for each length and the critic learns with lambda 1
    (VC-PPO). Arguments as in `generalised_advantages`.
    """
    gamma, alpha = config.gamma, config.length_adaptive_alpha
    if alpha is None:
        advantages = generalised_advantages(rewards, values, lengths, gamma=gamma, lam=config.gae_lambda)
        return advantages, advantages + values
    adaptive = length_adaptive_lambda(lengths, alpha)
    advantages = generalised_advantages(rewards, values, lengths, gamma=gamma, lam=adaptive)
    return advantages, generalised_advantages(rewards, values, lengths, gamma=gamma, lam=1.0) + values
