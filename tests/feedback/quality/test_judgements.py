import numpy as np
import pytest

from pilothouse.feedback.quality.judgements import Judgement, judgement
from pilothouse.feedback.quality.table import tabulate
from pilothouse.feedback.records import AnswerRecord, PromptRecord, RankingRecord


def test_a_stored_ranking_becomes_a_judgement() -> None:
    record = RankingRecord(
        id="s1",
        task="t1",
        queue="q",
        prompt=PromptRecord(text="hello"),
        answers=(AnswerRecord(text="one"), AnswerRecord(text="three")),
        ranks=(2, 1),
        order=(1, 0),
        rater="rater-a",
        submitted_at=12.0,
        gold_ranks=(1, 2),
        seconds=3.5,
    )
    assert judgement(record) == Judgement(
        task="t1",
        rater="rater-a",
        ranks=(2, 1),
        order=(1, 0),
        gold=(1, 2),
        lengths=(3, 5),
        seconds=3.5,
        at=12.0,
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"ranks": (1,)}, "need 2 to 9 ranks, got 1"),
        ({"ranks": tuple(range(10))}, "need 2 to 9 ranks, got 10"),
        ({"order": (0, 2)}, "order must name the positions 0 to 1 once each"),
        ({"gold": (1, 2, 3)}, "gold must be empty or have one value for each of the 2 answers, got 3"),
        ({"lengths": (1,)}, "lengths must be empty"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(
    fields: dict[str, tuple[int, ...]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Judgement(task="t", rater="r", **{"ranks": (1, 2), **fields})


def test_one_task_with_two_sizes_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="task t: one judgement has 2 answers and another 3"):
        tabulate(
            [
                Judgement(task="t", rater="a", ranks=(1, 2), at=1),
                Judgement(task="t", rater="b", ranks=(1, 2, 3), at=2),
            ]
        )


def test_of_two_judgements_by_a_rater_the_last_counts() -> None:
    table = tabulate(
        [
            Judgement(task="t", rater="a", ranks=(2, 1), at=2),
            Judgement(task="t", rater="a", ranks=(1, 2), at=1),
        ]
    )
    np.testing.assert_array_equal(table.signs, [[[0, -1], [1, 0]]])


def test_tied_answers_share_the_mean_of_their_places_and_half_a_vote() -> None:
    table = tabulate(
        [
            Judgement(task="t", rater="a", ranks=(1, 1, 5)),
            Judgement(task="u", rater="a", ranks=(1, 2, 3, 4)),
        ]
    )
    np.testing.assert_array_equal(4 - table.margins[0, :3], [2 * 1.5, 2 * 1.5, 2 * 3])  # K + 1 - 2 r
    np.testing.assert_array_equal(table.votes[0, :3, :3], [[0, 0.5, 1], [0.5, 0, 1], [0, 0, 0]])
    assert not table.votes[0, 3].any()
    assert not table.votes[0, :, 3].any()
