import numpy as np
import pytest
from tests.trainer.judged import ranking

from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.human_agreement import human_agreement

SCORES = np.array([2.0, 0.0, -0.1])  # of answers of 1, 2 and 3 tokens


def _ranked(prompt: int, rater: str, ranks: tuple[int, ...]) -> EncodedRanking:
    return ranking(prompt, (1, 2, 3), ranks, task=f"t{prompt}", rater=rater)


def test_people_and_model_are_compared_on_pairs_that_several_people_ranked() -> None:
    items = [_ranked(1, "a", (1, 2, 3)), _ranked(1, "b", (1, 3, 2)), _ranked(1, "c", (1, 2, 2))]
    found = human_agreement([SCORES] * 3, items)
    assert found is not None
    assert (found.tasks, found.raters, found.overall.pairs) == (1, 3, 3)
    # Pairs 1-2 and 1-3: three raters agree, 3 of 3 each; pair 2-3: c ties them, a and b differ, 0 of 1.
    assert found.overall.people is not None
    assert found.overall.people.mean == pytest.approx(6 / 7)
    assert found.overall.model is not None
    assert found.overall.model.mean == pytest.approx((3 + 3 + 1) / 8)
    unsure, sure = found.buckets[0], found.buckets[3]
    assert unsure.people is not None
    assert (unsure.pairs, unsure.people.mean) == (1, 0.0)
    assert unsure.model is not None
    assert unsure.model.mean == 0.5
    assert sure.people is not None
    assert (sure.pairs, sure.people.mean) == (2, 1.0)
    assert found.buckets[1].people is found.buckets[1].model is None


def test_answers_are_known_again_in_another_order() -> None:
    first = ranking(1, (1, 2), (1, 2), task="t", rater="a")
    second = EncodedRanking("x", first.sequences[::-1], (2, 1), 1, task="t", rater="b")
    found = human_agreement([np.array([1.0, 0.0]), np.array([0.0, 1.0])], [first, second])
    assert found is not None
    assert found.overall.people is not None
    assert found.overall.people.mean == 1.0


def test_one_person_twice_is_no_agreement() -> None:
    items = [_ranked(1, "a", (1, 2, 3)), _ranked(1, "a", (1, 2, 3)), _ranked(2, "b", (1, 2, 3))]
    assert human_agreement([SCORES] * 3, items) is None


def test_rankings_without_task_or_rater_do_not_count() -> None:
    items = [ranking(1, (1, 2), (1, 2), rater=name) for name in "ab"]
    items += [ranking(1, (1, 2), (1, 2), task="t") for _ in "ab"]
    assert human_agreement([SCORES[:2]] * 4, items) is None


def test_the_interval_draws_prompts() -> None:
    items = [_ranked(prompt, rater, (1, 2, 3)) for prompt in range(20) for rater in "ab"]
    items[1::4] = [_ranked(item.sequences[0][0], "b", (3, 2, 1)) for item in items[1::4]]
    found = human_agreement([SCORES] * 40, items)
    assert found is not None
    assert found.overall.people is not None
    assert found.overall.people.mean == 0.5
    assert found.overall.people.count == 20
    assert 0.2 < found.overall.people.low < 0.4
