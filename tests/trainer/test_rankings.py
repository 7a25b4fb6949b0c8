import math
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.trainer.rankings import (
    best_of_loss,
    pair_accuracy,
    pairs_loss,
    plackett_luce_loss,
    untied_pairs,
)

SCORES = st.lists(st.floats(-7, 7), min_size=2, max_size=6)


def _plain(scores: list[float], ranks: list[int], ties: str) -> float:
    """The definition, one pair at a time."""
    losses = []
    for i, j in combinations(range(len(scores)), 2):
        chance = 1 / (1 + math.exp(scores[j] - scores[i]))
        if ranks[i] == ranks[j]:
            losses.append(-0.5 * math.log(chance) - 0.5 * math.log(1 - chance) if ties == "half" else 0.0)
        else:
            losses.append(-math.log(chance if ranks[i] < ranks[j] else 1 - chance))
    return sum(losses) / math.comb(len(scores), 2)


@settings(deadline=None)
@given(SCORES, st.randoms(use_true_random=False), st.sampled_from(["half", "drop"]))
def test_checklist_13_all_pairs_of_a_prompt_weigh_one_over_k_choose_2(scores, random, ties) -> None:
    ranks = [random.randint(1, 3) for _ in scores]
    loss = pairs_loss(torch.tensor(scores, dtype=torch.float64), ranks, ties=ties)
    assert loss.item() == pytest.approx(_plain(scores, ranks, ties), abs=1e-9)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(-30, 30))
def test_checklist_13_two_answers_give_the_pairwise_loss(winner: float, loser: float) -> None:
    scores = torch.tensor([loser, winner], dtype=torch.float64)
    expected = -torch.nn.functional.logsigmoid(scores[1] - scores[0])
    torch.testing.assert_close(pairs_loss(scores, (2, 1)), expected)


def test_checklist_13_a_tie_pulls_scores_together_unless_it_is_dropped() -> None:
    scores = torch.tensor([1.0, -1.0], requires_grad=True)
    pairs_loss(scores, (1, 1)).backward()
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]
    assert pairs_loss(scores, (1, 1), ties="drop").item() == 0.0
    assert pairs_loss(torch.zeros(2), (1, 1)).item() == pytest.approx(math.log(2))


def test_checklist_14_best_of_k_is_the_softmax_cross_entropy() -> None:
    scores = torch.tensor([0.3, 1.2, -0.7, 0.1])
    assert best_of_loss(scores, (3, 1, 4, 2)).item() == pytest.approx(-torch.log_softmax(scores, 0)[1].item())
    two = -torch.log_softmax(scores, 0)[[1, 3]].mean().item()
    assert best_of_loss(scores, (2, 1, 2, 1)).item() == pytest.approx(two)


def test_checklist_17_accuracy_is_told_overall_and_by_confidence() -> None:
    scores = [np.array([3.0, 0.0, -3.0], np.float32), np.array([0.1, 0.0], np.float32)]
    result = pair_accuracy(scores, [(1, 2, 3), (2, 1)])
    assert result.overall.mean == pytest.approx(3 / 4)
    assert result.pairs == 4
    assert sum(bucket.pairs for bucket in result.buckets) == 4
    assert result.buckets[0].pairs == 1
    assert result.buckets[0].accuracy == 0.0
    assert result.buckets[-1].accuracy == 1.0
    assert result.overall.low <= result.overall.mean <= result.overall.high


def test_untied_pairs_are_told_by_the_places_of_their_answers() -> None:
    better, worse = untied_pairs((2, 1, 3, 1))
    assert list(zip(better.tolist(), worse.tolist(), strict=True)) == [(0, 2), (1, 0), (1, 2), (3, 0), (3, 2)]
    assert [len(places) for places in untied_pairs((1, 1, 1))] == [0, 0]


def test_ties_do_not_count_as_right_or_wrong() -> None:
    result = pair_accuracy([np.array([1.0, 2.0, 0.0], np.float32)], [(1, 1, 2)])
    assert (result.pairs, result.overall.mean) == (2, 1.0)


def test_equal_scores_count_half() -> None:
    assert pair_accuracy([np.zeros(2, np.float32)], [(1, 2)]).overall.mean == 0.5


