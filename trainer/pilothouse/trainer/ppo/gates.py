"""Checks that stop a run before it trains on nonsense. Each says what is wrong and what would mend it."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from pilothouse.errors import (
    KlBudgetError,
    LogprobGapError,
    NonFiniteLossError,
    RatioGateError,
    VersionMixError,
)
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.config import GateConfig


@dataclass(slots=True)
class Sources:
    """The models behind scores and reference log-probs: those of the first batch, ever after."""

    reward_version: str = ""
    """Version of the reward model; empty before the first batch."""
    reference_digest: str = ""
    """Digest of the reference model; empty before the first batch."""

    def check(self, batch: RolloutBatch) -> None:
        """Takes note of the first batch's sources and demands the same from then on.

        Raises:
            VersionMixError: A batch was scored by another reward model or compared with another reference.
        """
        self.reward_version = self.reward_version or batch.reward_version
        self.reference_digest = self.reference_digest or batch.reference_digest
        if batch.reward_version != self.reward_version:
            raise VersionMixError(
                f"scores are of reward model {batch.reward_version!r}, this run learns from "
                f"{self.reward_version!r}; restore that model, or start a new run from the last checkpoint's "
                "policy"
            )
        if batch.reference_digest != self.reference_digest:
            raise VersionMixError(
                f"log-probs are of reference {batch.reference_digest!r}, this run is held to "
                f"{self.reference_digest!r}; restart the reference service with that model"
            )


def check_versions(batch: RolloutBatch, *, epoch: int, version: int, max_staleness: int) -> None:
    """Demands that every token was made by this run, and not too long ago.

    Raises:
        VersionMixError: A token is of another epoch, of a version not yet pushed, or too stale.
    """
    if (batch.epochs != epoch).any():
        found = sorted(set(batch.epochs.tolist()))
        raise VersionMixError(
            f"tokens are of epochs {found}, the trainer is at epoch {epoch}; drop these samples"
        )
    if (batch.versions > version).any():
        raise VersionMixError(
            f"tokens are of version {int(batch.versions.max())}, the trainer is at {version}; push its "
            "weights first"
        )
    staleness = batch.staleness(version)
    if staleness.max() > max_staleness:
        row = int(staleness.argmax())
        raise VersionMixError(
            f"sample {batch.sample_ids[row]} is {int(staleness[row])} versions old, the limit is "
            f"{max_staleness}; drop it before the step or raise ppo.max_staleness"
        )


def check_gap(config: GateConfig, mean_nats: float, max_nats: float) -> None:
    """Demands that engine and trainer compute the same log-probs of the same version.

    Raises:
        LogprobGapError: They do not.
    """
    if not (mean_nats <= config.logprob_gap_mean_nats and max_nats <= config.logprob_gap_max_nats):
        raise LogprobGapError(
            f"engine and trainer disagree by {mean_nats:.2g} nats in the mean and {max_nats:.2g} at most, "
            f"limits are {config.logprob_gap_mean_nats:g} and {config.logprob_gap_max_nats:g}; check that "
            "both hold the same weights, temperature and dtype, or raise ppo.gates.logprob_gap_*"
        )


def check_first_ratio(config: GateConfig, max_distance: float, clip_share: float) -> None:
    """Demands ratio 1 and nothing clipped in the first minibatch of an on-policy batch.

    Args:
        config: The limits.
        max_distance: Largest |ratio - 1| of any token.
        clip_share: Share of clipped tokens.

    Raises:
        RatioGateError: The policy that would learn is not the policy that sampled.
    """
    if not (max_distance <= config.ratio_tolerance and clip_share == 0):
        raise RatioGateError(
            f"the first minibatch of an on-policy batch has ratio 1 +- {max_distance:.2g} and clip share "
            f"{clip_share:.2g}, expected 1 +- {config.ratio_tolerance:g} and 0; if the engine computes in "
            "another dtype set ppo.proximal = 'recompute', else engine and trainer hold different weights or "
            "temperatures"
        )


def check_finite_loss(value: float, section: str, step: int) -> None:
    """Demands a finite loss.

    Args:
        value: The loss.
        section: Of the configuration, whose learning rate decides it.
        step: PPO step, from 0.

    Raises:
        NonFiniteLossError: It is NaN or infinite.
    """
    if not np.isfinite(value):
        raise NonFiniteLossError(
            f"the loss of {section} is {value} at step {step}; lower {section}.learning_rate or set "
            "ppo.scores.clip, and resume from the last checkpoint"
        )


@dataclass(slots=True)
class KlGate:
    """Watches the KL to the reference over the last steps.

    The budget is for the mean over the window, and over the steps so far while they are fewer: a run that
    leaves its reference at once must not go on for a whole window.
    """

    config: GateConfig
    recent: deque[float] = field(init=False)
    """KL per response, nats, newest last."""

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=max(self.config.kl_window_steps, self.config.negative_kl_steps))

    def check(self, kl_nats: float) -> None:
        """Takes in one step's mean KL per response.

        Raises:
            KlBudgetError: The mean over the window, or the steps so far, is above the budget.
            LogprobGapError: KL, which cannot be negative, was below zero for many steps.
        """
        self.recent.append(kl_nats)
        window = list(self.recent)[-self.config.kl_window_steps :]
        mean, budget = sum(window) / len(window), self.config.kl_budget_nats
        if budget is not None and mean > budget:
            raise KlBudgetError(
                f"KL per response was {mean:.1f} nats over the last {len(window)} steps, the budget is "
                f"{budget:g}; raise ppo.kl.beta, set ppo.kl.adaptive or lower ppo.policy.learning_rate"
            )
        negative = list(self.recent)[-self.config.negative_kl_steps :]
        if len(negative) == self.config.negative_kl_steps and max(negative) < -self.config.negative_kl_nats:
            raise LogprobGapError(
                f"KL per response has been below zero for {len(negative)} steps: log-probs are wrong or "
                "sampling is biased; compare engine, trainer and reference on the same tokens "
                "(`pilothouse logprobs`)"
            )
