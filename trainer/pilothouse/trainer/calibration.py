"""Whether a reward model is right as often as it is confident. n pairs, U independent units."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pilothouse.trainer.pairs import Numbers, Pairs
from pilothouse.trainer.rankings import BUCKETS
from pilothouse.trainer.statistics import Interval, sums_interval

TEMPERATURES = (0.02, 50.0)
"""Ends of the range in which the temperature is sought."""

_STEPS = 129  # on a logarithmic scale: 6 % each, and linear between


@dataclass(frozen=True, slots=True)
class Reliability:
    """Pairs whose confidence lies in [low, high)."""

    low: float
    high: float
    pairs: int
    confidence: float | None
    """Mean confidence; None without pairs."""
    accuracy: Interval | None
    """Share in the people's order."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence is sigmoid(|difference of scores|), of the scores that the loss read."""

    error: Interval
    """Expected calibration error: mean |accuracy - confidence| over buckets, weighted by their pairs."""
    table: tuple[Reliability, ...]
    """By confidence."""
    loss: float
    """-log likelihood of the people's order, nats a pair."""
    temperature: Interval
    """That by which scores would have to be divided for the least such loss; above 1: the model is too sure
    of itself. It is told, not applied. At an end of `TEMPERATURES` there is no finite best one."""
    loss_at_temperature: float
    """The loss there."""


def calibrate(pairs: Pairs, *, seed: int = 0) -> Calibration:
    """Measures calibration.

    The error is that of Naeini et al. 2015 in ten equal buckets, of which a pair read from its likelier side
    fills the upper five; the temperature that of Guo et al. 2017, arXiv 1706.04599, section 4.2.

    Args:
        pairs: At least one.
        seed: Of the bootstrap.
    """
    edges = list(pairwise(BUCKETS))
    right, confidence = pairs.right, pairs.confidence
    inside = np.stack([(confidence >= low) & ((confidence < high) | (high == 1.0)) for low, high in edges], 1)
    rows = np.concatenate([inside * right[:, None], inside * confidence[:, None], inside], axis=1)
    error = sums_interval(rows, _calibration_error, units=pairs.units, seed=seed)
    temperature = sums_interval(_slopes(pairs.margins), _best_temperature, units=pairs.units, seed=seed)
    assert error is not None  # there are pairs, and both are defined for any
    assert temperature is not None
    table = []
    for (low, high), chosen in zip(edges, inside.T, strict=True):
        terms = np.stack([chosen * right, chosen], axis=1)
        accuracy = sums_interval(terms, lambda sums: sums[:, 0] / sums[:, 1], units=pairs.units, seed=seed)
        mean = float(confidence[chosen].mean()) if chosen.any() else None
        table.append(Reliability(low, high, int(chosen.sum()), mean, accuracy))
    return Calibration(
        error, tuple(table), _loss(pairs.margins), temperature, _loss(pairs.margins / temperature.mean)
    )


def _calibration_error(sums: Numbers) -> Numbers:
    """Returns [R] from sums [R, 3 buckets] of right, confidence and pairs."""
    right, confidence, pairs = np.split(sums, 3, axis=1)
    return np.asarray(np.abs(right - confidence).sum(axis=1) / pairs.sum(axis=1))


def _loss(margins: Numbers) -> float:
    return float(np.logaddexp(0.0, -margins).mean())


def _factors() -> Numbers:
    """Returns the inverse temperatures that are tried, ascending, [_STEPS]."""
    return np.geomspace(1 / TEMPERATURES[1], 1 / TEMPERATURES[0], _STEPS)


def _slopes(margins: Numbers) -> Numbers:
    """Returns [n, _STEPS]: by how much each pair's loss rises with the factor of its margin."""
    with np.errstate(over="ignore"):
        return np.asarray(-margins[:, None] / (1 + np.exp(margins[:, None] * _factors())))


def _best_temperature(slopes: Numbers) -> Numbers:
    """Returns [R] from summed slopes [R, _STEPS], which rise through 0: the loss is convex in the factor."""
    after = np.clip((slopes < 0).sum(axis=1), 1, _STEPS - 1)
    rows = np.arange(len(slopes))
    low, high = slopes[rows, after - 1], slopes[rows, after]
    share = np.clip(np.nan_to_num(-low / (high - low)), 0.0, 1.0)
    logs = np.log(_factors())
    return np.asarray(np.exp(-(logs[after - 1] + share * (logs[after] - logs[after - 1]))))
