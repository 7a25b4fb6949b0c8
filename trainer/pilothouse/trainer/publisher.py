"""Brings the trainer's weights into the running policy, all replicas of it, and proves that they arrived."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor

from pilothouse.client import WeightsState
from pilothouse.errors import FencedError, ReadBackError
from pilothouse.models.logprobs import response_logprobs
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.push_all import NewWeights, WeightReplicas
from pilothouse.trainer.run_config import PublishConfig
from pilothouse.trainer.spread import PolicyReplicas
from pilothouse.trainer.trainer_lease import TrainerLease

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Push:
    """One finished push."""

    version: tuple[int, int]
    """(epoch, version) now serving."""
    seconds: float
    """From the first byte to the proof."""
    read_back_gap_nats: float
    """Largest difference between a replica's and the trainer's log-probs of a probe token."""


class Publisher:
    """Pushes the learner's policy as a transaction: frozen tensors by reference, the others dense.

    Call from the thread that trains: the weights must not move meanwhile.
    """

    def __init__(
        self,
        learner: PpoLearner,
        *,
        weights: WeightReplicas,
        policy: PolicyReplicas,
        patience: Patience,
        lease: TrainerLease,
        probes: Sequence[Tokens],
        run: str,
        config: PublishConfig,
    ) -> None:
        self._learner = learner
        self._weights = weights
        self._policy = policy
        self._patience = patience
        self._lease = lease
        self._probes = [probe[: config.max_probe_tokens] for probe in probes if len(probe) > 1]
        self._run = run
        self._config = config
        self._published: tuple[int, int] | None = None
        self._digests: Mapping[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def published(self) -> tuple[int, int] | None:
        """(epoch, version) that the policy has confirmed last; None before the first push."""
        with self._lock:
            return self._published

    def publish(self) -> Push:
        """Pushes the weights as they are now under the learner's (epoch, version).

        Raises:
            FencedError: A newer trainer has taken over the policy.
            ReadBackError: The policy does not compute what the trainer computes.
            UnavailableError: The policy did not come back in time.
        """
        started = time.perf_counter()
        self._patience.call("lease", self._lease.confirm)
        gap = self._read_back_gap(self._patience.call("weights", self._push))
        with self._lock:
            self._published = self._learner.version
        return Push(self._learner.version, time.perf_counter() - started, gap)

    def ensure(self) -> None:
        """Publishes again unless every replica serves what was published last, as after a restart of one.

        Raises:
            FencedError: A newer trainer has taken over the policy.
            UnavailableError: The policy cannot be reached now.
        """
        if not self.serving():
            _log.warning("a policy does not serve the published weights; pushing them again")
            with self._lock:
                self._published = None  # what UNCHANGED would refer to is gone
            self.publish()

    def serving(self) -> bool:
        """Returns whether every replica that can be reached serves what was published last.

        Raises:
            FencedError: A newer trainer has taken over the policy.
            UnavailableError: The policy cannot be reached now.
        """
        return all((state.epoch, state.version) == self.published for state in self._states())

    def serving_epoch(self) -> bool:
        """Returns whether a replica serves any version that this trainer published.

        Raises:
            FencedError: A newer trainer has taken over the policy.
            UnavailableError: The policy cannot be reached now.
        """
        return any(state.epoch == self._learner.epoch for state in self._states())

    def _states(self) -> Sequence[WeightsState]:
        """Returns what the replicas serve that can be reached."""
        states = self._weights.states()
        newest = max(max(state.epoch, state.fence) for state in states)
        if newest > self._learner.epoch:
            raise FencedError(
                f"the policy serves epoch {newest}, this trainer has epoch {self._learner.epoch}: "
                "another trainer has taken over; stop one of the two"
            )
        return states

    def _push(self) -> list[Floats]:
        """Pushes and returns the log-probs of the probes at every replica that had other weights."""
        parent = self.published
        epoch, version = self._learner.version
        tensors = self._learner.policy.parameters
        frozen = {name for name, tensor in tensors.items() if parent and not tensor.requires_grad}
        results = self._weights.push(
            NewWeights(
                tensors={name: as_array(tensor) for name, tensor in tensors.items()},
                run=self._run,
                epoch=epoch,
                version=version,
                parent=parent,
                unchanged={name: digest for name, digest in self._digests.items() if name in frozen},
                probes=self._probes,
                kv_policy=None if self._config.kv_policy == "default" else self._config.kv_policy,
            )
        )
        if not results:  # an earlier attempt was committed and only its answer was lost
            return [np.concatenate(self._policy.logprobs(self._probes, [1] * len(self._probes)).rows)]
        self._digests = results[0].digests
        return [result.probe_logprobs for result in results]

    def _read_back_gap(self, found: Sequence[Floats]) -> float:
        if not self._probes:
            return 0.0
        mine = probe_logprobs(self._learner, self._probes)
        gaps = [
            float(np.abs(mine - theirs).max()) if len(mine) == len(theirs) else float("inf")
            for theirs in found
        ]
        gap = max(gaps)
        if not gap <= self._config.read_back_tolerance_nats:
            raise ReadBackError(
                f"after the push the policy's log-probs differ from the trainer's by {gap:.3g} nats, the "
                f"limit is {self._config.read_back_tolerance_nats:g}; check that both use the same model and "
                "dtype, or raise ppo.publish.read_back_tolerance_nats"
            )
        return gap


def probe_logprobs(learner: PpoLearner, probes: Sequence[Tokens]) -> Floats:
    """Returns log-probs, float32 flat nats, of tokens 1.. of every probe under the learner's policy."""
    with torch.no_grad():
        logprobs = response_logprobs(learner.policy.model.weights, probes, [1] * len(probes))
    result: Floats = logprobs.cpu().numpy()
    return result


def as_array(tensor: Tensor) -> npt.NDArray[np.generic]:
    """Returns a tensor's values as an array over the same memory, where it is on the CPU."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: npt.NDArray[np.generic] = tensor.numpy()
    return array
