"""Raters whose ranks have nothing to do with the answers. Axes: N judgements, K answers, Q tested raters.

Each rater has a slope: how far the rater's signs of pairs go with those that the other raters' consensus
expects. It is about 0 for whoever clicks at random, and about the same for all who look.
"""

from dataclasses import dataclass

import numpy as np

from pilothouse.feedback.quality.distributions import discoveries, normal_tail
from pilothouse.feedback.quality.table import Reals, Table, Whole

CHANCE_LEVEL = 0.005
"""Who agrees with the others so far that chance does it this rarely is not random, however careless."""

LEAST_TASKS = 8
"""Tasks that a rater must have ranked beside others before the slope, a mean over tasks, is called normal."""

_NOTHING = 1e-9  # expected signs that differ from 0 by rounding
_NEUTRAL_JUDGEMENTS = 30.0  # that every number of others is taken to have as the whole crowd has
_TO_DEVIATION = 1.4826  # standard deviation of a normal over its median absolute deviation


@dataclass(frozen=True, slots=True, eq=False)
class _Slopes:
    """How far each rater goes with the others, by least squares of signs on expected signs."""

    rater: Whole
    """[Q]."""
    slope: Reals
    """[Q]."""
    weight: Reals
    """[Q] sum of squared expected signs: how much the rater's tasks can tell."""
    at_random: Reals
    """[Q] deviation of the slope if ranks fall on answers at random; its mean is 0 then."""
    scatter: float
    """Deviation of judgements around their rater's slope, over that by chance."""


def random_clickers(table: Table, others: Reals, known: set[int], level: float) -> set[int]:
    """Returns the raters who fall short of honest ones and whom chance explains.

    Both must hold. The slope is below that of honest raters beyond chance. And if the rater's own rankings
    were put on the answers at random, the slope would exceed this one with a chance above `CHANCE_LEVEL`.

    Args:
        table: Judgements.
        others: [N, K] strengths by the other raters of each judgement's task.
        known: Raters who are known to be bad, and are not looked at.
        level: Share of the accused that may be innocent.
    """
    slopes = _slopes(table, others, known)
    if not len(slopes.rater):
        return set()
    short = _short_of_honest(slopes)
    like_chance = slopes.slope / slopes.at_random
    chances = {
        int(slopes.rater[index]): normal_tail(float(short[index]))
        for index in range(len(short))
        if normal_tail(float(like_chance[index])) > CHANCE_LEVEL
    }
    return discoveries(chances, len(short), level)


def permutation_variance(signs: Reals, gaps: Reals, size: Whole) -> Reals:
    """Returns [N], the variance of the sum of signs times gaps over pairs if ranks fall on answers at random.

    Daniels 1944, "The relation between measures of correlation in the universe of sample permutations"; with
    signs on both sides it is that of Kendall's tau, with ties in either. The mean is 0.

    Args:
        signs: [N, K, K] antisymmetric.
        gaps: [N, K, K] antisymmetric.
        size: [N] how many answers there are.
    """
    triples = size * (size - 1) * (size - 2)
    of_pairs = (signs**2).sum(axis=(1, 2)) * (gaps**2).sum(axis=(1, 2))
    of_triples = _triples(signs) * _triples(gaps)
    return np.asarray(of_triples / np.maximum(triples, 1) + of_pairs / (2 * size * (size - 1)))


def _triples(values: Reals) -> Reals:
    """Returns [N], the sum of products of two values with the same first and different second answer."""
    return np.asarray((values.sum(axis=2) ** 2).sum(axis=1) - (values**2).sum(axis=(1, 2)))


def _slopes(table: Table, others: Reals, known: set[int]) -> _Slopes:
    gaps = np.tanh((others[:, :, None] - others[:, None, :]) / 2)  # expected signs
    together = (table.signs * gaps).sum(axis=(1, 2)) / 2
    most = (np.abs(table.signs) * gaps**2).sum(axis=(1, 2)) / 2
    most *= _calibration(table, together, most, known)
    by_chance = permutation_variance(table.signs, gaps, table.size)
    weight = table.by_rater(most)
    tested = table.by_rater(most > _NOTHING) >= LEAST_TASKS
    tested[list(known)] = False
    slope = np.divide(table.by_rater(together), weight, out=np.zeros_like(weight), where=tested)
    rows = tested[table.rater]
    apart = (together - slope[table.rater] * most)[rows]
    return _Slopes(
        np.flatnonzero(tested),
        slope[tested],
        weight[tested],
        np.sqrt(table.by_rater(by_chance)[tested]) / weight[tested],
        float(np.sqrt((apart**2).sum() / max(by_chance[rows].sum(), _NOTHING))),
    )


def _calibration(table: Table, together: Reals, most: Reals, known: set[int]) -> Reals:
    """Returns [N], how far signs go with the expected ones, over how far they do in the whole crowd.

    A consensus of one other rater promises more than it keeps, one of ten does not. So judgements are put
    together by how many others are heard; small groups stay near 1.
    """
    heard = np.isin(table.rater, list(known), invert=True).astype(np.float64)
    others = (table.by_task(heard)[table.task] - heard).astype(np.int64)
    overall = together.sum() / max(most.sum(), _NOTHING)
    if overall <= 0:
        return np.ones(len(most))
    neutral = _NEUTRAL_JUDGEMENTS * most.mean() + _NOTHING
    kept = np.maximum(np.bincount(others, together / overall), 0.0) + neutral
    return np.asarray((kept / (np.bincount(others, most) + neutral))[others])


def _short_of_honest(slopes: _Slopes) -> Reals:
    """Returns [Q], how many deviations each slope lies below the usual one.

    The usual slope is the crowd's median. How much honest raters differ, besides by chance, is read above it,
    where random clickers are not.
    """
    usual = _median(slopes.slope, slopes.weight)
    above = slopes.slope >= usual
    spread = _TO_DEVIATION * _median((slopes.slope - usual)[above], slopes.weight[above])
    by_chance = slopes.at_random * slopes.scatter
    between = max(spread**2 - _median(by_chance**2, slopes.weight), 0.0)
    return np.asarray((usual - slopes.slope) / np.sqrt(by_chance**2 + between + _NOTHING**2))


def _median(values: Reals, weight: Reals) -> float:
    """Returns the value with half of the weight below it."""
    ascending = np.argsort(values)
    below = np.cumsum(weight[ascending])
    return float(values[ascending][np.searchsorted(below, below[-1] / 2)])
