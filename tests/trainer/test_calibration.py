import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from tests.trainer.judged import crowd, ranking

from pilothouse.trainer.calibration import TEMPERATURES, calibrate
from pilothouse.trainer.pairs import Pairs, independent_units, make_pairs


def _pairs(margins: list[float]) -> Pairs:
    values = np.array(margins)
    return Pairs(values, np.zeros(len(values)), np.arange(len(values)))


def _loss(margins: np.ndarray, temperature: float) -> float:
    return float(np.mean(np.log1p(np.exp(-margins / temperature))))


def test_a_model_that_is_right_as_often_as_it_is_confident_is_calibrated() -> None:
    found = calibrate(make_pairs(*crowd(4000, seed=0)))
    assert found.error.mean < 0.03
    assert found.temperature.low < 1 < found.temperature.high
    for row in found.table:
        assert row.confidence is not None
        assert row.accuracy is not None
        assert row.accuracy.low - 0.01 < row.confidence < row.accuracy.high + 0.01


@pytest.mark.parametrize("sharpness", [0.4, 2.5])
def test_the_best_temperature_is_that_of_the_least_loss_and_is_not_applied(sharpness: float) -> None:
    pairs = make_pairs(*crowd(2000, seed=1, sharpness=sharpness))
    found = calibrate(pairs)
    best = optimize.minimize_scalar(
        lambda log: _loss(pairs.margins, np.exp(log)), bounds=(-4, 4), method="bounded"
    )
    assert found.temperature.mean == pytest.approx(np.exp(best.x), rel=2e-3)
    assert found.temperature.low < 1 / sharpness < found.temperature.high
    assert found.loss == pytest.approx(_loss(pairs.margins, 1.0))
    assert found.loss_at_temperature == pytest.approx(best.fun, abs=1e-6)
    assert found.loss_at_temperature < found.loss


def test_the_error_is_the_weighted_gap_between_accuracy_and_confidence() -> None:
    found = calibrate(_pairs([2.0, 2.0, -2.0, 0.1, -0.1]))
    sure, unsure = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-0.1))
    expected = (3 * abs(2 / 3 - sure) + 2 * abs(1 / 2 - unsure)) / 5
    assert found.error.mean == pytest.approx(expected)
    assert [row.pairs for row in found.table] == [2, 0, 0, 3, 0]
    assert found.table[1].confidence is found.table[1].accuracy is None


@pytest.mark.parametrize(("margins", "end"), [([1.0, 3.0], 0), ([-1.0, -3.0], 1), ([0.0, 0.0], 1)])
def test_without_a_finite_best_temperature_an_end_of_the_range_is_told(
    margins: list[float], end: int
) -> None:
    assert calibrate(_pairs(margins)).temperature.mean == pytest.approx(TEMPERATURES[end])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8))
def test_any_margins_give_finite_figures(margins: list[float]) -> None:
    found = calibrate(_pairs(margins))
    assert 0 <= found.error.low <= found.error.high <= 1
    assert TEMPERATURES[0] * 0.999 <= found.temperature.mean <= TEMPERATURES[1] * 1.001
    assert found.loss_at_temperature <= found.loss + 1e-6 or not 0.02 < found.temperature.mean < 50


def test_the_rankings_of_a_prompt_are_one_unit_unless_all_have_the_same() -> None:
    items = [ranking(7, (3, 4), (1, 2)), ranking(8, (3, 4), (1, 2)), ranking(7, (5, 6), (1, 2))]
    assert independent_units(items) == [0, 1, 0]
    assert independent_units([items[0], items[2]]) == [0, 1]


def test_tied_pairs_are_none() -> None:
    pairs = make_pairs([np.array([1.0, 0.0, 3.0])], [ranking(0, (2, 5, 9), (1, 1, 2))])
    assert sorted(pairs.margins) == [-3.0, -2.0]
    assert sorted(pairs.longer) == [-7.0, -4.0]
