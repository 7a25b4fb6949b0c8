"""The PPO step. `PpoLearner.step` reads top to bottom as the algorithm.

Ziegler et al. 2019 ("Fine-tuning language models from human preferences") with the details of "The N
implementation details of RLHF with PPO". B responses, R response tokens end to end.
"""

import time
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import Network
from pilothouse.tensors import Tokens
from pilothouse.trainer.ppo.advantages import advantages_and_returns, token_rewards
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.experience import Experience, Rollout
from pilothouse.trainer.ppo.gates import (
    KlGate,
    Sources,
    check_finite_loss,
    check_first_ratio,
    check_gap,
    check_versions,
)
from pilothouse.trainer.ppo.kl import KlController, kl_estimate
from pilothouse.trainer.ppo.losses import importance_weights
from pilothouse.trainer.ppo.metrics import Tally, note_rollout, summarise
from pilothouse.trainer.ppo.minibatches import minibatches, shares
from pilothouse.trainer.ppo.optimiser import learning_rate
from pilothouse.trainer.ppo.policy import Policy
from pilothouse.trainer.ppo.ragged import OneRank, Ranks, row_sums, whiten
from pilothouse.trainer.ppo.scores import ScoreShaper
from pilothouse.trainer.ppo.state import LearnerState, load_state, save_state
from pilothouse.trainer.ppo.value import Value


