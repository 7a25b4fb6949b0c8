import numpy as np
import pytest
from scipy import stats

from pilothouse.trainer.statistics import mean_interval, ratio_interval, smooth, sums_interval


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 80)
    ours = mean_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=1, n_resamples=10_000
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.count == 80


def test_the_same_seed_gives_the_same_interval() -> None:
    assert mean_interval([1.0, 2.0, 5.0], seed=3) == mean_interval([1.0, 2.0, 5.0], seed=3)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(0, 5, 60)
    after = before + generator.normal(0.5, 0.1, 60)
    paired = mean_interval(after - before)
    assert paired.low > 0.4
    assert paired.high - paired.low < 0.1


def test_groups_are_resampled_whole() -> None:
    many = ratio_interval(
        [4.0, 0.0] * 20, [4.0, 4.0] * 20
    )  # as if 160 answers, but only 40 independent groups
    assert many.mean == 0.5
    assert many.high - many.low > 0.25


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_nothing_and_nan_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"need|finite"):
        mean_interval(values)


def test_smoothing_starts_at_the_first_value_and_follows() -> None:
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    curve = smooth([0.0] * 5 + [1.0] * 20)
    assert 0 < curve[6] < curve[-1] <= 1


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_an_interval_of_sums_agrees_with_that_of_the_ratio() -> None:
    generator = np.random.default_rng(0)
    rows = np.stack([generator.normal(1, 1, 90), generator.uniform(1, 3, 90)], axis=1)
    units = np.repeat(np.arange(30), 3)
    found = sums_interval(rows, _ratio, units=units)
    groups = rows.reshape(30, 3, 2).sum(axis=1)
    expected = ratio_interval(groups[:, 0], groups[:, 1])
    assert found is not None
    assert found.mean == pytest.approx(expected.mean)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.count == 30


def test_a_statistic_that_is_undefined_for_the_sample_has_no_interval() -> None:
    assert sums_interval(np.zeros((4, 2)), _ratio, units=[0, 1, 2, 3]) is None
    assert sums_interval(np.zeros((0, 2)), _ratio, units=[]) is None


def test_resamples_in_which_a_statistic_is_undefined_do_not_count() -> None:
    found = sums_interval(np.array([[1.0, 1.0], [0.0, 0.0]]), _ratio, units=[0, 1])
    assert found is not None
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
