"""Krippendorff's alpha of rankings (Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011).

Axes: U units, V values in ascending order, T tasks, N judgements, K answers.
"""

import math

import numpy as np

from pilothouse.feedback.quality.intervals import Estimate, bootstrap
from pilothouse.feedback.quality.table import Reals, Table, Whole


def coincidences(counts: Reals) -> Reals:
    """Returns [..., V, V], how often two values met in a unit; a unit of m values counts m (section C).

    Units with a single value do not count: a missing value is one that is not there.

    Args:
        counts: [..., U, V] how many raters gave each value to each unit.
    """
    several = counts.sum(axis=-1, keepdims=True)
    shares = np.divide(counts, several - 1, out=np.zeros_like(counts), where=several > 1)
    met = np.swapaxes(shares, -1, -2) @ counts
    itself = np.arange(counts.shape[-1])
    met[..., itself, itself] -= shares.sum(axis=-2)
    return np.asarray(met)


def ordinal_alpha(met: Reals) -> float:
    """Returns 1 - observed / expected disagreement for the ordinal metric; nan where values do not differ.

    It is 1 for perfect agreement, about 0 for judgements by chance, and less for systematic disagreement. The
    metric of two values, the square of how many values lie between them, each of them counting half, is the
    square of the difference of their places in the order of all values.

    Args:
        met: [V, V] coincidences.
    """
    many = met.sum(axis=1)
    places = np.cumsum(many) - many / 2
    metric = (places[:, None] - places) ** 2
    expected = float((np.outer(many, many) * metric).sum())
    observed = float((met * metric).sum()) * (float(many.sum()) - 1)
    return 1 - observed / expected if expected > 0 else math.nan


def alpha(table: Table) -> Estimate:
    """Returns ordinal alpha over the answers of all tasks, resampling tasks.

    A unit is an answer; its values are the ranks that the raters of its task gave it. Equal ranks take the
    mid-rank r, the mean of the places that they share: a ranking with ties then has the same mean as one
    without, where dense ranks would make two raters who agree about the worst answer differ about its rank.
    Ranks of tasks of different size are compared as shares of the way from the top, (r - 1/2) / K.
    """
    # 1 - 2 (r - 1/2) / K. Quotients of whole numbers: equal shares are equal to the last bit.
    from_bottom = table.margins / table.size[:, None]
    values, level = np.unique(from_bottom, return_inverse=True)
    blocks = [
        _block(table.task[rows], level.reshape(from_bottom.shape)[rows, :size], len(table.tasks))
        for size in np.unique(table.size)
        for rows in (table.size == size,)
    ]

    def resampled(counts: Reals) -> float:
        met = np.zeros((len(values), len(values)))
        for own, by_task in blocks:
            met[np.ix_(own, own)] += np.tensordot(counts, by_task, axes=1)
        return ordinal_alpha(met)

    return bootstrap(len(table.tasks), resampled)


def _block(task: Whole, level: Whole, tasks: int) -> tuple[Whole, Reals]:
    """Returns the values that tasks of one size use, [W] of V, and their coincidences by task, [T, W, W].

    Args:
        task: [N].
        level: [N, K] value of each answer.
        tasks: T.
    """
    own, place = np.unique(level, return_inverse=True)
    counts = np.zeros((tasks, level.shape[1], len(own)))
    np.add.at(counts, (task[:, None], np.arange(level.shape[1]), place.reshape(level.shape)), 1.0)
    return own, coincidences(counts)
