"""Rules: length, regular expression, format."""

from typing import Any

import numpy as np
import pytest

from pilothouse.config import parse
from pilothouse.errors import ConfigError
from pilothouse.reward.backends.base import Row
from pilothouse.reward.backends.rules import RulesBackend
from pilothouse.reward.config import RuleConfig


def scores(texts: list[str], **rule: Any) -> list[float]:
    backend = RulesBackend(RuleConfig(**rule))
    values = backend.score([Row(prompt="ignored", response=text) for text in texts])
    assert values.dtype == np.float32
    return [float(value) for value in values]


def test_length_scores_one_inside_the_range_and_falls_off_outside() -> None:
    texts = ["", "a b", "a b c", "a b c d e", "a b c d e f g"]
    assert scores(texts, kind="length", minimum=2, maximum=3, falloff=4) == [0.5, 1.0, 1.0, 0.5, 0.0]
    assert scores(["abcd"], kind="length", unit="characters", minimum=5, maximum=9, falloff=2) == [0.5]


def test_regex_finds_or_matches_the_whole() -> None:
    assert scores(["so good", "bad"], kind="regex", pattern="good|great") == [1.0, 0.0]
    assert scores(["so good", "good"], kind="regex", pattern="good|great", whole=True) == [0.0, 1.0]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(a*)*b"])
def test_a_pattern_and_a_text_that_make_backtracking_explode_are_scored_at_once(pattern: str) -> None:
    assert scores(["a" * 100_000 + "!"], kind="regex", pattern=pattern) == [0.0]


def test_format_knows_json_sentences_and_tags() -> None:
    assert scores(['{"a": 1}', "{a}", "[" * 100_000], kind="format", format="json") == [1.0, 0.0, 0.0]
    assert scores(["NaN", "[Infinity]", "null"], kind="format", format="json") == [0.0, 0.0, 1.0]
    assert scores(["A film.", "a film.", "A film", ""], kind="format") == [1.0, 0.0, 0.0, 0.0]
    tagged = [
        "<think>x</think>\n<answer>y</answer>",
        "<answer>y</answer><think>x</think>",
        "<think>x</think>z",
    ]
    assert scores(tagged, kind="format", format="tags", tags=("think", "answer")) == [1.0, 0.0, 0.0]


def test_the_version_is_the_rules_digest() -> None:
    one, same, other = (RulesBackend(RuleConfig(maximum=maximum)).version for maximum in (5, 5, 6))
    assert one == same != other


def test_a_rule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"not a regular expression that RE2 takes: missing \)"):
        RulesBackend(RuleConfig(kind="regex", pattern="("))
    with pytest.raises(ConfigError, match=r"invalid perl operator: \(\?=.*no look-around"):
        RulesBackend(RuleConfig(kind="regex", pattern="good(?=!)"))
    with pytest.raises(ConfigError, match=r"steps, the limit is 20000; write \* or \+"):
        RulesBackend(RuleConfig(kind="regex", pattern=r"\p{L}{100}"))
    with pytest.raises(ConfigError, match="needs a pattern"):
        parse(RuleConfig, {"kind": "regex"}, section="rule")
    with pytest.raises(ConfigError, match="above maximum"):
        parse(RuleConfig, {"minimum": 5, "maximum": 4}, section="rule")
    with pytest.raises(ConfigError, match="needs tags"):
        parse(RuleConfig, {"kind": "format", "format": "tags"}, section="rule")
