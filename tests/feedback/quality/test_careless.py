from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.feedback.quality.careless import permutation_variance


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_variance_is_that_over_all_permutations(seed: int, size: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    ranks = rng.integers(0, 2, size) if tied else rng.permutation(size)
    signs = np.sign(ranks[None, :] - ranks[:, None]).astype(np.float64)
    strengths = rng.normal(0, 2, size)
    gaps = np.tanh((strengths[:, None] - strengths) / 2)
    sums = [(signs[np.ix_(order, order)] * gaps).sum() / 2 for order in map(list, permutations(range(size)))]
    padded = np.zeros((2, 1, 7, 7))
    padded[0, 0, :size, :size], padded[1, 0, :size, :size] = signs, gaps
    assert np.mean(sums) == pytest.approx(0, abs=1e-12)
    assert permutation_variance(*padded, np.array([size]))[0] == pytest.approx(np.var(sums), abs=1e-9)
