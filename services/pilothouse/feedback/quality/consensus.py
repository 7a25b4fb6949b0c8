"""What the crowd says of every answer, and how much each rater can be relied on.

A rater looks at a pair of answers with probability r, the rater's reliability, and then follows
Bradley-Terry; else a coin decides: P(i before j) = r sigmoid(s_i - s_j) + (1 - r) / 2. That is Crowd-BT (Chen
et al. 2013, "Pairwise Ranking Aggregation in a Crowdsourced Setting") with eta = (1 + r) / 2, without its
malicious raters. Axes: N judgements, K answers, T tasks, R raters.
"""

from dataclasses import dataclass

import numpy as np

from pilothouse.feedback.quality.bradley_terry import newton_step, sigmoid, strengths
from pilothouse.feedback.quality.table import Reals, Table

LOOKED, TOSSED = 8.0, 2.0
"""Beta prior of a reliability."""
TYPICAL = LOOKED / (LOOKED + TOSSED)
"""Reliability of a rater of whom nothing is known."""

_TOLERANCE = 1e-3
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Consensus:
    """The model, fitted."""

    strengths: Reals
    """[T, K] logits, 0 beyond a task's answers."""
    reliability: Reals
    """[R] in [0, 1]; nan where nobody else answered a task of the rater's."""


def fit(table: Table) -> Consensus:
    """Fits reliabilities and strengths by EM, in which nobody vouches for himself.

    The E-step computes for every pair the chance that the rater looked, from the strengths by the task's
    other raters: those with the rater's own votes in them would prove every rater right where a task has few.
    The M-step makes reliabilities of these chances, and takes one Newton step of all strengths, in which they
    weigh the votes. Ties count half each way. Tasks with a single rater say nothing of reliability.
    """
    votes, shared = table.votes, table.shared
    pairs = table.by_rater(votes.sum(axis=(1, 2)) * shared)
    reliability = np.full(len(table.raters), TYPICAL)
    looked = votes * TYPICAL
    others = np.zeros(votes.shape[:2])
    for _ in range(_MOST_ROUNDS):
        others = others + newton_step(table.by_task(looked)[table.task] - looked, others)
        chance = sigmoid(others[:, :, None] - others[:, None, :])
        r = reliability[table.rater][:, None, None]
        looked = votes * r * chance / (r * chance + (1 - r) / 2)
        before = reliability
        counted = table.by_rater(looked.sum(axis=(1, 2)) * shared)
        reliability = (counted + LOOKED - 1) / (pairs + LOOKED + TOSSED - 2)
        if np.abs(reliability - before).max(initial=0.0) < _TOLERANCE:
            break
    return Consensus(strengths(table.by_task(looked)), np.where(pairs > 0, reliability, np.nan))


def of_others(table: Table, weight: Reals) -> Reals:
    """Returns the strengths [N, K] that a task's other raters give its answers, for each of its judgements.

    Args:
        table: Judgements.
        weight: [N] of each judgement's votes, at least 0.
    """
    votes = table.votes * weight[:, None, None]
    return strengths(table.by_task(votes)[table.task] - votes)
