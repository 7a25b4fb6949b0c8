"""Held-out evaluation of a served policy: reward, an independent measure, KL, length, endings.

Before and after training it runs on the same prompts with the same seeds, so that differences are paired.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pilothouse.client import Completion, PolicyClient, ReferenceClient, RewardClient, SamplingParams
from pilothouse.errors import ConfigError, VersionMixError
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Floats
from pilothouse.trainer.data.encode import EncodedPrompt, encode_prompts
from pilothouse.trainer.data.records import read_prompts
from pilothouse.trainer.evaluation_config import EvaluationConfig
from pilothouse.trainer.prompts import sampling_seed
from pilothouse.trainer.statistics import Interval, mean_interval
from pilothouse.trainer.summary import Comparison
from pilothouse.trainer.token_ids import check_services

INDEPENDENT_MEASURE = "VADER compound"
"""Sentiment in [-1, 1] from a lexicon that people rated (Hutto & Gilbert 2014); nothing is trained on it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One response and everything said about it."""

    id: str
    """Of the prompt."""
    prompt: str
    response: str
    tokens: int
    """Of the response, EOS included."""
    finished: bool
    """It ended by itself."""
    score: float
    """From the reward service."""
    independent: float
    """VADER compound of prompt and response; 0 where not asked for."""
    kl: float
    """Sum over the response of log policy - log reference, in nats."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All responses of one evaluation, in prompt order."""

    rows: tuple[Judged, ...]
    version: tuple[int, int]
    """(epoch, version) of the policy."""
    reward_version: str
    reference_digest: str

    def interval(self, measure: str) -> Interval:
        """Returns the mean of a numeric field of `Judged` with its interval."""
        return mean_interval([float(getattr(row, measure)) for row in self.rows])

    def write(self, file: Path) -> None:
        """Writes the evaluation as JSON."""
        file.write_text(json.dumps(asdict(self), allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Evaluation":
        """Reads what `write` wrote."""
        body = json.loads(file.read_text(encoding="utf-8"))
        rows = tuple(Judged(**row) for row in body["rows"])
        return cls(
            rows, (body["version"][0], body["version"][1]), body["reward_version"], body["reference_digest"]
        )


def evaluate(config: EvaluationConfig) -> Evaluation:
    """Evaluates the policy that the configured services serve now.

    Raises:
        ConfigError: No prompt file is named, or a service has another tokenizer than ``config.model``.
        InvalidDataError: A prompt cannot be used.
        UnavailableError: A service cannot be reached.
    """
    if not config.prompts:
        raise ConfigError(
            "evaluation.prompts names no file; give a JSONL or Parquet file with a prompt column"
        )
    codec = TextCodec.load(config.model)
    found = read_prompts(config.prompts)[: config.max_prompts]
    prompts = encode_prompts(found, codec, max_tokens=config.max_prompt_tokens).told("prompts")
    services = config.services
    timeout = services.call_timeout_seconds
    with (
        PolicyClient(services.policy, timeout_seconds=timeout) as policy,
        RewardClient(services.reward, timeout_seconds=timeout) as reward,
        ReferenceClient(services.reference, timeout_seconds=timeout) as reference,
    ):
        check_services(codec, config.model, policy.model(), reward.model(), reference.model())
        return judge(config, codec, prompts, policy, reward, reference)


def judge(
    config: EvaluationConfig,
    codec: TextCodec,
    prompts: Sequence[EncodedPrompt],
    policy: PolicyClient,
    reward: RewardClient,
    reference: ReferenceClient,
) -> Evaluation:
    """Samples one response to each prompt and has it judged.

    Raises:
        VersionMixError: The policy's weights changed meanwhile.
    """
    sampling = SamplingParams(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    seeds = [sampling_seed(config.seed, number) for number in range(len(prompts))]
    found = policy.generate([prompt.tokens for prompt in prompts], sampling, seeds=seeds)
    sequences = [np.concatenate([p.tokens, c.tokens]) for p, c in zip(prompts, found, strict=True)]
    lengths = [len(prompt.tokens) for prompt in prompts]
    scores = reward.score(sequences=sequences, prompt_lengths=lengths)
    frozen = reference.logprobs(sequences, lengths, temperature=config.kl_temperature)
    versions = {(span.epoch, span.version) for item in found for span in item.version_spans}
    own = [completion.logprobs for completion in found]
    if config.temperature != config.kl_temperature:
        answer = policy.logprobs(sequences, lengths, temperature=config.kl_temperature)
        own = answer.rows
        versions.add((answer.epoch, answer.version))
    if len(versions) > 1:
        raise VersionMixError(
            f"the policy's weights changed during the evaluation, {sorted(versions)}; pause the trainer that "
            "pushes them and evaluate again"
        )
    measure = vader() if config.independent else lambda text: 0.0
    rows = [
        _judged(prompt, completion, codec, float(score), float((mine - theirs).sum()), measure)
        for prompt, completion, score, mine, theirs in zip(
            prompts, found, scores.values, own, frozen.rows, strict=True
        )
    ]
    return Evaluation(tuple(rows), versions.pop(), scores.reward_version, frozen.reference_digest)


def _judged(
    prompt: EncodedPrompt,
    completion: Completion,
    codec: TextCodec,
    score: float,
    kl: float,
    measure: Callable[[str], float],
) -> Judged:
    text = codec.decode(prompt.tokens)
    return Judged(
        id=prompt.id,
        prompt=text,
        response=completion.text,
        tokens=len(completion.tokens),
        finished=completion.finish_reason != "length",
        score=score,
        independent=measure(text + completion.text),
        kl=kl,
    )


def vader() -> Callable[[str], float]:
    """Returns VADER's compound sentiment of a text, in [-1, 1]."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyser = SentimentIntensityAnalyzer()
    return lambda text: float(analyser.polarity_scores(text)["compound"])


def compare(before: Evaluation, after: Evaluation, field: str, name: str) -> Comparison:
    """Compares one field of `Judged` on the same prompts.

    Raises:
        ValueError: The evaluations are not of the same prompts.
    """
    if [row.id for row in before.rows] != [row.id for row in after.rows]:
        raise ValueError("the evaluations are not of the same prompts; evaluate both with the same settings")
    old, new = _values(before, field), _values(after, field)
    return Comparison(name, mean_interval(old), mean_interval(new), mean_interval(new - old))


def _values(evaluation: Evaluation, field: str) -> Floats:
    return np.array([float(getattr(row, field)) for row in evaluation.rows], dtype=np.float32)