def test_the_rankings_of_one_prompt_are_drawn_together() -> None:
    scores = [np.array([1.0, 0.0], np.float32)] * 3 + [np.array([0.0, 1.0], np.float32)]
    alone, together = (pair_accuracy(scores, [(1, 2)] * 4, units=units) for units in (None, [0, 0, 0, 1]))
    assert alone.overall.mean == together.overall.mean == 0.75
    assert (alone.overall.count, together.overall.count) == (4, 2)
    assert (together.overall.low, together.overall.high) == (0.0, 1.0)


def _in_turn(scores: list[float], order: tuple[int, ...]) -> float:
    """The likelihood of an order, best first, one choice at a time."""
    chances = [
        math.exp(scores[answer]) / sum(math.exp(scores[other]) for other in order[turn:])
        for turn, answer in enumerate(order)
    ]
    return math.prod(chances)


def _mean_likelihood(scores: list[float], ranks: list[int]) -> float:
    """The mean likelihood of the orders that do not contradict the ranks: each breaks ties in its own way."""
    orders = [
        order
        for order in permutations(range(len(scores)))
        if all(ranks[a] <= ranks[b] for a, b in pairwise(order))
    ]
    return sum(_in_turn(scores, order) for order in orders) / len(orders)


@settings(deadline=None)
@given(SCORES, st.randoms(use_true_random=False), st.sampled_from(["half", "drop"]))
def test_plackett_luce_is_one_choice_after_another(scores, random, ties) -> None:
    order = list(range(len(scores)))
    random.shuffle(order)
    ranks = [order.index(answer) + 1 for answer in range(len(scores))]
    loss = plackett_luce_loss(torch.tensor(scores, dtype=torch.float64), ranks, ties=ties)
    expected = -math.log(_in_turn(scores, tuple(order))) / (len(scores) - 1)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(-30, 30))
def test_plackett_luce_of_two_answers_is_the_pairwise_loss(winner: float, loser: float) -> None:
    scores = torch.tensor([loser, winner], dtype=torch.float64)
    torch.testing.assert_close(plackett_luce_loss(scores, (2, 1)), pairs_loss(scores, (2, 1)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.floats(-3, 3)), min_size=2, max_size=5))
def test_ties_cost_the_mean_over_their_orders_where_tied_scores_are_equal(tiers) -> None:
    by_rank = dict(tiers)
    ranks = [rank for rank, _ in tiers]
    scores = [by_rank[rank] for rank in ranks]
    loss = plackett_luce_loss(torch.tensor(scores, dtype=torch.float64), ranks)
    expected = -math.log(_mean_likelihood(scores, ranks)) / (len(ranks) - 1)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4))
def test_ties_cost_about_that_mean_where_tied_scores_are_near(noise: list[float]) -> None:
    scores = [1 + noise[0], 1 + noise[1], -1 + noise[2], noise[3] - 2]
    loss = plackett_luce_loss(torch.tensor(scores, dtype=torch.float64), (1, 1, 2, 3))
    expected = -math.log(_mean_likelihood(scores, [1, 1, 2, 3])) / 3
    assert loss.item() == pytest.approx(expected, abs=0.2**2)


def test_a_tie_pulls_plackett_luce_scores_together_unless_it_is_dropped() -> None:
    scores = torch.tensor([1.0, -1.0], requires_grad=True)
    plackett_luce_loss(scores, (1, 1)).backward()
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]
    assert plackett_luce_loss(scores, (1, 1), ties="drop").item() == 0.0


def test_dropped_ties_leave_each_answer_against_the_worse_ones() -> None:
    scores = torch.tensor([0.5, -0.3, 0.2])
    alone = [plackett_luce_loss(scores[[answer, 2]], (1, 2)) for answer in (0, 1)]
    torch.testing.assert_close(plackett_luce_loss(scores, (1, 1, 2), ties="drop"), (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("ties", ["half", "drop"])
def test_the_gradient_of_plackett_luce_is_that_of_its_formula(ties) -> None:
    scores = torch.tensor([0.4, -1.1, 2.0, 0.4, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda row: plackett_luce_loss(row, (2, 2, 1, 3, 3), ties=ties), scores)


def test_plackett_luce_stays_finite_at_scores_far_apart() -> None:
    scores = torch.tensor([-900.0, 900.0, 0.0], requires_grad=True)
    loss = plackett_luce_loss(scores, (1, 2, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
