import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pilothouse.trainer.selection import priorities

SCORES = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 5)),
    elements=st.floats(-20, 20),
)


def _entropy(chance: float) -> float:
    return -sum(part * math.log(part) for part in (chance, 1 - chance) if part > 0)


@settings(deadline=None)
@given(SCORES)
def test_a_priority_is_the_mean_information_that_a_pairs_outcome_gives_of_the_member(
    scores: np.ndarray,
) -> None:
    members, tasks, answers = scores.shape
    for task, found in enumerate(priorities(scores)):
        gains = []
        for i in range(answers):
            for j in range(i + 1, answers):
                margins = [scores[m, task, i] - scores[m, task, j] for m in range(members)]
                chances = [1 / (1 + math.exp(-margin)) for margin in margins]
                mean = sum(chances) / members
                gains.append(_entropy(mean) - sum(_entropy(chance) for chance in chances) / members)
        assert found == pytest.approx(sum(gains) / len(gains), abs=1e-9)
        assert 0 <= found <= math.log(2)
    assert len(priorities(scores)) == tasks


def test_members_that_agree_leave_nothing_to_ask_however_unsure_they_are() -> None:
    unsure, sure = np.zeros((5, 1, 3)), np.tile([[3.0, 1.0, -2.0]], (5, 1, 1))
    assert priorities(np.concatenate([unsure, sure], axis=1)) == pytest.approx([0.0, 0.0], abs=1e-12)


def test_confident_members_that_contradict_each_other_are_asked_about_first() -> None:
    torn = [[[9.0, -9.0]], [[-9.0, 9.0]]]
    mild = [[[0.5, -0.5]], [[-0.5, 0.5]]]
    first, second = priorities(np.concatenate([torn, mild], axis=1))
    assert first == pytest.approx(math.log(2), abs=1e-3)
    assert 0 < second < first


def test_answers_that_a_task_does_not_have_do_not_count() -> None:
    scores = np.array(
        [[[1.0, -1.0, np.nan], [0.0, np.nan, np.nan]], [[-1.0, 1.0, np.nan], [1.0, np.nan, np.nan]]]
    )
    assert priorities(scores)[0] == pytest.approx(priorities(scores[:, :1, :2])[0])
    assert priorities(scores)[1] == 0.0
