"""Tails of the distributions that the tests of raters need, and which of many tests to believe."""

import math


def discoveries(chances: dict[int, float], tests: int, level: float) -> set[int]:
    """Returns which of many tests to believe: of these at most ``level`` are false on average.

    Benjamini & Hochberg 1995: with the k-th smallest chance, all smaller ones too if it is at most level k /
    tests. In a crowd without bad raters anybody is accused with a chance of at most ``level``.

    Args:
        chances: Chance of as much evidence or more against an innocent, by rater. Tests that are not in it
            count as passed.
        tests: How many tests were made.
        level: In (0, 1).
    """
    ascending = sorted(chances, key=lambda index: (chances[index], index))
    believed = [k for k, index in enumerate(ascending, 1) if chances[index] <= level * k / tests]
    return set(ascending[: max(believed, default=0)])


def normal_tail(z: float) -> float:
    """P(Z >= z) of a standard normal."""
    return math.erfc(z / math.sqrt(2)) / 2


def chi_square_tail(x: float, freedom: int) -> float:
    """P(X >= x) of a chi-square with ``freedom`` degrees of freedom, at least 1.

    Abramowitz & Stegun 26.4.4 and 26.4.5: half of x to the powers 0, 1, ... or 1/2, 3/2, ... over their
    gammas.
    """
    if x <= 0:
        return 1.0
    half, power = x / 2, freedom / 2 - 1
    tail = math.erfc(math.sqrt(half)) if freedom % 2 else 0.0
    while power >= 0:
        tail += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
        power -= 1
    return min(tail, 1.0)


def beta_binomial_tail(hits: int, trials: int, mean: float, weight: float) -> float:
    """P(X >= hits) of so many trials whose common chance is itself drawn from a beta distribution.

    Args:
        hits: 0 to ``trials``.
        trials: How many.
        mean: Of the chance, strictly between 0 and 1.
        weight: Sum of the beta distribution's parameters: how many earlier trials the mean is worth.
    """
    a, b = mean * weight, (1 - mean) * weight
    base = math.lgamma(trials + 1) - _log_beta(a, b)
    return min(
        sum(
            math.exp(
                base - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + _log_beta(k + a, trials - k + b)
            )
            for k in range(hits, trials + 1)
        ),
        1.0,
    )


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
