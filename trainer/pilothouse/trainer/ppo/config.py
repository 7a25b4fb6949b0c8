"""Settings of the PPO step. Defaults follow "The N implementation details of RLHF with PPO"."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pilothouse.config import Config

Schedule = Literal["linear", "cosine", "constant"]
"""How the learning rate falls: to 0 along a line, to 0 along half a cosine, or not at all."""
Estimator = Literal["k1", "k2", "k3", "k3+"]
"""Estimators of KL per token, see `pilothouse.trainer.ppo.kl.kl_estimate`."""
Placement = Literal["reward", "loss", "both", "off"]
"""Where KL is charged."""
Importance = Literal["off", "token", "mask", "sequence"]
"""Correction for engine and trainer being different programs, see `losses.importance_weights`."""


class OptimiserConfig(Config):
    """AdamW, its learning-rate schedule and the gradient clip of one network."""

    learning_rate: float = Field(default=3e-6, ge=0)
    """Full learning rate, reached after the warm-up."""
    schedule: Schedule = "linear"
    """How it falls over ``total_steps``."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which it rises from 0 along a line."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of Adam's second moment."""
    adam_epsilon: float = Field(default=1e-5, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm; None for no clip."""


class KlConfig(Config):
    """The leash to the reference model."""

    placement: Placement = "reward"
    """Where it is charged. ``both`` charges it twice, so it is never a default."""
    beta: float = Field(default=0.05, ge=0)
    """Price of one nat. With ``adaptive``, the price at the start."""
    reward_estimator: Estimator = "k1"
    """Estimator in the reward."""
    loss_estimator: Estimator = "k2"
    """Estimator in the loss. ``k1`` is refused: its gradient is zero in expectation."""
    adaptive: bool = False
    """Steer beta towards ``target_nats`` (Ziegler et al. 2019, section 2.2)."""
    target_nats: float = Field(default=6.0, gt=0)
    """KL wanted, summed over a response."""
    horizon_episodes: int = Field(default=10_000, ge=1)
    """Episodes over which the controller corrects."""

    @model_validator(mode="after")
    def _loss_estimator_has_a_gradient(self) -> Self:
        if self.placement in ("loss", "both") and self.loss_estimator == "k1":
            raise ValueError("kl.loss_estimator k1 has no gradient in expectation; use k2 or k3+")
        return self


class ScoreConfig(Config):
    """What happens to the reward model's score before it becomes a reward."""

    missing_eos_score: float | None = -1.0
    """Replaces the score of a response that was cut off; None keeps the score."""
    clip: float | None = Field(default=None, gt=0)
    """Scores are cut to [-clip, clip]; the KL part never is. None for no clip."""
    normalise: bool = False
    """Subtract the running mean of all scores and divide by their running deviation."""


class GateConfig(Config):
    """Limits beyond which a run stops itself."""

    ratio_tolerance: float = Field(default=1e-3, gt=0)
    """Largest |ratio - 1| of any token in the first minibatch of an on-policy batch."""
    logprob_gap_mean_nats: float = Field(default=0.02, gt=0)
    """Largest mean |engine - trainer| log-prob over tokens of the current version."""
    logprob_gap_max_nats: float = Field(default=1.0, gt=0)
    """Largest |engine - trainer| log-prob of any token of the current version."""
    kl_budget_nats: float | None = Field(default=50.0, gt=0)
    """Largest KL to the reference per response, mean over the window, or over the steps so far while they are
    fewer; None for no budget."""
    kl_window_steps: int = Field(default=10, ge=1)
    """Steps in the window."""
    negative_kl_steps: int = Field(default=20, ge=1)
    """So many steps in a row with KL below zero mean wrong log-probs or biased sampling."""
    negative_kl_nats: float = Field(default=0.01, ge=0)
    """How far below zero counts, per response."""


class PpoConfig(Config):
    """One PPO step: from a finished rollout batch to new weights."""

    total_steps: int = Field(default=100, ge=1)
    """Steps of the run; the learning-rate schedules end here."""
    seed: int = Field(default=0, ge=0)
    """Seed of the minibatch shuffles."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the rollout. The trainer divides its logits by the same number."""
    epochs: int = Field(default=4, ge=1)
    """Passes over each batch."""
    minibatches: int = Field(default=1, ge=1)
    """Optimiser steps per pass."""
    micro_batch_tokens: int = Field(default=2048, ge=1)
    """Tokens of one forward and backward pass; bounds memory and changes the result by rounding only."""
    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount per token."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation."""
    length_adaptive_alpha: float | None = Field(default=None, gt=0)
    """With a number: lambda = 1 - 1/(alpha * length) for the policy, 1 for the critic (VAPO: 0.05)."""
    clip_range: float = Field(default=0.2, gt=0)
    """Policy ratio is clipped to 1 +- this."""
    value_clip_range: float = Field(default=0.2, gt=0)
    """Values are clipped to the old value +- this."""
    value_loss_weight: float = Field(default=0.1, gt=0)
    """Weight of the value loss."""
    whiten_rewards: bool = False
    """Scale rewards to unit variance; their mean stays."""
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and unit variance."""
    proximal: Literal["auto", "behaviour", "recompute"] = "auto"
    """Log-probs that the ratio starts from: the engine's, the trainer's own, or (auto) the engine's while all
    tokens are of the current version, which saves a forward pass. The gates compare the two either way."""
    importance: Importance = "token"
    """Correction where proximal and behaviour log-probs differ."""
    importance_cap: float = Field(default=2.0, gt=1)
    """Largest importance weight of a token."""
    max_staleness: int = Field(default=0, ge=0)
    """How many versions behind the trainer a sample may be."""
    critic_warmup_steps: int = Field(default=0, ge=0)
    """Steps at the start in which only the value model learns."""
    trainable_layers: int | None = Field(default=None, ge=1)
    """Train only this many upper layers of policy and value model; None for all."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Keep an exponential moving average of the policy's weights (InstructGPT: 0.992); None for none."""
    pretraining_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the language-model loss on pre-training text, "PPO-ptx" (InstructGPT: 27.8)."""
    policy: OptimiserConfig = OptimiserConfig()
    """Optimiser of the policy."""
    value: OptimiserConfig = OptimiserConfig()
    """Optimiser of the value model."""
    kl: KlConfig = KlConfig()
    """The leash to the reference."""
    scores: ScoreConfig = ScoreConfig()
    """Treatment of scores."""
    gates: GateConfig = GateConfig()
    """When to stop."""
