"""The two clipped losses and the importance weight. All per token, [R]; sums are divided by the caller."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.ragged import row_sums

MASK_RANGE = (0.5, 2.0)
"""Ratios of proximal to behaviour that a token may have under ``mask`` ("icepop")."""
SEQUENCE_RANGE = (0.99, 1.01)
"""Geometric mean of those ratios that a response may have under ``sequence``."""


@dataclass(frozen=True, slots=True)
class PolicyTerms:
    """What one pass over some tokens says of the policy."""

    losses: Tensor
    """[R], differentiable."""
    ratios: Tensor
    """[R], current over proximal probability."""
    clipped: Tensor
    """[R] bool, where the clip decided the loss."""
    squared_steps: Tensor
    """[R], (log current - log proximal)^2: half its mean is the approximate KL of the update."""


def policy_terms(
    logprobs: Tensor, proximal: Tensor, advantages: Tensor, weights: Tensor, clip_range: float
) -> PolicyTerms:
    """Returns max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c)) * w (PPO, Schulman et al. 2017, equation 7).

    Args:
        logprobs: [R] nats, current policy, differentiable.
        proximal: [R] nats, before the update.
        advantages: [R].
        weights: [R], importance weights.
        clip_range: c.
    """
    steps = logprobs - proximal
    ratios = steps.exp()
    plain = -advantages * ratios
    clipped = -advantages * ratios.clamp(1 - clip_range, 1 + clip_range)
    return PolicyTerms(
        losses=torch.maximum(plain, clipped) * weights,
        ratios=ratios.detach(),
        clipped=(clipped > plain).detach(),
        squared_steps=steps.detach().square(),
    )


@dataclass(frozen=True, slots=True)
class ValueTerms:
    """What one pass over some tokens says of the value model."""

    losses: Tensor
    """[R], differentiable."""
    clipped: Tensor
    """[R] bool, where the clip decided the loss."""


def value_terms(values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float) -> ValueTerms:
    """Returns 0.5 * max((V - R)^2, (clip(V, V_old +- c) - R)^2).

    Args:
        values: [R], current, differentiable.
        old_values: [R], before the update.
        returns: [R].
        clip_range: c.
    """
    bounded = torch.maximum(torch.minimum(values, old_values + clip_range), old_values - clip_range)
    plain, clipped = (values - returns).square(), (bounded - returns).square()
    return ValueTerms(losses=0.5 * torch.maximum(plain, clipped), clipped=(clipped > plain).detach())


def importance_weights(proximal: Tensor, behaviour: Tensor, lengths: Tensor, config: PpoConfig) -> Tensor:
    """Returns [R] weights for samples that the engine, not the trainer, drew.

    With ratio = exp(proximal - behaviour). ``token``: min(ratio, cap), truncated importance sampling
    (FlashRL). ``mask``: 1 where 0.5 <= ratio <= 2, else 0. ``sequence``: 1 for all tokens of a response
    whose geometric mean ratio lies in 0.99 to 1.01, else 0. ``off``: 1.

    Args:
        proximal: [R] nats, the trainer's before the update.
        behaviour: [R] nats, the engine's at generation.
        lengths: int64 [B].
        config: Its ``importance`` says which one, its ``importance_cap`` is the cap.
    """
    gap = proximal - behaviour
    match config.importance:
        case "token":
            return gap.exp().clamp(max=config.importance_cap)
        case "mask":
            ratios = gap.exp()
            return ((ratios >= MASK_RANGE[0]) & (ratios <= MASK_RANGE[1])).to(gap.dtype)
        case "sequence":
            means = (row_sums(gap, lengths) / lengths).exp()
            kept = (means >= SEQUENCE_RANGE[0]) & (means <= SEQUENCE_RANGE[1])
            return torch.repeat_interleave(kept, lengths).to(gap.dtype)
        case "off":
            return torch.ones_like(gap)
