"""The services that an online run talks to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pilothouse.client import PolicyClient, ReferenceClient, RewardClient, WeightsClient
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.run_config import ServicesConfig


@dataclass(frozen=True, slots=True)
class Clients:
    """The services that a run talks to."""

    policy: PolicyClient
    weights: WeightsClient
    reward: RewardClient
    reference: ReferenceClient

    @classmethod
    @contextmanager
    def connected(cls, config: ServicesConfig) -> Iterator["Clients"]:
        """Makes the clients; connects when they are first used."""
        timeout = config.call_timeout_seconds
        with ExitStack() as stack:
            yield cls(
                stack.enter_context(PolicyClient(config.policy, timeout_seconds=timeout)),
                stack.enter_context(WeightsClient(config.weights, timeout_seconds=timeout)),
                stack.enter_context(RewardClient(config.reward, timeout_seconds=timeout)),
                stack.enter_context(ReferenceClient(config.reference, timeout_seconds=timeout)),
            )

    def patience(self, config: ServicesConfig, on_wait: Callable[[str, float], None]) -> Patience:
        """Returns who waits for them, and tells ``on_wait``; see `Patience`."""
        services = {
            "policy": self.policy,
            "weights": self.weights,
            "reward": self.reward,
            "reference": self.reference,
        }
        return Patience(services, wait_seconds=config.wait_seconds, on_wait=on_wait)
