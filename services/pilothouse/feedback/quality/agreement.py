"""How well two raters of a task agree. The caller leaves out gold tasks, which everybody answers."""

import numpy as np

from pilothouse.feedback.quality.intervals import Estimate, ratio
from pilothouse.feedback.quality.table import Table


def pair_agreement(table: Table) -> Estimate:
    """Returns the share of pairs that two raters put in the same order, over pairs that neither ties.

    Every two raters of a task count. Where a raters prefer one answer and b the other, that is
    C(a, 2) + C(b, 2) of C(a + b, 2) comparisons.
    """
    ahead = table.by_task(np.maximum(table.signs, 0.0))  # [T, K, K] raters who prefer the first
    behind = ahead.transpose(0, 2, 1)
    both = ahead + behind
    # Every pair of answers lies twice in the table, at both ends of the sum: the ratio is the same.
    same = (ahead * (ahead - 1) + behind * (behind - 1)).sum(axis=(1, 2))
    return ratio(same, (both * (both - 1)).sum(axis=(1, 2)))


def kendall_tau(table: Table) -> Estimate:
    """Returns the mean Kendall tau-b (Kendall 1945) over every two raters of a task, in all tasks.

    tau-b is the cosine between two raters' signs of all pairs. A rater who ties all answers of a task has
    none and does not count there.
    """
    untied = np.abs(table.signs).sum(axis=(1, 2))
    speaks = (untied > 0).astype(np.float64)
    unit = table.signs / np.sqrt(np.maximum(untied, 1.0))[:, None, None]
    raters = table.by_task(speaks)
    # The square of a sum of unit vectors is their number plus twice the sum of all cosines.
    cosines = ((table.by_task(unit) ** 2).sum(axis=(1, 2)) - raters) / 2
    return ratio(cosines, raters * (raters - 1) / 2)
