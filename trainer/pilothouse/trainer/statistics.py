"""Means with bootstrap intervals. All functions are deterministic for a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
"""Bootstrap resamples behind every interval."""
LEVEL = 0.95
"""Share of resamples inside an interval."""

_CHUNK = 500  # resamples drawn at a time, to bound memory


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13)."""

    mean: float
    """Mean of the sample itself."""
    low: float
    """Lower end at `LEVEL`."""
    high: float
    """Upper end at `LEVEL`."""
    count: int
    """Independent units that were resampled."""


def mean_interval(values: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Returns the mean of ``values`` [N] and its interval.

    For a paired comparison give the differences: the pairing removes what both sides share.

    Raises:
        ValueError: There are no values, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    return ratio_interval(array, np.ones_like(array), seed=seed)


def ratio_interval(numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """Returns sum(numerators) / sum(denominators), both [N], resampling the N units together.

    For a share over groups (pairs of a ranking) the group is the unit: its pairs are not independent.

    Raises:
        ValueError: There are no values, one is not finite, or the denominators sum to 0.
    """
    top = np.asarray(numerators, dtype=np.float64).reshape(-1)
    bottom = np.asarray(denominators, dtype=np.float64).reshape(-1)
    if len(top) == 0 or len(top) != len(bottom):
        raise ValueError(
            f"need as many denominators as numerators and at least one, got {len(top)}, {len(bottom)}"
        )
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()) or bottom.sum() <= 0:
        raise ValueError("values must be finite and the denominators must sum to more than 0")
    generator = np.random.Generator(np.random.Philox(seed))
    ratios = []
    for _ in range(RESAMPLES // _CHUNK):
        rows = generator.integers(len(top), size=(_CHUNK, len(top)))
        sums = bottom[rows].sum(axis=1)
        ratios.append(top[rows].sum(axis=1)[sums > 0] / sums[sums > 0])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high), len(top))


def smooth(values: Sequence[float], decay: float = 0.7) -> list[float]:
    """Returns the exponential moving average of a curve, corrected for its start."""
    smoothed, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        smoothed.append(total / weight)
    return smoothed
