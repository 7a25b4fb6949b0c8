from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilothouse.client import Completion, PolicyLogprobs, ReferenceLogprobs, Scores, VersionSpan
from pilothouse.errors import ConfigError, VersionMixError
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Tokens
from pilothouse.trainer.data.encode import EncodedPrompt
from pilothouse.trainer.evaluate import Evaluation, Judged, compare, evaluate, judge, vader
from pilothouse.trainer.evaluation_config import EvaluationConfig


def _evaluation(scores: list[float], names: str = "abc") -> Evaluation:
    rows = [
        Judged(name, "the film", " was good", 3, True, score, 0.4, 1.5)
        for name, score in zip(names, scores, strict=True)
    ]
    return Evaluation(tuple(rows), (1, 7), "reward", "reference")


def test_an_evaluation_survives_its_file(tmp_path: Path) -> None:
    evaluation = _evaluation([1.0, 2.0, 3.0])
    evaluation.write(tmp_path / "e.json")
    assert Evaluation.read(tmp_path / "e.json") == evaluation


def test_a_comparison_is_paired_by_prompt() -> None:
    result = compare(_evaluation([1.0, 2.0, 30.0]), _evaluation([2.0, 3.0, 31.0]), "score", "reward")
    assert (result.difference.mean, result.difference.low, result.difference.high) == (1.0, 1.0, 1.0)
    assert result.before.mean == 11.0


def test_truth_values_and_lengths_have_means_too() -> None:
    evaluation = _evaluation([1.0, 2.0, 3.0])
    assert evaluation.interval("finished").mean == 1.0
    assert evaluation.interval("tokens").mean == 3.0


def test_other_prompts_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="not of the same prompts"):
        compare(_evaluation([1.0, 2.0, 3.0]), _evaluation([1.0, 2.0, 3.0], "abd"), "score", "reward")


def test_vader_tells_praise_from_blame() -> None:
    measure = vader()
    assert measure("a wonderful, brilliant film") > 0.5 > -0.5 > measure("an awful, boring film")


def test_checklist_05_evaluation_samples_close_to_greedy_unless_told_otherwise() -> None:
    assert EvaluationConfig().temperature == 0.01


class OnePolicy:
    """Answers each prompt with one token of the next version in a list."""

    def __init__(self, *versions: int) -> None:
        self._versions = versions

    def generate(self, prompts: list[Tokens], *_: Any, **__: Any) -> list[Completion]:
        token, logprob = np.array([2], np.int32), np.array([-1.5], np.float32)
        return [
            Completion(row, 0, token, logprob, "", "stop_token", (VersionSpan(1, version, 0, 1),), 2)
            for row, version in zip(range(len(prompts)), self._versions, strict=True)
        ]

    def logprobs(self, sequences: list[Tokens], lengths: list[int], temperature: float) -> PolicyLogprobs:
        return PolicyLogprobs([np.array([-1.5], np.float32)] * len(sequences), 1, self._versions[-1])


class Judges:
    def score(self, *, sequences: list[Tokens], prompt_lengths: list[int]) -> Scores:
        return Scores(np.ones(len(sequences), np.float32), "reward", ())

    def logprobs(self, sequences: list[Tokens], lengths: list[int], temperature: float) -> ReferenceLogprobs:
        return ReferenceLogprobs([np.array([-2.0], np.float32)] * len(sequences), None, "reference")


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_checklist_44_weights_that_change_during_an_evaluation_are_an_error(temperature: float) -> None:
    prompts = [EncodedPrompt(name, np.array([5, 6], np.int32)) for name in "ab"]
    config = EvaluationConfig(temperature=temperature)

    def judged(*versions: int) -> Evaluation:
        judges: Any = Judges()
        policy: Any = OnePolicy(*versions)
        return judge(config, TextCodec.load("tiny"), prompts, policy, judges, judges)

    assert judged(7, 7).version == (1, 7)
    assert judged(7, 7).interval("kl").mean == 0.5
    with pytest.raises(VersionMixError, match="pause the trainer"):
        judged(7, 8)


def test_an_evaluation_needs_prompts() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.prompts names no file"):
        evaluate(EvaluationConfig())
