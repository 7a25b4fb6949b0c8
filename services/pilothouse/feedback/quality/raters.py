"""What is known of each rater. Axes: N judgements, K answers, R raters; nan where nothing is known."""

import numpy as np

from pilothouse.feedback.quality.position import tops
from pilothouse.feedback.quality.table import Reals, Table

_TIED = 1e-6  # closer strengths are the same up to rounding


def consensus_pairs(table: Table, others: Reals) -> tuple[Reals, Reals]:
    """Returns how many pairs each judgement orders as the others do, and how many neither ties, [N].

    Args:
        table: Judgements.
        others: [N, K] strengths by the other raters of each judgement's task.
    """
    gaps = others[:, :, None] - others[:, None, :]
    agrees = table.signs * np.sign(gaps) * (np.abs(gaps) > _TIED)
    return np.maximum(agrees, 0.0).sum(axis=(1, 2)) / 2, np.abs(agrees).sum(axis=(1, 2)) / 2


def share(table: Table, tops: Reals, bottoms: Reals) -> Reals:
    """Returns [R], each rater's sum of ``tops`` over that of ``bottoms``, both [N]."""
    below = table.by_rater(bottoms)
    return np.asarray(
        np.divide(table.by_rater(tops), below, out=np.full(len(below), np.nan), where=below > 0)
    )


def drift(table: Table, same: Reals, pairs: Reals) -> Reals:
    """Returns [R], agreement in the second half of a rater's work minus that in the first.

    The halves are of the judgements that can be compared with others and whose time is known; of an odd
    number the second has one more.

    Args:
        table: Judgements.
        same: [N] pairs ordered as the others do.
        pairs: [N] pairs compared.
    """
    rows = np.lexsort((table.task, table.at, table.rater))
    rows = rows[(pairs[rows] > 0) & (table.at[rows] != 0)]
    rater = table.rater[rows]
    many = np.bincount(rater, minlength=len(table.raters))[rater]
    nth = np.arange(len(rows)) - np.searchsorted(rater, rater)
    late = np.zeros(len(pairs), dtype=np.bool_)
    late[rows] = nth >= many // 2
    return share(table, same * late, pairs * late) - share(table, same * ~late, pairs * ~late)


def first_position_rate(table: Table) -> Reals:
    """Returns [R], the share of rankings in which the first answer shown is at the top, ties shared."""
    return share(table, tops(table)[:, 0] * table.shown, table.shown.astype(np.float64))


def median_seconds(table: Table) -> Reals:
    """Returns [R], the median time of a ranking."""
    timed = table.seconds > 0
    rater, seconds = table.rater[timed], table.seconds[timed]
    return np.array(
        [
            np.median(seconds[rater == index]) if (rater == index).any() else np.nan
            for index in range(len(table.raters))
        ]
    )
