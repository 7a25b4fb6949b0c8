"""Bad raters of a simulated crowd are found after 30 items of K = 4 at overlap 3; honest ones are not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pilothouse.feedback.quality.agreement import pair_agreement
from pilothouse.feedback.quality.consensus import fit
from pilothouse.feedback.quality.suspects import find_suspects
from pilothouse.feedback.quality.table import tabulate

from .crowd import BAD, Crowd, simulate

FOUND = 0.95
FALSE = 0.02


def suspicions(crowd: Crowd) -> dict[str, tuple[str, ...]]:
    table = tabulate(crowd.judgements)
    return dict(zip(table.raters, find_suspects(table, fit(table).reliability).suspicions, strict=True))


def test_two_honest_raters_agree_on_72_percent_of_pairs() -> None:
    agreement = pair_agreement(tabulate(simulate(0, raters=200, bad_share=0.0).judgements))
    assert agreement.value == pytest.approx(0.72, abs=0.01)


def test_bad_raters_are_found_and_honest_ones_are_not_accused() -> None:
    raters: Counter[str] = Counter()
    accused: Counter[str] = Counter()
    for raters_of_crowd, seeds in ((60, range(8)), (100, range(8)), (200, range(4))):
        for seed in seeds:
            crowd = simulate(seed, raters=raters_of_crowd)
            assert len(crowd.judgements) <= 30 * raters_of_crowd
            for name, found in suspicions(crowd).items():
                raters[crowd.kinds[name]] += 1
                accused[crowd.kinds[name]] += bool(found)
    for kind in BAD:
        assert accused[kind] >= FOUND * raters[kind], kind
    assert accused["honest"] <= FALSE * raters["honest"]


def test_each_kind_is_called_by_its_name_and_victims_are_not_called_copiers() -> None:
    named: Counter[bool] = Counter()
    for seed in range(8):
        crowd = simulate(seed)
        found = suspicions(crowd)
        named.update(crowd.kinds[name] in why for name, why in found.items() if crowd.kinds[name] != "honest")
        assert not any("copy" in found[victim] for victim in crowd.victims.values())
    assert named[True] >= FOUND * named.total()


def test_a_crowd_without_bad_raters_is_left_in_peace() -> None:
    accused = [bool(why) for seed in range(6) for why in suspicions(simulate(seed, bad_share=0.0)).values()]
    assert np.mean(accused) <= FALSE


@pytest.mark.parametrize("answers", [2, 9])
def test_honest_raters_of_two_or_nine_answers_are_left_in_peace(answers: int) -> None:
    crowd = simulate(0, answers=answers)
    accused = [bool(why) for name, why in suspicions(crowd).items() if crowd.kinds[name] == "honest"]
    assert np.mean(accused) <= FALSE


def test_raters_of_tasks_with_fewer_others_are_not_taken_for_careless() -> None:
    judgements = [
        replace(item, task=f"{overlap}-{seed}-{item.task}", rater=f"{overlap}-{seed}-{item.rater}")
        for overlap in (2, 12)
        for seed in range(2)
        for item in simulate(seed, raters=40, bad_share=0.0, overlap=overlap).judgements
    ]
    accused = suspicions(Crowd(judgements, {}, {}))
    assert np.mean([bool(why) for why in accused.values()]) <= FALSE


def test_a_few_rankings_accuse_nobody_honest() -> None:
    for seed in range(10):
        crowd = simulate(seed, raters=30, items=4)
        assert not any(why for name, why in suspicions(crowd).items() if crowd.kinds[name] == "honest")
