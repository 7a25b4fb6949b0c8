"""The leash: estimators of KL per token and the controller of its price."""

from dataclasses import dataclass

from torch import Tensor

from pilothouse.trainer.ppo.config import Estimator, KlConfig


def kl_estimate(logprobs: Tensor, reference_logprobs: Tensor, estimator: Estimator) -> Tensor:
    """Returns [R] estimates, nats, of KL(policy, reference) from samples of the policy.

    With delta = log policy - log reference (Schulman, "Approximating KL divergence", 2020): k1 = delta;
    k2 = delta^2 / 2; k3 = exp(-delta) - 1 + delta. k1 and k3 are unbiased values and k3 is never negative. As
    something to differentiate only k2 has the right gradient: k1's is zero in expectation and k3's is biased.
    ``k3+`` has the value of k3 and the gradient of k2.

    Args:
        logprobs: [R] nats, under the policy that made the samples.
        reference_logprobs: [R] nats.
        estimator: Which one.
    """
    delta = logprobs - reference_logprobs
    match estimator:
        case "k1":
            return delta
        case "k2":
            return delta.square() / 2
        case "k3":
            return (-delta).exp() - 1 + delta
        case "k3+":
            square = delta.square() / 2
            fixed = delta.detach()
            return square + ((-fixed).exp() - 1 + fixed - square.detach())


@dataclass(slots=True)
class KlController:
    """Price of one nat: fixed, or steered towards a target KL (Ziegler et al. 2019, section 2.2)."""

    config: KlConfig
    beta: float
    """Price now."""

    @classmethod
    def start(cls, config: KlConfig) -> "KlController":
        """Returns a controller at its first price."""
        return cls(config, config.beta)

    @property
    def in_reward(self) -> float:
        """Price in the reward; 0 where KL is not charged there."""
        return self.beta if self.config.placement in ("reward", "both") else 0.0

    @property
    def in_loss(self) -> float:
        """Price in the loss; 0 where KL is not charged there."""
        return self.beta if self.config.placement in ("loss", "both") else 0.0

    def update(self, kl_nats: float, episodes: int) -> None:
        """Moves the price, if adaptive: beta *= 1 + clip(KL / target - 1, -0.2, 0.2) * episodes / horizon.

        Args:
            kl_nats: KL summed over a response, mean over the batch.
            episodes: Responses in the batch.
        """
        if self.config.adaptive:
            error = min(max(kl_nats / self.config.target_nats - 1, -0.2), 0.2)
            self.beta *= 1 + error * episodes / self.config.horizon_episodes
