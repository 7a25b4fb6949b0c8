"""Raters whose rankings are another rater's."""

from dataclasses import dataclass

import numpy as np

from pilothouse.feedback.quality.distributions import beta_binomial_tail, discoveries
from pilothouse.feedback.quality.table import Reals, Table, Whole

LEAST_SHARED = 8
"""Tasks that one rater must have answered after the other before the two are compared."""
HABIT = 0.5
"""Least share of identical rankings of a copier."""
STEADINESS = 15.0
"""Two independent raters' own rate of identical rankings scatters around the expected one as if it had been
drawn in so many tasks: two alike in taste are not accused."""

_NEUTRAL = 5.0  # identical rankings, as many as expected, that two raters are taken to have had with others


@dataclass(frozen=True, slots=True, eq=False)
class _Meetings:
    """Two raters' rankings of one task. Axis: M meetings."""

    earlier: Whole
    """[M] the rater who answered first."""
    later: Whole
    """[M] the other."""
    apart: Reals
    """[M] seconds between them; 0 where either time is unknown."""
    same: Reals
    """[M] 1 where the rankings are identical."""
    expected: Reals
    """[M] the crowd's share of identical rankings of so many answers."""


def copiers(table: Table, level: float) -> set[int]:
    """Returns the raters who copied another's ranks; the one who answered later is the copier.

    Among the tasks that one rater answered after another, at least `HABIT` are ranked identically, and so
    many are beyond chance, beta-binomial around the expected rate. What is expected of two raters is how
    often either gives the same ranking as others do, so that raters of easy tasks are not accused. Gold tasks
    and rankings that tie everything do not count. Where all raters of a task copy the same one, nothing can
    be told.

    Args:
        table: Judgements.
        level: Share of the accused that may be innocent.
    """
    met = _meetings(table)
    raters = len(table.raters)
    follows = met.apart > 0
    followed = (met.later * raters + met.earlier)[follows]
    pairs, pair = np.unique(followed, return_inverse=True)
    tasks = np.bincount(pair, minlength=len(pairs))
    same = np.bincount(pair, met.same[follows], len(pairs))
    rate = np.bincount(pair, _independent_rate(met, raters)[follows], len(pairs)) / np.maximum(tasks, 1)
    rate = np.clip(rate, 0.01, 0.99)
    compared = tasks >= LEAST_SHARED
    chances = {
        index: beta_binomial_tail(int(same[index]), int(tasks[index]), float(rate[index]), STEADINESS)
        for index in np.flatnonzero(compared & (same >= HABIT * tasks)).tolist()
    }
    return {int(pairs[index]) // raters for index in discoveries(chances, int(compared.sum()), level)}


def _independent_rate(met: _Meetings, raters: int) -> Reals:
    """Returns [M], how often the two raters of a meeting would rank identically if they were independent.

    The crowd's rate, times how much more often than it either ranks as a third does.
    """
    pair = np.minimum(met.earlier, met.later) * raters + np.maximum(met.earlier, met.later)
    _, number = np.unique(pair, return_inverse=True)

    def with_others(values: Reals) -> Reals:
        both = np.concatenate([met.earlier, met.later])
        of_rater = np.bincount(both, np.concatenate([values, values]), raters)
        of_pair = np.bincount(number, values)[number]
        return np.asarray(of_rater[met.earlier] + of_rater[met.later] - 2 * of_pair + _NEUTRAL)

    return np.asarray(met.expected * with_others(met.same) / with_others(met.expected))


def _meetings(table: Table) -> _Meetings:
    """Lines every judgement up with the later ones of its task."""
    rows = np.flatnonzero(table.signs.any(axis=(1, 2)) & ~table.is_gold)
    task = table.task[rows]
    better = (table.signs[rows] < 0).sum(axis=2)  # [N, K] answers preferred to each: equal for the same ranks
    code = better @ (table.signs.shape[1] ** np.arange(table.signs.shape[1]))
    first, second = [], []
    for step in range(1, int(np.bincount(task, minlength=1).max(initial=0))):
        left = np.flatnonzero(task[:-step] == task[step:])
        first.append(left)
        second.append(left + step)
    one, two = (np.concatenate([np.zeros(0, dtype=np.int64), *each]) for each in (first, second))
    same = (code[one] == code[two]).astype(np.float64)
    _, kind = np.unique(table.size[rows[one]], return_inverse=True)
    known = (table.at[rows[one]] != 0) & (table.at[rows[two]] != 0)
    usual = np.bincount(kind, weights=same) / np.maximum(np.bincount(kind), 1)
    return _Meetings(
        table.rater[rows[one]],
        table.rater[rows[two]],
        (table.at[rows[two]] - table.at[rows[one]]) * known,
        same,
        usual[kind],
    )
