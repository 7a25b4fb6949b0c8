import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.trainer.rankings import best_of_loss, pair_accuracy, pairs_loss

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


@given(SCORES, st.randoms(use_true_random=False), st.sampled_from(["half", "drop"]))
def test_checklist_13_all_pairs_of_a_prompt_weigh_one_over_k_choose_2(scores, random, ties) -> None:
    ranks = [random.randint(1, 3) for _ in scores]
    loss = pairs_loss(torch.tensor(scores, dtype=torch.float64), ranks, ties=ties)
    assert loss.item() == pytest.approx(_plain(scores, ranks, ties), abs=1e-9)


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


def test_ties_do_not_count_as_right_or_wrong() -> None:
    result = pair_accuracy([np.array([1.0, 2.0, 0.0], np.float32)], [(1, 1, 2)])
    assert (result.pairs, result.overall.mean) == (2, 1.0)


def test_equal_scores_count_half() -> None:
    assert pair_accuracy([np.zeros(2, np.float32)], [(1, 2)]).overall.mean == 0.5
