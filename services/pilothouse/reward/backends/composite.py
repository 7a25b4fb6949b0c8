"""Scorers combined to one that reports every one of them; a plain scorer is the sum of one. B rows."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from pilothouse.models.reward_files import ensemble_version
from pilothouse.reward.backends import make_backend
from pilothouse.reward.backends.base import Backend, Buckets, Row
from pilothouse.reward.backends.combine import Combination, no_disagreement
from pilothouse.reward.batching import Batcher
from pilothouse.reward.config import BatchingConfig, RewardConfig, ScorerConfig
from pilothouse.tensors import Floats

PLAIN = "score"
"""Name of the one component of a plain scorer."""

COMPOSITE = "composite"
"""Kind of a scorer of several parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """One component: a backend behind its own queue."""

    name: str
    weight: float
    backend: Backend
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class Component:
    """One component's share in a score."""

    name: str
    weight: float
    values: Floats
    """Its own score of every row, float32 [B]."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one request."""

    values: Floats
    """The components combined, float32 [B], all finite."""
    components: tuple[Component, ...]
    disagreement: Floats = field(default_factory=no_disagreement)
    """Population standard deviation of an ensemble's members, float32 [B]; [0] where there is no ensemble."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a composite is made of."""

    parts: tuple[tuple[str, float, ScorerConfig], ...]
    """Name, weight and scorer of every part."""
    kind: str
    """`composite`, or the backend of the one part."""
    combination: Combination = field(default_factory=Combination)
    """How their scores become one."""

    @classmethod
    def of(cls, config: RewardConfig) -> "Recipe":
        """Returns the recipe of the configured scorer."""
        parts = tuple((part.name, part.weight, part) for part in config.parts)
        return cls(
            parts or ((PLAIN, 1.0, config),), config.backend, Combination(config.combine, config.std_factor)
        )


class Composite:
    """What the service scores with; every part has its own queue, so that a slow one holds no other up."""

    def __init__(self, parts: Sequence[Part], kind: str, combination: Combination) -> None:
        self.parts = tuple(parts)
        self.kind = kind
        """`composite`, or the backend of the one part."""
        self.combination = combination
        """How the parts' scores become one."""
        self.version = self._version()
        """Version of the reward: the model's own; of a weighted sum the digest of its parts with their
        weights, of an ensemble that of its members' versions and their combination."""

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime execution providers in use by any part, in order, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.backend.providers))

    @property
    def max_sequence_tokens(self) -> int:
        """Longest sequence that every part takes; 0 where none has a limit."""
        limits = [part.backend.max_sequence_tokens for part in self.parts]
        return min((limit for limit in limits if limit), default=0)

    def relabel(self, prefix: str) -> None:
        """Puts ``prefix`` before the parts' names in metrics."""
        for part in self.parts:
            part.batcher.relabel(f"{prefix}{part.name}")

    async def start(self, warm_up_lengths: Sequence[int]) -> None:
        """Warms every part up with one row of each length in tokens, and begins to take requests.

        Raises:
            PilothouseError: A backend cannot score.
        """
        for part in self.parts:
            await part.batcher.start(_warm_up(part.backend, warm_up_lengths))

    async def close(self) -> None:
        """Stops the queues and frees the backends."""
        for part in self.parts:
            await part.batcher.close()
            part.backend.close()

    async def score(self, rows: Sequence[Sequence[Row]]) -> Scored:
        """Returns the combined score and every component.

        Args:
            rows: For every part its own rows, B each, in the same order.

        Raises:
            QueueFullError: A part's queue is full.
            ScoringFailedError: A part failed.
            NonFiniteScoreError: A part's score, or the combined one, is not finite.
        """
        tasks = [
            asyncio.create_task(part.batcher.score(own)) for part, own in zip(self.parts, rows, strict=True)
        ]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one part failed, or the caller left: the others need not go on
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        components = tuple(
            Component(part.name, part.weight, values)
            for part, values in zip(self.parts, answers, strict=True)
        )
        weights = [part.weight for part in self.parts]
        return Scored(
            self.combination.score(answers, weights), components, self.combination.disagreement(answers)
        )

    def _version(self) -> str:
        if self.kind != COMPOSITE:
            return self.parts[0].backend.version
        if self.combination.name != "weighted":
            return ensemble_version(*self.combination.key, [part.backend.version for part in self.parts])
        content = [[part.name, part.weight, part.backend.version] for part in self.parts]
        return f"{COMPOSITE}:{blake3(json.dumps(content).encode()).hexdigest()}"


async def make_composite(recipe: Recipe, batching: BatchingConfig) -> Composite:
    """Loads every backend that the recipe names, each in a thread: the event loop stays free.

    Raises:
        PilothouseError: A backend cannot be made; see `make_backend`. Those made before it are freed.
    """
    buckets = Buckets(batching.length_buckets)
    parts: list[Part] = []
    try:
        for name, weight, scorer in recipe.parts:
            backend = await asyncio.to_thread(make_backend, scorer, buckets)
            parts.append(Part(name, weight, backend, Batcher(backend.score, batching, name=name)))
    except BaseException:
        for part in parts:
            part.backend.close()
        raise
    return Composite(parts, recipe.kind, recipe.combination)


def _warm_up(backend: Backend, lengths: Sequence[int]) -> list[Row]:
    """Returns one row of every length that the backend takes; text needs no warming up."""
    if backend.reads == "text" or backend.codec is None:
        return []
    longest = backend.max_sequence_tokens
    fitting = [length for length in lengths if length <= longest]
    return [Row(tokens=np.full(length, backend.codec.eos_id, dtype=np.int32)) for length in fitting]
