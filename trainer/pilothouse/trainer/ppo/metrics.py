"""What a step reports, under TRL's names where TRL has one.

Means are over valid tokens or responses. ``objective/*`` describe the rollout: KL to the
reference, entropy (-log-prob), KL reward and total reward, each summed over a response; scores as the reward
model gave them and (``shaped_scores``) as they were rewarded. ``policy/*``, ``loss/*`` and ``val/*`` are
means over every minibatch of every epoch; ``val/num_eos_tokens`` counts responses that ended by themselves.
``gap/*`` compares engine and trainer in nats, ``staleness/*`` is in weight versions, ``response/*`` in
tokens, ``kl/k*`` are nats per token, ``kl/beta`` is the price of a nat. ``eps`` is episodes per second since
the step before. During the critic's warm-up there is no ``policy/*``.
"""

import torch
from torch import Tensor

from pilothouse.trainer.ppo.config import Estimator
from pilothouse.trainer.ppo.experience import Experience, Rollout
from pilothouse.trainer.ppo.kl import kl_estimate
from pilothouse.trainer.ppo.ragged import Moments, Ranks, row_sums

ESTIMATORS: tuple[Estimator, ...] = ("k1", "k2", "k3")
"""KL estimators that are reported."""


class Tally:
    """Sums and counts by name."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Takes in ``values`` of any shape; each entry weighs the same."""
        entry = torch.tensor([float(values.double().sum()), values.numel()], dtype=torch.float64)
        self._sums[name] = self._sums.get(name, torch.zeros(2, dtype=torch.float64)) + entry

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Returns the mean of each name over all ranks, which must have added the same names, in any order.

        What every rank adds alike has the mean that each of them has.
        """
        names = sorted(self._sums)
        totals = ranks.sum(torch.stack([self._sums[name] for name in names]))
        means = dict(zip(names, (totals[:, 0] / totals[:, 1]).tolist(), strict=True))
        return {name: means[name] for name in self._sums}


def note_rollout(
    tally: Tally, rollout: Rollout, experience: Experience, kl_rewards: Tensor, scores: Tensor
) -> None:
    """Takes in what the rollout was like.

    Args:
        tally: Where to.
        rollout: The batch.
        experience: The same batch, as it was learned from.
        kl_rewards: [R], the KL part of the rewards.
        scores: [B], as rewarded.
    """
    proximal, lengths = experience.proximal, rollout.lengths
    non_score = row_sums(kl_rewards, lengths)
    tally.add("objective/kl", row_sums(proximal - rollout.reference, lengths))
    tally.add("objective/entropy", row_sums(-proximal, lengths))
    tally.add("objective/non_score_reward", non_score)
    tally.add("objective/rlhf_reward", non_score + scores)
    tally.add("objective/scores", rollout.scores)
    tally.add("objective/shaped_scores", scores)
    for estimator in ESTIMATORS:
        tally.add(f"kl/{estimator}", kl_estimate(proximal, rollout.reference, estimator))
    tally.add("importance/weight", experience.weights)
    tally.add("response/length", lengths)
    tally.add("response/eos_share", rollout.finished)
    tally.add("staleness/mean", rollout.staleness)
    tally.add("staleness/stale_share", rollout.staleness > 0)


def summarise(tally: Tally, rollout: Rollout, experience: Experience, ranks: Ranks) -> dict[str, float]:
    """Returns the means over all ranks and what follows from them.

    Args:
        tally: What the step took in.
        rollout: The batch.
        experience: The same batch, as it was learned from.
        ranks: Who shares the batch.
    """
    metrics = tally.means(ranks)
    if "val/ratio" in metrics:
        metrics["val/ratio_var"] = max(metrics.pop("val/ratio_squared") - metrics["val/ratio"] ** 2, 0.0)
    metrics["val/num_eos_tokens"] = round(metrics["response/eos_share"] * len(rollout.lengths))
    metrics["val/explained_variance"] = explained_variance(experience.values, experience.returns)
    return metrics | {
        "response/length_max": float(rollout.lengths.max()),
        "staleness/max": float(rollout.staleness.max()),
    }


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Returns 1 - Var(returns - values) / Var(returns); 0 where returns do not vary.

    Args:
        values: [R], before the update.
        returns: [R].
    """
    spread = float(Moments.of(returns).variance)
    return 1 - float(Moments.of(returns - values).variance) / spread if spread > 0 else 0.0
