import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pilothouse.feedback.quality.distributions import (
    beta_binomial_tail,
    chi_square_tail,
    discoveries,
    normal_tail,
)


@given(st.floats(-8, 30))
def test_the_normal_tail(z: float) -> None:
    assert normal_tail(z) == pytest.approx(stats.norm.sf(z), rel=1e-9)


@given(st.floats(1e-6, 300), st.integers(1, 60))
def test_the_chi_square_tail(x: float, freedom: int) -> None:
    assert chi_square_tail(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-9)


def test_nothing_is_below_no_chi_square() -> None:
    assert chi_square_tail(0.0, 3) == 1.0


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.99), st.floats(1, 50))
def test_the_beta_binomial_tail(hits: int, more: int, mean: float, weight: float) -> None:
    trials = hits + more
    theirs = stats.betabinom.sf(hits - 1, trials, mean * weight, (1 - mean) * weight)
    assert beta_binomial_tail(hits, trials, mean, weight) == pytest.approx(theirs, rel=1e-6, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_discoveries_are_those_of_benjamini_and_hochberg(chances: list[float], level: float) -> None:
    adjusted = stats.false_discovery_control(chances)
    clear = np.abs(adjusted - level) > 1e-12
    believed = discoveries(dict(enumerate(chances)), len(chances), level)
    assert {index for index in believed if clear[index]} == set(np.flatnonzero((adjusted <= level) & clear))


def test_tests_that_were_passed_make_discoveries_harder() -> None:
    assert discoveries({7: 0.01}, 1, 0.05) == {7}
    assert discoveries({7: 0.01}, 10, 0.05) == set()
    assert discoveries({}, 10, 0.05) == set()
