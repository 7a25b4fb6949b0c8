import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.position import (
    chance_by_position,
    creatures_of_habit,
    position_bias,
    top_by_position,
    unevenness,
)
from pilothouse.feedback.quality.table import tabulate


@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.booleans())
@settings(deadline=None, max_examples=50)
def test_the_test_is_friedmans_with_ties(seed: int, size: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3 if tied else 1000, (int(rng.integers(5, 30)), size))
    theirs = stats.friedmanchisquare(*rows.T)
    ranks = stats.rankdata(rows, axis=1)
    ours = unevenness(
        ranks - (size + 1) / 2, np.full(len(rows), size), np.zeros(len(rows), dtype=np.int64), 1
    )
    assert ours.chi_square[0] == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert ours.chance(0) == pytest.approx(theirs.pvalue, rel=1e-6)


def test_groups_and_sizes_are_kept_apart() -> None:
    values = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    found = unevenness(values, np.array([2, 3, 3, 3]), np.array([0, 0, 1, 2]), 3)
    np.testing.assert_allclose(found.chi_square, [1 + 2, 2, 0])
    np.testing.assert_array_equal(found.freedom, [1 + 2, 2, 0])
    np.testing.assert_allclose(found.explained, [1, 1, 0])
    assert math.isnan(found.chance(2))


def test_tops_are_counted_where_they_were_shown_and_ties_share() -> None:
    table = tabulate(
        [
            Judgement(task="t", rater="a", ranks=(1, 2, 3), order=(2, 1, 0)),
            Judgement(task="u", rater="a", ranks=(1, 1, 2), order=(0, 1, 2)),
            Judgement(task="v", rater="a", ranks=(2, 1), order=(0, 1)),
            Judgement(task="w", rater="a", ranks=(2, 1)),  # order unknown
        ]
    )
    assert top_by_position(table) == pytest.approx((0.5 / 3, 1.5 / 3, 1 / 2))
    assert chance_by_position(table) == pytest.approx(((1 / 3 + 1 / 3 + 1 / 2) / 3,) * 2 + (1 / 3,))
    assert top_by_position(tabulate([Judgement(task="t", rater="a", ranks=(1, 2))])) == ()


def test_position_bias_is_pearsons_chi_square_of_the_tops() -> None:
    tops = [0] * 30 + [1] * 14 + [2] * 16
    table = tabulate(
        [
            Judgement(
                task=f"t{task}",
                rater="a",
                ranks=tuple(1 if p == top else 2 for p in range(3)),
                order=(0, 1, 2),
            )
            for task, top in enumerate(tops)
        ]
    )
    assert position_bias(table) == pytest.approx(stats.chisquare([30, 14, 16]).pvalue, rel=1e-9)
    assert math.isnan(position_bias(tabulate([Judgement(task="t", rater="a", ranks=(1, 2))])))


def habit(rater: str, on_screen: tuple[int, ...], *, tasks: int, seed: int) -> list[Judgement]:
    rng = np.random.default_rng(seed)
    judgements = []
    for task in range(tasks):
        order = rng.permutation(len(on_screen))
        ranks = np.empty(len(on_screen), dtype=np.int64)
        ranks[order] = on_screen
        judgements.append(
            Judgement(task=f"t{task}", rater=rater, ranks=tuple(ranks.tolist()), order=tuple(order.tolist()))
        )
    return judgements


@pytest.mark.parametrize(
    "on_screen", [(1, 2), (2, 1, 1), (1, 2, 3, 4), (4, 3, 2, 1), (2, 1, 1, 2), (1, *[2] * 8)]
)
def test_any_fixed_pattern_is_found(on_screen: tuple[int, ...]) -> None:
    assert creatures_of_habit(tabulate(habit("a", on_screen, tasks=30, seed=0)), 0.01) == {0}


def test_few_tasks_and_ties_accuse_nobody() -> None:
    assert creatures_of_habit(tabulate(habit("a", (1, 2, 3, 4), tasks=2, seed=0)), 0.01) == set()
    assert creatures_of_habit(tabulate(habit("a", (1, 1, 1, 1), tasks=30, seed=0)), 0.01) == set()


def test_a_slight_leaning_in_long_work_is_no_habit() -> None:
    rng = np.random.default_rng(0)
    judgements = []
    for task in range(4000):
        order = rng.permutation(4)
        ranks = np.empty(4, dtype=np.int64)
        ranks[order] = np.arange(4) if rng.uniform() < 0.15 else rng.permutation(4)
        judgements.append(
            Judgement(
                task=f"t{task}", rater="a", ranks=tuple((ranks + 1).tolist()), order=tuple(order.tolist())
            )
        )
    assert position_bias(tabulate(judgements)) < 1e-9
    assert creatures_of_habit(tabulate(judgements), 0.01) == set()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_where_orders_are_not_shuffled_nothing_can_be_told(order: tuple[int, ...]) -> None:
    judgements = [
        Judgement(task=f"t{task}", rater=rater, ranks=(1, 2, 3), order=order)
        for task in range(50)
        for rater in "ab"
    ]
    assert creatures_of_habit(tabulate(judgements), 0.01) == set()
