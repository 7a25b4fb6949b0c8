import choix
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.feedback.quality.bradley_terry import strengths
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.table import tabulate

Reals = npt.NDArray[np.float64]


def by_choix(wins: Reals, precision: float) -> Reals:
    """choix wants whole wins, and its alpha is the price of a square: everything is counted twice."""
    data = [(i, j) for i in range(len(wins)) for j in range(len(wins)) for _ in range(round(2 * wins[i, j]))]
    return np.asarray(choix.opt_pairwise(len(wins), data, alpha=precision, method="Newton-CG", tol=1e-10))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.25, 1.0]))
@settings(deadline=None, max_examples=25)
def test_strengths_are_those_of_choix(seed: int, precision: float) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 10))
    table = tabulate(
        [
            Judgement(task="t", rater=f"r{rater}", ranks=tuple(rng.integers(1, size + 1, size).tolist()))
            for rater in range(rng.integers(1, 6))
        ]
    )
    wins = table.by_task(table.votes)
    np.testing.assert_allclose(strengths(wins, precision)[0], by_choix(wins[0], precision), atol=1e-4, rtol=0)


def test_a_task_is_not_moved_by_another() -> None:
    one, other = np.array([[[0.0, 3.0], [1.0, 0.0]]]), np.array([[[0.0, 0.0], [9.0, 0.0]]])
    np.testing.assert_allclose(strengths(np.concatenate([one, other]))[0], strengths(one)[0], atol=1e-9)


@pytest.mark.parametrize("precision", [1e-3, 0.25])
def test_a_hundred_raters_of_one_mind_give_finite_strengths(precision: float) -> None:
    wins = 100 * np.triu(np.ones((9, 9)), 1)
    fitted = strengths(wins[None], precision)[0]
    assert np.isfinite(fitted).all()
    assert (np.diff(fitted) < 0).all()
    gaps = fitted[:, None] - fitted
    gradient = (wins - (wins + wins.T) / (1 + np.exp(-gaps))).sum(axis=1) - precision * fitted
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_ties_and_no_votes_give_no_difference() -> None:
    np.testing.assert_array_equal(strengths(np.zeros((2, 3, 3))), np.zeros((2, 3)))
    np.testing.assert_array_equal(strengths(np.full((1, 3, 3), 0.5)), np.zeros((1, 3)))
