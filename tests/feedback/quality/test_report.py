import math
from dataclasses import replace

import numpy as np
import pytest

from pilothouse.feedback.quality.consensus import TYPICAL
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.report import QualityReport, RaterQuality, measure, weights

from .crowd import simulate


def rater(report: QualityReport, name: str) -> RaterQuality:
    return next(each for each in report.raters if each.rater == name)


def test_the_order_of_the_judgements_does_not_matter() -> None:
    crowd = simulate(0, raters=30).judgements
    shuffled = [crowd[index] for index in np.random.default_rng(0).permutation(len(crowd))]
    assert repr(measure(crowd)) == repr(measure(shuffled))  # repr: nan is not equal to itself


def test_a_crowd_is_measured() -> None:
    crowd = simulate(0)
    report = measure(crowd.judgements)
    assert report.rankings == len(crowd.judgements)
    assert report.overlapping_tasks == len({item.task for item in crowd.judgements})
    assert 0 < report.alpha.low < report.alpha.value < report.alpha.high < 1
    assert 0.5 < report.pair_agreement.low < report.pair_agreement.value < report.pair_agreement.high < 0.8
    assert report.tau.value == pytest.approx(2 * report.pair_agreement.value - 1, abs=0.02)
    assert report.longer_preferred.low < 0.5 < report.longer_preferred.high
    assert sum(report.top_by_position) == pytest.approx(1)
    assert report.position_p_value < 0.05  # the raters who always take the first or the last
    assert math.isnan(report.gold_accuracy.value)
    honest = [each.agreement for each in report.raters if crowd.kinds[each.rater] == "honest"]
    assert 0.7 < np.mean(honest) < 0.8
    assert sum(each.rankings for each in report.raters) == report.rankings


def test_weights_are_reliabilities_and_suspects_have_none() -> None:
    crowd = simulate(0)
    report = measure(crowd.judgements)
    given = weights(report)
    assert given.keys() == crowd.kinds.keys()
    assert all(0 <= weight <= 1 for weight in given.values())
    for each in report.raters:
        assert given[each.rater] == (0 if each.suspicions else each.reliability)
    assert weights(measure([Judgement(task="t", rater="a", ranks=(1, 2))])) == {"a": TYPICAL}


def test_gold_pairs_are_counted_for_all_and_for_each() -> None:
    gold = (1, 2, 2)  # two pairs
    report = measure(
        [
            Judgement(task="g", rater="a", ranks=(1, 2, 3), gold=gold),
            Judgement(task="g", rater="b", ranks=(2, 1, 2), gold=gold),  # one pair wrong, one tied
            Judgement(task="t", rater="b", ranks=(2, 1, 2)),
        ]
    )
    assert report.gold_accuracy.value == pytest.approx(2.5 / 4)
    assert rater(report, "a").gold_accuracy == 1
    assert rater(report, "b").gold_accuracy == 0.25
    assert report.overlapping_tasks == 0
    assert math.isnan(report.alpha.value)


def test_a_rater_who_prefers_the_longer_answer_shows() -> None:
    report = measure(
        [
            Judgement(task="t", rater="a", ranks=(1, 2, 3), lengths=(30, 20, 20)),
            Judgement(task="u", rater="a", ranks=(1, 2, 2), lengths=(10, 20, 30)),
            Judgement(task="v", rater="a", ranks=(1, 2)),
        ]
    )
    assert report.longer_preferred.value == pytest.approx(2 / 4)


def test_drift_compares_the_second_half_of_the_work_with_the_first() -> None:
    judgements = []
    for task in range(40):
        judgements += [Judgement(task=f"t{task:02}", rater=name, ranks=(1, 2), at=task) for name in "ab"]
        ranks = (1, 2) if task < 20 else (2, 1)
        judgements.append(Judgement(task=f"t{task:02}", rater="c", ranks=ranks, at=task))
    tired = rater(measure(judgements), "c")
    assert tired.agreement == 0.5
    assert tired.drift == -1
    assert rater(measure(judgements), "a").drift == 0
    timeless = [replace(item, at=0.0) if item.rater == "c" else item for item in judgements]
    assert math.isnan(rater(measure(timeless), "c").drift)


def test_times_and_first_positions_of_a_rater() -> None:
    report = measure(
        [
            Judgement(task="t", rater="a", ranks=(2, 1), order=(1, 0), seconds=3),
            Judgement(task="u", rater="a", ranks=(2, 1), order=(0, 1), seconds=7),
            Judgement(task="v", rater="a", ranks=(1, 1), order=(0, 1), seconds=0),
            Judgement(task="t", rater="b", ranks=(1, 2)),
        ]
    )
    assert rater(report, "a").median_seconds == 5
    assert rater(report, "a").first_position_rate == pytest.approx(1.5 / 3)
    assert math.isnan(rater(report, "b").median_seconds)
    assert math.isnan(rater(report, "b").first_position_rate)


def test_nothing_gives_an_empty_report() -> None:
    report = measure([])
    assert (report.rankings, report.overlapping_tasks, report.raters) == (0, 0, ())
    assert report.top_by_position == ()
    assert all(math.isnan(each.value) for each in (report.alpha, report.pair_agreement, report.tau))


LONE = [Judgement(task=f"t{task}", rater="a", ranks=(1, 2, 3)) for task in range(40)]
APART = [replace(item, rater="ab"[index % 2]) for index, item in enumerate(LONE)]
TIES = [replace(item, rater=name, ranks=(1, 1, 1), order=(2, 0, 1)) for item in LONE for name in "abc"]


@pytest.mark.parametrize("judgements", [LONE, APART, TIES], ids=["one rater", "no overlap", "all ties"])
def test_what_cannot_be_known_is_undefined_and_nobody_is_accused(judgements: list[Judgement]) -> None:
    report = measure(judgements)
    assert math.isnan(report.alpha.value)
    assert math.isnan(report.pair_agreement.value)
    assert math.isnan(report.tau.value)
    assert all(math.isnan(each.agreement) and math.isnan(each.drift) for each in report.raters)
    assert not any(each.suspicions for each in report.raters)


def test_tasks_of_different_size_go_together() -> None:
    crowds = [simulate(0, raters=40, bad_share=0.0, answers=answers).judgements for answers in (2, 4, 9)]
    together = [
        replace(item, task=f"{index}-{item.task}") for index, crowd in enumerate(crowds) for item in crowd
    ]
    report, alone = measure(together), [measure(crowd) for crowd in crowds]
    assert len(report.top_by_position) == 9
    values = [each.pair_agreement.value for each in alone]
    assert min(values) < report.pair_agreement.value < max(values)
    assert 0.3 < report.alpha.value < 0.7
    assert np.mean([bool(each.suspicions) for each in report.raters]) <= 0.05
