"""The services that an online run talks to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from pilothouse.client import PolicyClient, ReferenceClient, RewardClient, WeightsClient
from pilothouse.client.addresses import Addresses, follow
from pilothouse.client.channels import DNS, LISTED
from pilothouse.trainer.patience import Patience, Reachable
from pilothouse.trainer.push_all import WeightReplicas
from pilothouse.trainer.replicas import Replica, Replicas
from pilothouse.trainer.run_config import PpoRunConfig, ServicesConfig
from pilothouse.trainer.spread import PolicyReplicas
from pilothouse.trainer.trainer_lease import TrainerLease, needs_kubernetes

KUBERNETES = "kubernetes:///"
"""Begins an address that stands for all pods behind a Service: kubernetes:///SERVICE.NAMESPACE:PORT."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The services that a run talks to."""

    policy: PolicyReplicas
    weights: WeightReplicas
    reward: RewardClient
    reference: ReferenceClient

    @classmethod
    @contextmanager
    def connected(cls, config: PpoRunConfig) -> Iterator["Clients"]:
        """Makes the clients; connects when they are first used.

        Raises:
            ConfigError: An address is none.
        """
        services = config.services
        timeout = services.call_timeout_seconds
        with ExitStack() as stack:
            replicas = stack.enter_context(closing(_replicas(services)))
            yield cls(
                PolicyReplicas(replicas, config.rollout.calls),
                WeightReplicas(replicas, config.publish.quorum),
                stack.enter_context(RewardClient(services.reward, timeout_seconds=timeout)),
                stack.enter_context(ReferenceClient(services.reference, timeout_seconds=timeout)),
            )

    def patience(
        self, config: ServicesConfig, on_wait: Callable[[str, float], None], lease: TrainerLease
    ) -> Patience:
        """Returns who waits for them and for the lease, and tells ``on_wait``; see `Patience`."""
        services: dict[str, Reachable] = {
            "lease": lease,
            "policy": self.policy,
            "weights": self.weights,
            "reward": self.reward,
            "reference": self.reference,
        }
        return Patience(services, wait_seconds=config.wait_seconds, on_wait=on_wait)


def _replicas(services: ServicesConfig) -> Replicas:
    """Returns what follows the policy's replicas: by the weights port, in which the others are found too."""
    timeout = services.call_timeout_seconds
    addresses = _follow(services.weights)
    several = services.weights.startswith((DNS, LISTED, KUBERNETES))
    port = services.policy.rpartition(":")[2]
    name = addresses.name or None  # their certificates name the service, not the address

    def connect(address: str) -> Replica:
        policy = f"{address.rpartition(':')[0]}:{port}" if several else services.policy
        return Replica(
            address,
            WeightsClient(address, timeout_seconds=timeout, server_name=name),
            PolicyClient(policy, timeout_seconds=timeout, server_name=name),
        )

    return Replicas(addresses, connect)


def _follow(target: str) -> Addresses:
    if not target.startswith(KUBERNETES):
        return follow(target)
    with needs_kubernetes(target):
        from pilothouse.cluster.endpoints import follow_service
    return follow_service(target.removeprefix(KUBERNETES))
