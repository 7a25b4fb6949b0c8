"""Rollouts: from drawn prompts to judged samples. ``sync``: everything follows from the step alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pilothouse.client import ReferenceClient, RewardClient, SamplingParams
from pilothouse.errors import VersionMixError
from pilothouse.trainer.ledger import Ledger
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.prompts import Draw, PromptCursor
from pilothouse.trainer.publisher import Publisher
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.samples import Answer, Sample, answers
from pilothouse.trainer.spread import PolicyReplicas

_ATTEMPTS = 3
"""Rollouts of one step before a version mix-up is believed."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Samples for one PPO step."""

    samples: list[Sample]
    """In draw order."""
    next_draw: int
    """First draw that no step has used yet; the cursor that a checkpoint after this step keeps."""
    metrics: dict[str, float] = field(default_factory=dict)


class RolloutMaker(Protocol):
    """Makes rollouts, one per step."""

    def collect(self) -> Rollout:
        """Returns the samples of the next step, enough of them and none too stale.

        Raises:
            VersionMixError: The policy keeps answering with weights that this run did not publish.
            UnavailableError: A service did not come back in time.
        """

    def close(self) -> None:
        """Ends work that runs ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What rollouts are made with."""

    config: PpoRunConfig
    cursor: PromptCursor
    policy: PolicyReplicas
    reward: RewardClient
    reference: ReferenceClient
    patience: Patience
    publisher: Publisher
    ledger: Ledger

    @property
    def sampling(self) -> SamplingParams:
        """How the policy draws tokens."""
        rollout = self.config.rollout
        return SamplingParams(
            temperature=self.config.temperature,
            top_p=rollout.top_p,
            top_k=rollout.top_k,
            min_new_tokens=rollout.min_new_tokens,
            max_new_tokens=rollout.max_new_tokens,
            stop_token_ids=rollout.stop_token_ids,
        )

    def judge(self, found: Sequence[Answer]) -> list[Sample]:
        """Has answers scored and compared with the reference, in one call each; the ledger notes both."""
        sequences = [answer.sequence for answer in found]
        lengths = [len(answer.draw.tokens) for answer in found]
        names = [answer.id for answer in found]
        scores = self.patience.call(
            "reward", lambda: self.reward.score(sequences=sequences, prompt_lengths=lengths)
        )
        self.ledger.scored(names, scores.reward_version)
        reference = self.patience.call(
            "reference",
            lambda: self.reference.logprobs(sequences, lengths, temperature=self.config.temperature),
        )
        self.ledger.referenced(names, reference.reference_digest)
        return [
            Sample(answer, float(score), scores.reward_version, row, reference.reference_digest)
            for answer, score, row in zip(found, scores.values, reference.rows, strict=True)
        ]


class SyncRollouts:
    """One Generate, one Score and one Logprobs call per step, always with the same rows in the same order."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def collect(self) -> Rollout:
        """Returns the samples of the next step; a lost service is waited for and the same batch repeated."""
        shop = self._workshop
        started = time.perf_counter()
        draws = shop.cursor.draw(shop.config.rollout.prompts_per_step)
        shop.ledger.drawn(draws)
        found = self._generate(draws)
        generated = time.perf_counter()
        shop.ledger.generated({answer.id: answer.spans for answer in found})
        samples = shop.judge(found)
        metrics = rollout_metrics(samples) | {
            "time/generate_seconds": generated - started,
            "time/judge_seconds": time.perf_counter() - generated,
            "time/rollout_seconds": time.perf_counter() - started,
        }
        return Rollout(samples, shop.cursor.next_draw, metrics)

    def close(self) -> None:
        """Nothing runs ahead."""

    def _generate(self, draws: Sequence[Draw]) -> list[Answer]:
        for _ in range(_ATTEMPTS):
            found = self._workshop.patience.call("policy", lambda: self._attempt(draws))
            stray = {span[:2] for answer in found for span in answer.spans} - {
                self._workshop.publisher.published
            }
            if not stray:
                return found
        raise VersionMixError(
            f"the policy sampled with versions {sorted(stray)}, published was "
            f"{self._workshop.publisher.published}; look for another trainer or an operator's rollback"
        )

    def _attempt(self, draws: Sequence[Draw]) -> list[Answer]:
        shop = self._workshop
        samples = shop.config.rollout.samples_per_prompt
        shop.publisher.ensure()
        completions = shop.policy.generate(
            [draw.tokens for draw in draws], shop.sampling, n=samples, seeds=[draw.seed for draw in draws]
        )
        return answers(draws, completions, samples)


def rollout_metrics(samples: Sequence[Sample], dropped_stale: int = 0) -> dict[str, float]:
    """Returns what the learner does not report of a rollout."""
    prompts = [len(sample.answer.draw.tokens) for sample in samples]
    scores = np.array([sample.score for sample in samples])
    return {
        "rollout/samples": float(len(samples)),
        "rollout/prompt_tokens": sum(prompts) / len(prompts),
        "rollout/scores_std": float(scores.std()),
        "rollout/dropped_stale": float(dropped_stale),
    }
