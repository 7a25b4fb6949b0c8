from pathlib import Path

import pytest

from pilothouse.errors import ConfigError
from pilothouse.trainer.evaluate import Evaluation, Judged, compare, evaluate, vader
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


def test_an_evaluation_needs_prompts() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.prompts names no file"):
        evaluate(EvaluationConfig())
