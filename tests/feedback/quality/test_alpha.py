"""Krippendorff's alpha against a slow computation of its definition, itself held to published digits."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.feedback.quality.alpha import alpha, coincidences, ordinal_alpha
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.table import tabulate

# Krippendorff 2011, section C: four observers, twelve units; 0 is missing.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
EXAMPLE = [[value for value in unit if value] for unit in zip(*OBSERVERS, strict=True)]


def slow_alpha(units: list[list[float]], metric: str) -> float:
    """Alpha by its definition: the mean difference within units over that between any two values."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]

    def difference(one: float, other: float) -> float:
        low, high = min(one, other), max(one, other)
        if metric == "nominal":
            return float(one != other)
        if metric == "interval":
            return (one - other) ** 2
        between = sum(low <= value <= high for value in values)
        return (between - (values.count(low) + values.count(high)) / 2) ** 2 if one != other else 0.0

    within = sum(
        sum(difference(one, other) for one, other in permutations(unit, 2)) / (len(unit) - 1)
        for unit in units
    )
    overall = sum(difference(one, other) for one, other in permutations(values, 2)) / (len(values) - 1)
    return 1 - within / overall if overall else math.nan


def fast_alpha(units: list[list[float]]) -> float:
    values = sorted({value for unit in units for value in unit})
    counts = np.array([[unit.count(value) for value in values] for unit in units], dtype=np.float64)
    return ordinal_alpha(coincidences(counts))


@pytest.mark.parametrize(
    ("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_the_slow_computation_gives_the_published_digits(metric: str, published: float) -> None:
    assert round(slow_alpha(EXAMPLE, metric), 3) == published


def test_the_published_example() -> None:
    assert round(fast_alpha(EXAMPLE), 3) == 0.815
    assert fast_alpha(EXAMPLE) == pytest.approx(slow_alpha(EXAMPLE, "ordinal"), abs=1e-12)


@given(st.lists(st.lists(st.integers(1, 6), min_size=0, max_size=5), min_size=1, max_size=12))
@settings(deadline=None)
def test_alpha_is_its_definition(units: list[list[float]]) -> None:
    slow = slow_alpha(units, "ordinal") if any(len(unit) > 1 for unit in units) else math.nan
    assert fast_alpha(units) == pytest.approx(slow, abs=1e-9, nan_ok=True)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_alpha_of_rankings_takes_mid_ranks_as_shares_of_the_way_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    judgements, units = [], []
    for task in range(rng.integers(1, 8)):
        size = int(rng.integers(2, 6))
        all_ranks = rng.integers(1, size + 1, (rng.integers(1, 5), size))
        judgements += [
            Judgement(task=f"t{task}", rater=f"r{rater}", ranks=tuple(ranks.tolist()))
            for rater, ranks in enumerate(all_ranks)
        ]
        for answer in range(size):
            below = (all_ranks < all_ranks[:, [answer]]).sum(axis=1)
            tied = (all_ranks == all_ranks[:, [answer]]).sum(axis=1)
            units.append(((below + tied / 2) / size).tolist())  # (r - 1/2) / K
    slow = slow_alpha(units, "ordinal") if any(len(unit) > 1 for unit in units) else math.nan
    assert alpha(tabulate(judgements)).value == pytest.approx(slow, abs=1e-9, nan_ok=True)


def rankings(*by_rater: tuple[int, ...], task: str = "t") -> list[Judgement]:
    return [Judgement(task=task, rater=f"r{index}", ranks=ranks) for index, ranks in enumerate(by_rater)]


def test_raters_who_agree_have_alpha_one_and_opposite_ones_less_than_none() -> None:
    assert alpha(tabulate(rankings((1, 2, 3), (1, 2, 3)))).value == 1
    assert alpha(tabulate(rankings((1, 2, 3), (3, 2, 1)))).value < 0


def test_the_interval_covers_the_value_and_narrows_with_more_tasks() -> None:
    rng = np.random.default_rng(0)

    def crowd(tasks: int) -> list[Judgement]:
        return [
            Judgement(
                task=f"t{task}",
                rater=f"r{rater}",
                ranks=tuple((rng.permutation(3) if rater else np.arange(3)).tolist()),
            )
            for task in range(tasks)
            for rater in range(3)
        ]

    few, many = alpha(tabulate(crowd(20))), alpha(tabulate(crowd(500)))
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(
    "judgements", [[], rankings((1, 2)), rankings((1, 1), (1, 1))], ids=["none", "one rater", "all ties"]
)
def test_alpha_without_anything_to_compare_is_undefined(judgements: list[Judgement]) -> None:
    assert math.isnan(alpha(tabulate(judgements)).value)
