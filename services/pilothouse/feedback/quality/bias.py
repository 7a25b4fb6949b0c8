"""Pairs whose right or suspect order is known without raters: gold tasks, and the lengths of answers."""

import numpy as np

from pilothouse.feedback.quality.intervals import Estimate, ratio
from pilothouse.feedback.quality.table import Reals, Table


def gold_pairs(table: Table) -> tuple[Reals, Reals]:
    """Returns [N], gold pairs that each judgement orders right, a tie counting half, and [N], gold pairs."""
    untied = np.abs(table.gold)
    right = untied * (1 + table.gold * table.signs) / 2
    return right.sum(axis=(1, 2)) / 2, untied.sum(axis=(1, 2)) / 2


def gold_accuracy(table: Table) -> Estimate:
    """Returns the share of gold pairs ordered right, resampling tasks. Chance is 1/2."""
    right, pairs = gold_pairs(table)
    return ratio(table.by_task(right), table.by_task(pairs))


def longer_preferred(table: Table) -> Estimate:
    """Returns the share of pairs in which the longer answer was preferred, resampling tasks.

    Pairs that the rater ties and pairs of the same length do not count. It is 1/2 where length means nothing.
    """
    agrees = table.longer * table.signs
    longer = np.maximum(agrees, 0.0).sum(axis=(1, 2))
    return ratio(table.by_task(longer), table.by_task(np.abs(agrees).sum(axis=(1, 2))))
