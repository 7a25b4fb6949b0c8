import pytest
from tests.feedback.formats.samples import demonstration, ranking

from pilothouse.feedback.formats.judged import corrections, dense, judge, labels, pair_count, pairs
from pilothouse.feedback.records import AnswerRecord, RankingRecord, Source


def pairs_of(record: RankingRecord) -> list[tuple[str, str]]:
    item = judge(record)
    assert item is not None
    assert pair_count(item) == len(list(pairs(item)))
    return list(pairs(item))


def labels_of(record: RankingRecord) -> list[tuple[str, bool]]:
    item = judge(record)
    assert item is not None
    return list(labels(item))


def test_dense_ranks_keep_the_order_and_skip_no_number() -> None:
    assert dense((9, 2, 9, 5)) == (3, 1, 3, 2)


def test_all_pairs_that_are_not_tied_come_in_the_order_of_positions() -> None:
    record = ranking(ranks=(1, 2, 1), texts=("a", "b", "c"))
    assert pairs_of(record) == [("a", "b"), ("c", "b")]
    assert pairs_of(ranking(ranks=(1, 1))) == []


def test_vetoed_answers_rank_below_all_others_whatever_was_said() -> None:
    item = judge(ranking(ranks=(1, 2, 1, 3), vetoed=(0, 2)))
    assert item is not None
    assert item.ranks == (3, 1, 3, 2)


def test_a_vetoed_answer_is_never_chosen_and_never_good() -> None:
    record = ranking(ranks=(1, 2, 3), texts=("a", "b", "c"), vetoed=(0, 2))
    assert pairs_of(record) == [("b", "a"), ("b", "c")]
    assert labels_of(record) == [("a", False), ("c", False)]


def test_a_ranking_of_vetoed_answers_alone_says_nothing() -> None:
    assert judge(ranking(ranks=(1, 2), vetoed=(0, 1))) is None


def test_the_best_are_good_the_worst_are_bad_and_the_others_say_nothing() -> None:
    record = ranking(ranks=(1, 2, 3, 1), texts=("a", "b", "c", "d"))
    assert labels_of(record) == [("a", True), ("c", False), ("d", True)]
    assert labels_of(ranking(ranks=(1, 1))) == []


def test_the_worst_of_those_that_stand_is_bad_beside_a_vetoed_one() -> None:
    record = ranking(ranks=(1, 2, 3), texts=("a", "b", "c"), vetoed=(2,))
    assert labels_of(record) == [("a", True), ("b", False), ("c", False)]


def test_an_unsafe_answer_is_never_good() -> None:
    assert labels_of(ranking(ranks=(1, 2), texts=("a", "b"), unsafe=(0,))) == [("b", False)]


def test_a_correction_beats_what_it_corrects() -> None:
    original = AnswerRecord(text="Blu.", source=Source(model="policy", version=3))
    (item,) = corrections([demonstration(), demonstration("d2", "Blue.", corrects=original)])
    assert list(pairs(item)) == [("Blue.", "Blu.")]
    assert item.kind == "correction"
    assert [answer.source.model for answer in item.record.answers] == ["human", "policy"]


@pytest.mark.parametrize("text", ["Blue."])
def test_a_correction_that_changes_nothing_says_nothing(text: str) -> None:
    assert list(corrections([demonstration("d", text, corrects=AnswerRecord(text=text))])) == []
