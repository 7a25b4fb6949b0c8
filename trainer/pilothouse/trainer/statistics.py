"""Means with bootstrap intervals. All functions are deterministic for a seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
"""Bootstrap resamples behind the interval of a mean or ratio."""
SUMS_RESAMPLES = 2_000
"""Those behind any other: a report has dozens."""
LEVEL = 0.95
"""Share of resamples inside an interval."""

_CHUNK = 500  # resamples drawn at a time, to bound memory
_CHUNK_DRAWS = 4_000_000


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


def interval_to_json(interval: Interval | None) -> dict[str, float | None] | None:
    """Returns an interval as JSON; its ends are null below two units, of which no resample differs."""
    if interval is None:
        return None
    known = interval.count >= 2
    return {
        "mean": interval.mean,
        "low": interval.low if known else None,
        "high": interval.high if known else None,
        "count": interval.count,
    }


def ends_told(interval: Mapping[str, Any], form: str) -> str:
    """Returns the ends of what `interval_to_json` made, as people read them, in a format like ``.1%``."""
    if interval["low"] is None:
        return "no interval: a single unit"
    return f"{interval['low']:{form}} to {interval['high']:{form}}"


def interval_from_json(body: Mapping[str, Any]) -> Interval:
    """Returns what `interval_to_json` was given."""
    mean = body["mean"]
    low, high = (mean if body[end] is None else body[end] for end in ("low", "high"))
    return Interval(mean, low, high, body["count"])


def intervals_to_json(value: Any) -> Any:
    """Returns dataclasses, tuples and dicts as JSON, with every interval among them as `interval_to_json`."""
    if isinstance(value, Interval):
        return interval_to_json(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: intervals_to_json(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, dict):
        return {key: intervals_to_json(item) for key, item in value.items()}
    return [intervals_to_json(item) for item in value] if isinstance(value, list | tuple) else value


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


def sums_interval(
    rows: npt.NDArray[np.float64],
    statistic: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    *,
    units: Sequence[int] | npt.NDArray[np.int64],
    seed: int = 0,
) -> Interval | None:
    """Returns a statistic that is a function of sums, resampling independent units: a ratio, a correlation.

    Args:
        rows: [N, C] terms of C sums.
        statistic: From R times C sums, [R, C], to R values, nan where undefined.
        units: [N] number, from 0, of the unit to which a row belongs.
        seed: Of the bootstrap.

    Returns:
        None where the sample's own statistic is undefined. Resamples where it is are left out.
    """
    count = int(np.max(units)) + 1 if len(rows) else 0
    totals = np.zeros((count, rows.shape[1]))
    np.add.at(totals, np.asarray(units, dtype=np.int64), rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = float(statistic(totals.sum(axis=0, keepdims=True))[0])
        if not np.isfinite(own):
            return None
        values = statistic(_resampled_sums(totals, seed))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values[np.isfinite(values)], [tail, 1 - tail])
    return Interval(own, float(low), float(high), count)


def _resampled_sums(totals: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Returns [SUMS_RESAMPLES, C]: the sums of as many units [N, C] as there are, drawn with replacement."""
    generator, units = np.random.Generator(np.random.Philox(seed)), len(totals)
    size = max(1, min(_CHUNK, _CHUNK_DRAWS // units))
    sums = []
    for start in range(0, SUMS_RESAMPLES, size):
        rows = min(size, SUMS_RESAMPLES - start)
        drawn = generator.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=rows * units).reshape(rows, units)
        sums.append(times.astype(np.float64) @ totals)
    return np.concatenate(sums)


def smooth(values: Sequence[float], decay: float = 0.7) -> list[float]:
    """Returns the exponential moving average of a curve, corrected for its start."""
    smoothed, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        smoothed.append(total / weight)
    return smoothed
