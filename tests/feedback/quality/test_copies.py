from dataclasses import replace

import numpy as np

from pilothouse.feedback.quality.copies import copiers
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.table import tabulate


def three_raters(tasks: int, *, noise: float, copy: bool, seed: int = 0) -> list[Judgement]:
    """Raters a and b see the same answers each with its own noise, and c does, or copies a afterwards."""
    rng = np.random.default_rng(seed)
    judgements = []
    for task in range(tasks):
        strengths = rng.normal(0, 1.5, 4)
        seen = {
            rater: np.argsort(np.argsort(-(strengths + noise * rng.gumbel(size=4)))) + 1 for rater in "abc"
        }
        if copy:
            seen["c"] = seen["a"]
        judgements += [
            Judgement(task=f"t{task}", rater=rater, ranks=tuple(ranks.tolist()), at=task + at / 10)
            for at, (rater, ranks) in enumerate(seen.items())
        ]
    return judgements


def accused(judgements: list[Judgement]) -> set[str]:
    table = tabulate(judgements)
    return {table.raters[rater] for rater in copiers(table, 0.02)}


def test_who_answered_later_is_the_copier() -> None:
    judgements = three_raters(30, noise=1, copy=True)
    assert accused(judgements) == {"c"}
    assert accused([replace(item, at=-item.at) for item in judgements]) == {"a"}


def test_where_it_is_not_known_who_was_first_nobody_is_accused() -> None:
    assert accused([replace(item, at=0.0) for item in three_raters(30, noise=1, copy=True)]) == set()


def test_whoever_ranked_like_somebody_without_times_did_not_copy() -> None:
    """Times are 0 where they are unknown, before all others: c, who copied, has none, and a is honest."""
    judgements = three_raters(30, noise=1, copy=True)
    assert accused([replace(item, at=0.0) if item.rater == "c" else item for item in judgements]) == set()


def test_raters_who_copy_each_other_are_both_accused() -> None:
    judgements = [
        replace(item, at=-item.at) if int(item.task[1:]) % 2 else item
        for item in three_raters(60, noise=1, copy=True)
    ]
    assert accused(judgements) == {"a", "c"}


def test_independent_raters_are_not_accused_however_easy_their_tasks() -> None:
    for noise in (0.05, 0.3, 1.0, 3.0):
        for seed in range(20):
            assert accused(three_raters(60, noise=noise, copy=False, seed=seed)) == set()


def test_easy_tasks_beside_hard_ones_are_no_copies() -> None:
    easy = three_raters(60, noise=0.05, copy=False)
    hard = [
        replace(item, task=f"hard-{item.task}", rater=f"hard-{item.rater}")
        for item in three_raters(300, noise=3, copy=False, seed=1)
    ]
    assert accused(easy + hard) == set()


def test_few_shared_tasks_gold_tasks_and_all_ties_say_nothing() -> None:
    copied = three_raters(30, noise=1, copy=True)
    assert accused(three_raters(7, noise=1, copy=True)) == set()
    assert accused([replace(item, gold=(1, 2, 3, 4)) for item in copied]) == set()
    assert accused([replace(item, ranks=(1, 1, 1, 1)) for item in copied]) == set()


def test_two_raters_alone_cannot_be_told_from_copies() -> None:
    assert accused([item for item in three_raters(30, noise=1, copy=True) if item.rater != "b"]) == set()
