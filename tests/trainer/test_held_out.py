import json
import math

import numpy as np
from tests.trainer.judged import crowd, ranking

from pilothouse.trainer.held_out import held_out_report
from pilothouse.trainer.rankings import accuracy_from_json


def test_the_report_is_json_from_which_the_accuracy_is_read_back() -> None:
    report = held_out_report(*crowd(100, seed=0))
    body = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert accuracy_from_json(body) == report.accuracy
    assert body["agreement"] is None
    assert body["calibration"]["temperature"]["mean"] == report.calibration.temperature.mean


def test_one_pair_is_enough_for_a_report() -> None:
    report = held_out_report([np.array([1.0, 0.0], np.float32)], [ranking(0, (3, 3), (1, 2))])
    body = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert body["overall"] == {"mean": 1.0, "low": None, "high": None, "count": 1}
    assert body["length"]["pearson"] is None
    assert math.isfinite(body["calibration"]["loss_at_temperature"])


def test_weights_of_training_do_not_change_the_report() -> None:
    scores, items = crowd(30, seed=1)
    light = [ranking(int(item.sequences[0][0]), [1, 2], item.ranks, weight=0.1) for item in items]
    full = [ranking(int(item.sequences[0][0]), [1, 2], item.ranks) for item in items]
    assert held_out_report(scores, light).to_json() == held_out_report(scores, full).to_json()


def test_raters_of_the_same_prompt_widen_the_interval() -> None:
    scores, items = crowd(40, seed=2)
    many, once = held_out_report(scores * 9, items * 9).accuracy, held_out_report(scores, items).accuracy
    assert many.overall == once.overall
    assert many.pairs == 9 * once.pairs
