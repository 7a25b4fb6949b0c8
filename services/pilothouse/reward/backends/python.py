"""The user's own scorer, found by its entry point in the group ``pilothouse.scorers``.

A scorer is a callable ``score(prompts, responses)`` over two lists of str that returns one number a row, or a
class whose instances are such callables; its attribute ``version`` names the reward model's version::

    [project.entry-points."pilothouse.scorers"]
    politeness = "my_package.scorers:Politeness"
"""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np
import structlog
from blake3 import blake3

from pilothouse.errors import ConfigError, ScoringFailedError
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Backend, Row
from pilothouse.reward.config import PythonConfig
from pilothouse.tensors import Floats

GROUP = "pilothouse.scorers"
"""Entry point group of users' scorers."""

Scorer = Callable[[list[str], list[str]], Sequence[float]]

_log = structlog.get_logger()


class PythonBackend(Backend):
    """Calls the user's scorer."""

    kind = "python"
    reads = "text"

    def __init__(self, config: PythonConfig, codec: TextCodec | None = None) -> None:
        """Imports the scorer.

        Raises:
            ConfigError: No package offers it, or it cannot be made.
        """
        self.codec = codec
        self._name = config.scorer
        entry_point = _find(config.scorer)
        self._scorer = _make(entry_point, config.options)
        own = getattr(self._scorer, "version", None) or (
            entry_point.dist.version if entry_point.dist else "0"
        )
        options = blake3(json.dumps(config.options, sort_keys=True, default=str).encode()).hexdigest()
        self.version = f"python:{entry_point.value}:{own}:{options[:16]}"

    def score(self, rows: Sequence[Row]) -> Floats:
        """Returns the scorer's numbers, float32 of shape [B].

        Raises:
            ScoringFailedError: It raised, or did not return one number a row.
        """
        try:
            answer = self._scorer([row.prompt for row in rows], [row.response for row in rows])
            values = np.asarray(answer, dtype=np.float32)
        except Exception as error:  # whatever the user's code raises
            _log.exception("scorer_failed", scorer=self._name)
            raise ScoringFailedError(
                f"scorer '{self._name}' failed on {len(rows)} rows; the cause is in the reward service's log"
            ) from error
        if values.shape != (len(rows),):
            raise ScoringFailedError(
                f"scorer '{self._name}' returned shape {values.shape} for {len(rows)} rows; return one a row"
            )
        return values


def _find(name: str) -> EntryPoint:
    found = {entry_point.name: entry_point for entry_point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none is installed"
        raise ConfigError(f"no scorer '{name}' in the entry point group {GROUP}; known: {known}")
    return found[name]


def _make(entry_point: EntryPoint, options: dict[str, Any]) -> Scorer:
    try:
        scorer = entry_point.load()
        if isinstance(scorer, type):
            scorer = scorer(**options)
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(
            f"scorer '{entry_point.name}' ({entry_point.value}) cannot be made: {error}"
        ) from error
    if not callable(scorer):
        raise ConfigError(f"scorer '{entry_point.name}' ({entry_point.value}) is not callable")
    made: Scorer = scorer
    return made
