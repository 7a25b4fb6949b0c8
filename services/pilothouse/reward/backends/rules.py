"""Scores by simple rules over the response's text: length, regular expression, format. All lie in [0, 1]."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import re2
from blake3 import blake3

from pilothouse.errors import ConfigError
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Backend, Row
from pilothouse.reward.config import RuleConfig
from pilothouse.tensors import Floats

_MAX_PROGRAM_STEPS = 20_000
"""Largest compiled pattern. RE2's time is at worst steps times bytes: seconds for the longest text."""


class RulesBackend(Backend):
    """One rule; several are put together as parts of a composite."""

    kind = "rules"
    reads = "text"

    def __init__(self, rule: RuleConfig, codec: TextCodec | None = None) -> None:
        """Prepares the rule.

        Raises:
            ConfigError: The pattern is not a regular expression, or is too large.
        """
        self.codec = codec
        self.version = f"rules:{blake3(rule.model_dump_json().encode()).hexdigest()}"
        self._rule = {"length": _length, "regex": _regex, "format": _format}[rule.kind](rule)

    def score(self, rows: Sequence[Row]) -> Floats:
        """Returns the rule's value of every response, float32 of shape [B]."""
        return np.array([self._rule(row.response) for row in rows], dtype=np.float32)


Rule = Callable[[str], float]


def _length(rule: RuleConfig) -> Rule:
    def score(text: str) -> float:
        size = len(text.split()) if rule.unit == "words" else len(text)
        distance = max(rule.minimum - size, size - rule.maximum, 0)
        return max(0.0, 1.0 - distance / rule.falloff)

    return score


def _regex(rule: RuleConfig) -> Rule:
    """RE2, not Python's ``re``: that one backtracks, and a hostile text would hold the scorer up for ever."""
    options = re2.Options()
    options.log_errors = False  # to stderr, past our log
    options.never_capture = True  # only whether it matches is asked
    try:
        pattern = re2.compile(rule.pattern, options)
    except re2.error as error:
        (problem,) = error.args
        raise ConfigError(
            f"rule.pattern {rule.pattern!r} is not a regular expression that RE2 takes: {problem.decode()}; "
            "see github.com/google/re2/wiki/Syntax (no look-around, no back-references)"
        ) from None
    if pattern.programsize > _MAX_PROGRAM_STEPS:
        raise ConfigError(
            f"rule.pattern {rule.pattern!r} compiles to {pattern.programsize} steps, the limit is "
            f"{_MAX_PROGRAM_STEPS}; write * or + for counted repetitions"
        )
    find = pattern.fullmatch if rule.whole else pattern.search
    return lambda text: float(find(text) is not None)


def _format(rule: RuleConfig) -> Rule:
    if rule.format == "json":
        return lambda text: float(_is_json(text))
    if rule.format == "sentence":
        return lambda text: float(_is_sentence(text))
    return lambda text: float(_has_tags(text, rule.tags))


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # hostile text may nest deeper than the parser goes
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # Python's parser takes NaN and Infinity


def _is_sentence(text: str) -> bool:
    bare = text.strip().strip("\"'()")
    return bare[:1].isupper() and bare.endswith((".", "!", "?"))


def _has_tags(text: str, tags: Sequence[str]) -> bool:
    """Whether the text is the elements in order, each once, with nothing but space between them."""
    rest = text.strip()
    for tag in tags:
        opening, closing = f"<{tag}>", f"</{tag}>"
        if not rest.startswith(opening) or text.count(opening) != 1 or text.count(closing) != 1:
            return False
        rest = rest.partition(closing)[2].strip()
    return not rest
