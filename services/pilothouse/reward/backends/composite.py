"""A weighted sum of scorers that reports every one of them; a plain scorer is the sum of one. B rows."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from pilothouse.errors import NonFiniteScoreError
from pilothouse.reward.backends import make_backend
from pilothouse.reward.backends.base import Backend, Buckets, Row
from pilothouse.reward.batching import Batcher
from pilothouse.reward.config import RewardConfig, ScorerConfig
from pilothouse.tensors import Floats

PLAIN = "score"
"""Name of the one component of a plain scorer."""


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
    """Weighted sum of the components, float32 [B], all finite."""
    components: tuple[Component, ...]


class Composite:
    """What the service scores with; every part has its own queue, so that a slow one holds no other up."""

    def __init__(self, parts: Sequence[Part], kind: str) -> None:
        self.parts = tuple(parts)
        self.kind = kind
        """`composite`, or the backend of the one part."""

    @property
    def version(self) -> str:
        """Version of the reward: the model's own, or the digest of all parts with their weights."""
        if self.kind != "composite":
            return self.parts[0].backend.version
        content = [[part.name, part.weight, part.backend.version] for part in self.parts]
        return f"composite:{blake3(json.dumps(content).encode()).hexdigest()}"

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime execution providers in use by any part, in order, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.backend.providers))

    @property
    def max_sequence_tokens(self) -> int:
        """Longest sequence that every part takes; 0 where none has a limit."""
        limits = [part.backend.max_sequence_tokens for part in self.parts]
        return min((limit for limit in limits if limit), default=0)

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
        """Returns the weighted sum and every component.

        Args:
            rows: For every part its own rows, B each, in the same order.

        Raises:
            QueueFullError: A part's queue is full.
            ScoringFailedError: A part failed.
            NonFiniteScoreError: A part's score, or the sum, is not finite.
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
        return Scored(_sum(components), components)


async def make_composite(config: RewardConfig) -> Composite:
    """Loads every backend that the configuration names, each in a thread: the event loop stays free.

    Raises:
        PilothouseError: A backend cannot be made; see `make_backend`.
    """
    buckets = Buckets(config.batching.length_buckets)
    named: list[tuple[str, float, ScorerConfig]] = [
        (part.name, part.weight, part) for part in config.parts
    ] or [(PLAIN, 1.0, config)]
    parts = []
    for name, weight, scorer in named:
        backend = await asyncio.to_thread(make_backend, scorer, buckets)
        parts.append(Part(name, weight, backend, Batcher(backend.score, config.batching, name=name)))
    return Composite(parts, config.backend)


def _sum(components: Sequence[Component]) -> Floats:
    total = np.zeros(len(components[0].values), dtype=np.float64)
    for component in components:
        total += component.weight * component.values.astype(np.float64)
    with np.errstate(over="ignore"):
        values: Floats = total.astype(np.float32)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise NonFiniteScoreError(f"the weighted sum of row {row} overflows; use smaller weights")
    return values


def _warm_up(backend: Backend, lengths: Sequence[int]) -> list[Row]:
    """Returns one row of every length that the backend takes; text needs no warming up."""
    if backend.reads == "text" or backend.codec is None:
        return []
    longest = backend.max_sequence_tokens
    fitting = [length for length in lengths if length <= longest]
    return [Row(tokens=np.full(length, backend.codec.eos_id, dtype=np.int32)) for length in fitting]
