"""Strengths of answers from comparisons (Bradley & Terry 1952). Axes: T tasks, K answers. Logits."""

import numpy as np

from pilothouse.feedback.quality.table import Reals

PRECISION = 0.25
"""Of the normal prior of every strength around 0: a standard deviation of 2."""

_TOLERANCE = 1e-9
_MOST_STEPS = 100  # about ten are needed


def strengths(wins: Reals, precision: float = PRECISION) -> Reals:
    """Returns the strengths [T, K] of the largest posterior density; their mean in every task is 0.

    P(i beats j) = sigmoid(s_i - s_j), and s is normal around 0.

    Args:
        wins: [T, K, K] how often, or with what weight, the first answer beat the second; a tie is half a
            win of each.
        precision: Of the prior, above 0: the price is precision / 2 for every squared strength.
    """
    current = np.zeros(wins.shape[:2])
    for _ in range(_MOST_STEPS):
        step = newton_step(wins, current, precision)
        current = current + step
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    return current


def newton_step(wins: Reals, current: Reals, precision: float = PRECISION) -> Reals:
    """Returns the step [T, K] from ``current`` [T, K] upwards, each task for itself.

    The log-likelihood's third derivative is bounded by its second (logistic functions: Bach 2010). For such
    functions Newton's step d, shortened by log(1 + b) / b with b = sqrt(2) |d|, always ascends and still
    converges quadratically (Sun & Tran-Dinh 2019).
    """
    chance = sigmoid(current[:, :, None] - current[:, None, :])
    both = wins + wins.transpose(0, 2, 1)
    gradient = (wins - both * chance).sum(axis=2) - precision * current
    slopes = both * chance * (1 - chance)
    curvature = -slopes
    diagonal = np.arange(wins.shape[1])
    curvature[:, diagonal, diagonal] += slopes.sum(axis=2) + precision
    step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
    bound = np.sqrt(2 * (step**2).sum(axis=1, keepdims=True))
    return np.asarray(step * np.divide(np.log1p(bound), bound, out=np.ones_like(bound), where=bound > 0))


def sigmoid(logits: Reals) -> Reals:
    """1 / (1 + exp(-logits)), without overflow."""
    return np.asarray((1 + np.tanh(logits / 2)) / 2)
