"""Interleaved comparison and its statistics."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the bench table."""

    id: str
    """What is measured."""
    unit: str
    """Unit of ``ours``, ``peer`` and ``limit``."""
    ours: float
    """Median of our side."""
    peer: float | None
    """Median of the peer."""
    limit: float | None
    """What the machine allows, measured in the same run."""
    ratio: float | None
    """How many times better than the peer: above 1 is better, whatever the unit."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the ratio."""
    parity: str
    """What was checked to be equal in the same run, and how equal it was."""
    goal: float | None
    """Ratio asked for from the start."""

    def as_json(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        return asdict(self)


def interleave(
    ours: Callable[[], float], peer: Callable[[], float], *, pairs: int
) -> tuple[list[float], list[float]]:
    """Runs the sides in turn, ours and the peer alternately first; returns the seconds of each."""
    our_seconds, peer_seconds = [], []
    for pair in range(pairs):
        for side in ("ours", "peer") if pair % 2 == 0 else ("peer", "ours"):
            if side == "ours":
                our_seconds.append(ours())
            else:
                peer_seconds.append(peer())
    return our_seconds, peer_seconds


def speedup(our_seconds: Sequence[float], peer_seconds: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Returns the median of the pairwise ratios peer/ours and its 95 % bootstrap interval."""
    ratios = np.asarray(peer_seconds) / np.asarray(our_seconds)
    draws = np.random.default_rng(0).choice(ratios, size=(10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(median(ratios.tolist())), (float(low), float(high))
