"""Whether ranks follow from where answers stood on the screen. Orders are shuffled for every rater."""

import math
from dataclasses import dataclass

import numpy as np

from pilothouse.feedback.quality.distributions import chi_square_tail, discoveries
from pilothouse.feedback.quality.table import Reals, Table, Whole

HABIT = 0.1
"""Share of the spread of a rater's ranks that places must explain before it is called a habit. A fixed
pattern in one of three tasks explains 1/9. Less is a leaning, and in long work any leaning is significant."""


@dataclass(frozen=True, slots=True, eq=False)
class Unevenness:
    """Friedman's test (1937) of whether all places get the same values, for each of G groups of rows."""

    chi_square: Reals
    """[G]."""
    freedom: Whole
    """[G] degrees of freedom; 0 without rows that differ between places."""
    explained: Reals
    """[G] share of the spread within rows that places explain, Kendall's W; 0 without rows."""

    def chance(self, group: int) -> float:
        """How likely so much or more is if values fall on places at random; nan where nothing is known."""
        freedom = int(self.freedom[group])
        return chi_square_tail(float(self.chi_square[group]), freedom) if freedom else math.nan


def unevenness(values: Reals, size: Whole, group: Whole, groups: int) -> Unevenness:
    """Tests each group of rows; rows of different size add up.

    With ranks this is Friedman's statistic corrected for ties, with one top of each row Pearson's chi-square.

    Args:
        values: [N, K], centred: every row sums to 0, and is 0 beyond its size.
        size: [N] how many places a row has.
        group: [N] of each row.
        groups: How many groups, G.
    """
    chi_square, most = np.zeros(groups), np.zeros(groups)
    freedom = np.zeros(groups, dtype=np.int64)
    for places in np.unique(size):
        rows = (size == places) & values.any(axis=1)
        sums = np.zeros((groups, places))
        np.add.at(sums, group[rows], values[rows, :places])
        spread = np.bincount(group[rows], weights=(values[rows] ** 2).sum(axis=1), minlength=groups)
        known = spread > 0
        chi_square[known] += (places - 1) * (sums[known] ** 2).sum(axis=1) / spread[known]
        freedom += (places - 1) * known
        most += (places - 1) * np.bincount(group[rows], minlength=groups)
    return Unevenness(chi_square, freedom, chi_square / np.maximum(most, 1.0))


def tops(table: Table) -> Reals:
    """Returns [N, K]: each rater's top answer as 1, several sharing it evenly, in the order shown."""
    best = ((table.signs >= 0).all(axis=2) & table.answers).astype(np.float64)
    return table.as_shown(best / best.sum(axis=1, keepdims=True))


def top_by_position(table: Table) -> tuple[float, ...]:
    """Returns each shown position's share of tops, over the rankings that show so many answers.

    Empty where no order is known.
    """
    counted = table.answers & table.shown[:, None]
    shares = tops(table)
    return tuple(
        float(shares[counted[:, place], place].mean())
        for place in range(counted.shape[1])
        if counted[:, place].any()
    )


def chance_by_position(table: Table) -> tuple[float, ...]:
    """Returns what `top_by_position` is expected to be without bias: 1/K, averaged over the same rankings."""
    counted = table.answers & table.shown[:, None]
    return tuple(
        float((1 / table.size[counted[:, place]]).mean())
        for place in range(counted.shape[1])
        if counted[:, place].any()
    )


def position_bias(table: Table) -> float:
    """Returns how likely tops so uneven are if nobody minds positions; nan where no order is known."""
    even = table.answers / table.size[:, None]
    rows = table.shown
    everybody = np.zeros(int(rows.sum()), dtype=np.int64)
    return unevenness((tops(table) - even)[rows], table.size[rows], everybody, 1).chance(0)


def creatures_of_habit(table: Table, level: float) -> set[int]:
    """Returns the raters whose ranks follow shown positions: always the first, as shown, and the like.

    Their ranks are uneven over positions beyond chance. Positions also explain at least `HABIT` of their
    spread, and more than the answers' own places in the task do: where orders are not shuffled both are the
    same, and nothing can be told.

    Args:
        table: Judgements.
        level: Share of the accused that may be innocent.
    """
    rows, raters = table.shown, len(table.raters)
    size, rater = table.size[rows], table.rater[rows]
    on_screen = unevenness(table.as_shown(table.margins)[rows], size, rater, raters)
    in_task = unevenness(table.margins[rows], size, rater, raters)
    steady = (on_screen.explained >= HABIT) & (on_screen.explained > in_task.explained)
    chances = {index: on_screen.chance(index) for index in np.flatnonzero(steady).tolist()}
    return discoveries(chances, int((on_screen.freedom > 0).sum()), level)
