import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pilothouse.feedback.quality.agreement import kendall_tau, pair_agreement
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.table import tabulate


def crowd(*tasks: list[tuple[int, ...]]) -> list[Judgement]:
    return [
        Judgement(task=f"t{task}", rater=f"r{rater}", ranks=ranks)
        for task, of_task in enumerate(tasks)
        for rater, ranks in enumerate(of_task)
    ]


def test_hand_table_of_two_raters() -> None:
    table = tabulate(crowd([(1, 2, 3, 4), (2, 1, 3, 4)]))
    assert pair_agreement(table).value == pytest.approx(5 / 6, abs=1e-9)
    assert kendall_tau(table).value == pytest.approx((5 - 1) / 6, abs=1e-9)


def test_hand_table_with_ties_and_two_tasks() -> None:
    # First task: of 5 pairs that neither ties 4 agree; tau-b (4 - 1) / sqrt(5 * 6). Second: 0 of 1, tau -1.
    table = tabulate(crowd([(1, 1, 3, 4), (1, 2, 4, 3)], [(1, 2), (2, 1)]))
    assert pair_agreement(table).value == pytest.approx(4 / 6, abs=1e-9)
    assert kendall_tau(table).value == pytest.approx((3 / math.sqrt(30) - 1) / 2, abs=1e-9)


def test_hand_table_of_three_raters() -> None:
    # Pairs of raters: equal, two swapped twice.
    table = tabulate(crowd([(1, 2, 3), (1, 2, 3), (2, 1, 3)]))
    assert pair_agreement(table).value == pytest.approx((3 + 2 + 2) / 9, abs=1e-9)
    assert kendall_tau(table).value == pytest.approx((1 + 1 / 3 + 1 / 3) / 3, abs=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_both_are_means_over_all_two_raters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(rng.integers(1, 6)):
        size = int(rng.integers(2, 10))
        tasks.append([tuple(rng.integers(1, size + 1, size).tolist()) for _ in range(rng.integers(1, 5))])
    taus, same, compared = [], 0, 0
    for one, other in (each for of_task in tasks for each in combinations(of_task, 2)):
        if len(set(one)) > 1 and len(set(other)) > 1:
            taus.append(stats.kendalltau(one, other, variant="b").statistic)
        for i, j in combinations(range(len(one)), 2):
            signs = np.sign(one[i] - one[j]) * np.sign(other[i] - other[j])
            same += signs > 0
            compared += signs != 0
    table = tabulate(crowd(*tasks))
    expected_tau = float(np.mean(taus)) if taus else math.nan
    assert kendall_tau(table).value == pytest.approx(expected_tau, abs=1e-9, nan_ok=True)
    expected_share = same / compared if compared else math.nan
    assert pair_agreement(table).value == pytest.approx(expected_share, abs=1e-9, nan_ok=True)


def test_the_interval_resamples_tasks() -> None:
    # Two kinds of tasks, all agreed or none: with twelve pairs a task the pairs are far from independent.
    table = tabulate(crowd(*([[(1, 2, 3, 4), (1, 2, 3, 4)], [(1, 2, 3, 4), (4, 3, 2, 1)]] * 20)))
    agreement = pair_agreement(table)
    assert agreement.value == 0.5
    theirs = stats.bootstrap(
        ([1.0, 0.0] * 20,), np.mean, method="percentile", rng=1, n_resamples=10_000
    ).confidence_interval
    assert (agreement.low, agreement.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
