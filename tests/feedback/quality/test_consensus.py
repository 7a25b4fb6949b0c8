import numpy as np
import pytest

from pilothouse.feedback.quality.bradley_terry import strengths
from pilothouse.feedback.quality.consensus import TYPICAL, fit, of_others
from pilothouse.feedback.quality.judgements import Judgement
from pilothouse.feedback.quality.table import tabulate


def mixture(reliability: list[float], *, tasks: int, overlap: int, seed: int = 0) -> list[Judgement]:
    """Pairs from the model itself: a rater looks with its reliability, else tosses a coin."""
    rng = np.random.default_rng(seed)
    judgements = []
    for task in range(tasks):
        first_is_better = 1 / (1 + np.exp(-rng.normal(0, 3)))
        for rater in rng.choice(len(reliability), overlap, replace=False):
            chance = first_is_better if rng.uniform() < reliability[rater] else 0.5
            ranks = (1, 2) if rng.uniform() < chance else (2, 1)
            judgements.append(Judgement(task=f"t{task}", rater=f"r{rater}", ranks=ranks))
    return judgements


def test_reliabilities_come_out_in_their_order_and_near_their_size() -> None:
    truth = [0.0, 0.5, 1.0, 1.0, 0.9, 0.9, 1.0]
    found = fit(tabulate(mixture(truth, tasks=3000, overlap=5))).reliability
    assert found[0] < 0.15
    assert 0.4 < found[1] < 0.6
    assert (found[2:] > 0.8).all()


def test_the_consensus_listens_to_whom_can_be_relied_on() -> None:
    truth = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    judgements = mixture(truth, tasks=400, overlap=4)
    lone = [
        Judgement(task="x", rater="r0", ranks=(1, 2)),
        Judgement(task="x", rater="r3", ranks=(2, 1)),
        Judgement(task="x", rater="r4", ranks=(2, 1)),
    ]
    table = tabulate(judgements + lone)
    task = fit(table).strengths[table.tasks.index("x")]
    assert task[0] > task[1]
    votes_alone = strengths(table.by_task(table.votes))[table.tasks.index("x")]
    assert votes_alone[0] < votes_alone[1]


def test_whoever_is_alone_has_no_reliability() -> None:
    judgements = [Judgement(task="t", rater="a", ranks=(1, 2)), Judgement(task="u", rater="b", ranks=(1, 2))]
    assert np.isnan(fit(tabulate(judgements)).reliability).all()


def test_few_judgements_stay_near_the_prior() -> None:
    judgements = [Judgement(task="t", rater=rater, ranks=(1, 2)) for rater in "ab"]
    assert fit(tabulate(judgements)).reliability == pytest.approx(TYPICAL, abs=0.1)


def test_the_others_are_all_but_oneself() -> None:
    judgements = [
        Judgement(task="t", rater="a", ranks=(1, 2, 3), at=1),
        Judgement(task="t", rater="b", ranks=(3, 2, 1), at=2),
        Judgement(task="t", rater="c", ranks=(1, 1, 2), at=3),
    ]
    table = tabulate(judgements)
    without_b = tabulate([judgements[0], judgements[2]])
    np.testing.assert_allclose(
        of_others(table, np.ones(3))[1], strengths(without_b.by_task(without_b.votes))[0], atol=1e-9
    )
    only_c = of_others(table, np.array([0.0, 0.0, 2.0]))
    np.testing.assert_array_equal(only_c[2], np.zeros(3))
    assert only_c[0, 0] == pytest.approx(only_c[0, 1])
