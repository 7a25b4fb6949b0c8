"""Completions with everything the services said about them, one by one and as a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilothouse.client import Completion
from pilothouse.errors import VersionMixError
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.ledger import Span
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.prompts import Draw


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion and the draw that it answers."""

    id: str
    """In the ledger."""
    draw: Draw
    completion: Completion

    @property
    def sequence(self) -> Tokens:
        """int32 [P + C]: prompt and response."""
        return np.concatenate([self.draw.tokens, self.completion.tokens]).astype(np.int32)

    @property
    def spans(self) -> list[Span]:
        """(epoch, version, tokens) of the response, in order."""
        return [(span.epoch, span.version, span.end - span.start) for span in self.completion.version_spans]

    @property
    def oldest(self) -> tuple[int, int]:
        """(epoch, version) of the oldest token."""
        return min((epoch, version) for epoch, version, _ in self.spans)


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer, judged."""

    answer: Answer
    score: float
    reward_version: str
    reference_logprobs: Floats
    """float32 [C], nats."""
    reference_digest: str


def answers(
    draws: Sequence[Draw], completions: Sequence[Completion], samples_per_prompt: int
) -> list[Answer]:
    """Pairs completions, by prompt, then sample, with their draws."""
    names = [name for draw in draws for name in draw.sample_ids(samples_per_prompt)]
    return [
        Answer(name, draws[item.prompt_index], item) for name, item in zip(names, completions, strict=True)
    ]


def as_batch(samples: Sequence[Sample]) -> RolloutBatch:
    """Returns samples as what a PPO step takes, in their order.

    Raises:
        VersionMixError: They were judged by different reward or reference models.
    """
    rewards = {sample.reward_version for sample in samples}
    references = {sample.reference_digest for sample in samples}
    if len(rewards) > 1 or len(references) > 1:
        raise VersionMixError(
            f"one batch was judged by reward models {sorted(rewards)} and references {sorted(references)}; "
            "finish the rollout of the services, then resume"
        )
    completions = [sample.answer.completion for sample in samples]
    spans = [span for sample in samples for span in sample.answer.spans]
    lengths = [tokens for _epoch, _version, tokens in spans]
    return RolloutBatch(
        sequences=[sample.answer.sequence for sample in samples],
        prompt_lengths=np.array([len(sample.answer.draw.tokens) for sample in samples], dtype=np.int32),
        response_lengths=np.array([len(item.tokens) for item in completions], dtype=np.int32),
        behaviour_logprobs=np.concatenate([item.logprobs for item in completions]),
        reference_logprobs=np.concatenate([sample.reference_logprobs for sample in samples]),
        scores=np.array([sample.score for sample in samples], dtype=np.float32),
        finished=np.array([item.finish_reason != "length" for item in completions]),
        epochs=np.repeat(np.array([epoch for epoch, _, _ in spans], dtype=np.int64), lengths),
        versions=np.repeat(np.array([version for _, version, _ in spans], dtype=np.int64), lengths),
        reward_version=rewards.pop(),
        reference_digest=references.pop(),
        sample_ids=[sample.answer.id for sample in samples],
    )


def table_row(step: int, sample: Sample, prompt_text: str) -> dict[str, Any]:
    """Returns one row of ``samples.jsonl``."""
    completion = sample.answer.completion
    kl = float((completion.logprobs - sample.reference_logprobs).sum())
    return {
        "step": step,
        "id": sample.answer.id,
        "prompt_id": sample.answer.draw.prompt.id,
        "query": prompt_text,
        "model response": completion.text,
        "score": sample.score,
        "kl": kl,
        "tokens": len(completion.tokens),
        "finish_reason": completion.finish_reason,
        "policy_version": [[epoch, version] for epoch, version, _ in sample.answer.spans],
        "reward_version": sample.reward_version,
        "reference_digest": sample.reference_digest,
    }
