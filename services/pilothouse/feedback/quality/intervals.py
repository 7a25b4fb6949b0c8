"""Numbers with 95 % intervals over tasks: what lies within a task is not independent."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pilothouse.feedback.quality.table import Reals

RESAMPLES = 1000
"""Bootstrap resamples behind every interval."""
LEVEL = 0.95
"""Share of resamples inside an interval."""

_SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13)."""

    value: float
    """nan where it is undefined."""
    low: float
    """Lower end at `LEVEL`."""
    high: float
    """Upper end at `LEVEL`."""


UNDEFINED = Estimate(math.nan, math.nan, math.nan)
"""What cannot be computed from the judgements at hand."""


def bootstrap(units: int, statistic: Callable[[Reals], float]) -> Estimate:
    """Returns a statistic and its interval; the same for the same numbers.

    Args:
        units: How many units are resampled, U.
        statistic: Takes how often every unit counts, [U], and returns nan where it is undefined.
    """
    value = statistic(np.ones(units)) if units else math.nan
    if math.isnan(value):
        return UNDEFINED
    generator = np.random.Generator(np.random.Philox(_SEED))
    drawn = [
        statistic(np.bincount(generator.integers(units, size=units), minlength=units).astype(np.float64))
        for _ in range(RESAMPLES)
    ]
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def ratio(tops: Reals, bottoms: Reals) -> Estimate:
    """Returns sum(tops) / sum(bottoms) with its interval, both [U], resampling the U units together."""
    counted = bottoms > 0
    tops, bottoms = tops[counted], bottoms[counted]
    return bootstrap(len(tops), lambda counts: float(counts @ tops) / float(counts @ bottoms))
