"""Being the only trainer of a cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from pilothouse.errors import ConfigError
from pilothouse.trainer.run_config import LeaseConfig


class TrainerLease(Protocol):
    """What makes sure that no other trainer runs."""

    @property
    def epoch(self) -> int:
        """Highest fencing epoch that any trainer has taken."""

    def note_epoch(self, epoch: int) -> None:
        """Makes an epoch known to trainers that come later."""

    def confirm(self) -> None:
        """Makes sure that this is still the only one.

        Raises:
            FencedError: Another trainer has taken over.
            UnavailableError: That cannot be told now.
        """

    def wait_ready(self, timeout_seconds: float) -> None:
        """Returns when it can be told; raises as ``confirm``."""


class NoLease:
    """Outside a cluster: the lock of the run directory and the policy's fence are enough."""

    epoch = 0

    def note_epoch(self, epoch: int) -> None:
        """Nobody is told."""

    def confirm(self) -> None:
        """Nothing is asked."""

    def wait_ready(self, timeout_seconds: float) -> None:
        """Nothing is waited for."""


@contextmanager
def held_lease(config: LeaseConfig | None, given_up: Callable[[], bool]) -> Iterator[TrainerLease | None]:
    """Waits for the Lease and holds it while inside.

    Args:
        config: Which one; None for none.
        given_up: Whether the run has been asked to stop meanwhile.

    Yields:
        The lease; None where the wait was given up.

    Raises:
        ConfigError: No cluster is known.
        PermissionDeniedError: The service account may not have it.
    """
    if config is None:
        yield NoLease()
        return
    with needs_kubernetes("ppo.lease"):
        from pilothouse.cluster.connect import connect
        from pilothouse.cluster.lease import Lease
    api = connect(namespace=config.namespace)
    with Lease(config.name, duration_seconds=config.duration_seconds, api=api) as lease:
        yield lease if lease.acquire(given_up) else None


@contextmanager
def needs_kubernetes(setting: str) -> Iterator[None]:
    """Explains a missing Kubernetes client.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{setting} needs the Kubernetes client ({error.name} is missing): "
            "pip install 'pilothouse[cluster]'"
        ) from None