class PpoLearner:
    """Owns what learns: policy, value model, their optimisers, the KL controller and the shuffles.

    A learner is at version ``(epoch, updates)``: the run sets ``epoch`` when it starts or resumes, each step
    adds one to ``updates``, and the caller pushes the policy's weights under that version before the next
    rollout.
    """

    def __init__(
        self,
        policy: Network,
        value: ScalarModel,
        config: PpoConfig,
        *,
        epoch: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.ranks = ranks or OneRank()
        self.policy = Policy(policy, config)
        self.value = Value(value, config)
        self.kl = KlController.start(config.kl)
        self.scores = ScoreShaper(config.scores)
        self.kl_gate = KlGate(config.gates)
        self.sources = Sources()
        self.shuffles = np.random.default_rng(config.seed)
        self.epoch = epoch
        """Fencing epoch of the run."""
        self.updates = 0
        """Steps done, and the version of the weights."""
        self.episodes = 0
        """Responses learned from."""
        self._last_step_at = time.perf_counter()

    @property
    def version(self) -> tuple[int, int]:
        """(epoch, version) of the weights as they are now."""
        return self.epoch, self.updates

    def step(self, batch: RolloutBatch, pretraining: Sequence[Tokens] = ()) -> dict[str, float]:
        """Learns from one batch.

        Several ranks call with the same batch. Each runs its share of it through the models; sums over ranks
        make the same numbers, gradients and steps of all.

        Args:
            batch: A finished rollout, of at least as many responses as there are ranks.
            pretraining: Text, each int32 [length >= 2], for the PPO-ptx loss; unused with coefficient 0.

        Returns:
            Metrics by name, see `pilothouse.trainer.ppo.metrics`.

        Raises:
            VersionMixError: Samples, scores or reference log-probs are of models that they should not be of.
            LogprobGapError: Engine and trainer disagree.
            RatioGateError: The first minibatch of an on-policy batch has a ratio other than 1.
            NonFiniteLossError: A loss or gradient is NaN or infinite.
            KlBudgetError: The policy has moved further from the reference than allowed.
        """
        config, ranks, tally = self.config, self.ranks, Tally()
        share = shares([len(sequence) for sequence in batch.sequences], ranks.size)[ranks.index]
        rollout = self._begin(batch, share)
        proximal = self._proximal_logprobs(rollout, tally)
        values = self.value.all_values(ranks)

        kl = kl_estimate(proximal, rollout.reference, config.kl.reward_estimator)
        scores = self.scores.shape(rollout.scores, rollout.finished)
        rewards = token_rewards(kl, scores, rollout.lengths, self.kl.in_reward)
        if config.whiten_rewards:
            rewards = whiten(rewards, keep_mean=True)

        advantages, returns = advantages_and_returns(rewards, values, rollout.lengths, config)
        if config.whiten_advantages:
            advantages = whiten(advantages, keep_mean=False)
        weights = importance_weights(proximal, rollout.behaviour, rollout.lengths, config)
        experience = Experience(
            offsets=batch.offsets,
            proximal=proximal,
            reference=rollout.reference,
            advantages=advantages,
            returns=returns,
            values=values,
            weights=weights,
        )
        kl_nats = self._measure_kl(proximal, rollout)
        for epoch in range(config.epochs):
            parts = minibatches(self.shuffles, len(batch), config.minibatches)
            for part, rows in enumerate(parts):
                tokens = float(rollout.lengths[rows].sum())
                mine = [row for row in rows if row in share]
                self._update_value(experience, mine, tokens, tally)
                if self.updates >= config.critic_warmup_steps:
                    text = pretraining[part :: len(parts)]
                    fresh = rollout if epoch == part == 0 else None
                    self._update_policy(experience, mine, tokens, text, fresh, tally)

        note_rollout(tally, rollout, experience, -self.kl.in_reward * kl, scores)
        metrics = summarise(tally, rollout, experience, ranks) | self._counters(len(batch))
        self.kl.update(kl_nats, len(batch))
        self.updates += 1
        return metrics

    def state_dict(self) -> LearnerState:
        """Returns all that a resumed learner needs to go on bit for bit; tensors are live, not copies."""
        return save_state(self)

    def load_state_dict(self, state: LearnerState) -> None:
        """Restores what `state_dict` returned. ``epoch`` stays: a resumed run has one of its own.

        Raises:
            CorruptCheckpointError: A tensor or number is missing or has another shape.
        """
        load_state(self, state)

    def _begin(self, batch: RolloutBatch, share: Collection[int]) -> Rollout:
        staleness = self.config.max_staleness
        check_versions(batch, epoch=self.epoch, version=self.updates, max_staleness=staleness)
        self.sources.check(batch)
        self.policy.begin(batch, share)
        self.value.begin(batch, share)
        return Rollout.of(batch, self.updates, self.policy.device)

    def _trusts_engine(self, rollout: Rollout) -> bool:
        """Whether ratios start from the engine's log-probs."""
        mode = self.config.proximal
        return mode == "behaviour" or (mode == "auto" and rollout.on_policy)

    def _proximal_logprobs(self, rollout: Rollout, tally: Tally) -> Tensor:
        """Returns [R] nats that ratios start from: the engine's where they will do, else the trainer's."""
        if self._trusts_engine(rollout):
            return rollout.behaviour
        proximal = self.policy.all_logprobs(self.ranks)
        fresh = rollout.fresh_tokens
        self._check_gap(proximal[fresh], rollout.behaviour[fresh], tally)
        return proximal

    def _measure_kl(self, proximal: Tensor, rollout: Rollout) -> float:
        """Returns the mean KL of a response, nats, after the budget's gate has seen it."""
        sums = row_sums((proximal - rollout.reference).double(), rollout.lengths)
        mean = float(sums.sum()) / len(sums)
        self.kl_gate.check(mean)
        return mean

    def _update_value(self, experience: Experience, rows: list[int], tokens: float, tally: Tally) -> None:
        loss = self.value.accumulate(experience, rows, tokens=tokens, tally=tally)
        check_finite_loss(float(self.ranks.sum(loss)), "ppo.value", self.updates)
        norm = self.value.optimiser.apply(self.updates, section="ppo.value", ranks=self.ranks)
        tally.add("value/gradient_norm", torch.tensor(norm))

    def _update_policy(
        self,
        experience: Experience,
        rows: list[int],
        tokens: float,
        text: Sequence[Tokens],
        fresh: Rollout | None,
        tally: Tally,
    ) -> None:
        """Takes one optimiser step; ``fresh`` is the rollout in its first minibatch, where gates look."""
        beta = self.kl.in_loss
        seen = self.policy.accumulate(experience, rows, tokens=tokens, beta=beta, tally=tally)
        check_finite_loss(float(self.ranks.sum(seen.loss)), "ppo.policy", self.updates)
        if fresh is not None:
            self._check_first_minibatch(experience, seen.places, seen.logprobs, fresh, tally)
        if self.config.pretraining_coefficient and len(text):
            predicted = float(sum(len(row) - 1 for row in text))
            mine = text[self.ranks.index :: self.ranks.size]
            self.policy.accumulate_text(mine, tokens=predicted, tally=tally)
        norm = self.policy.optimiser.apply(self.updates, section="ppo.policy", ranks=self.ranks)
        self.policy.update_average()
        tally.add("policy/gradient_norm", torch.tensor(norm))

    def _check_first_minibatch(
        self, experience: Experience, places: Tensor, logprobs: Tensor, rollout: Rollout, tally: Tally
    ) -> None:
        if self._trusts_engine(rollout):  # else the gap was measured before the step
            fresh = rollout.fresh_tokens[places]
            self._check_gap(logprobs[fresh], rollout.behaviour[places][fresh], tally)
        if rollout.on_policy:
            distances = ((logprobs - experience.proximal[places]).exp() - 1).abs().double()
            _, _, farthest = self._over_ranks(distances)
            _, clipped, _ = self._over_ranks((distances > self.config.clip_range).double())
            check_first_ratio(self.config.gates, farthest, clipped)

    def _check_gap(self, trainer: Tensor, engine: Tensor, tally: Tally) -> None:
        """Compares log-probs [N] of the same weights, of all ranks; none at all is fine."""
        gaps = (trainer - engine).abs().double()
        count, mean, largest = self._over_ranks(gaps)
        if count:
            tally.add("gap/logprob_mean", torch.tensor(mean))
            tally.add("gap/logprob_max", torch.tensor(largest))
            check_gap(self.config.gates, mean, largest)

    def _over_ranks(self, numbers: Tensor) -> tuple[int, float, float]:
        """Returns count, mean and maximum of all ranks' numbers, float64 [N], not negative; 0 for none."""
        sums = torch.stack([numbers.new_tensor(len(numbers)), numbers.sum()])
        count, total = self.ranks.sum(sums).tolist()
        largest = float(self.ranks.max(torch.cat([numbers, numbers.new_zeros(1)]).max()))
        return round(count), total / max(count, 1), largest

    def _counters(self, episodes: int) -> dict[str, float]:
        """Returns what is counted, not averaged, and moves the counters on."""
        now = time.perf_counter()
        elapsed, self._last_step_at = now - self._last_step_at, now
        self.episodes += episodes
        config, placement = self.config, self.config.kl.placement
        return {
            "lr": learning_rate(config.policy, self.updates, config.total_steps),
            "lr_value": learning_rate(config.value, self.updates, config.total_steps),
            "episode": float(self.episodes),
            "eps": episodes / elapsed,
            "kl/beta": self.kl.beta,
            "kl/in_reward": float(placement in ("reward", "both")),
            "kl/in_loss": float(placement in ("loss", "both")),
        }
