"""Several trainers that share a batch compute what one computes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pilothouse.trainer.ppo.config import ScoreConfig
from pilothouse.trainer.ppo.ragged import OneRank, rank_seed, whiten
from pilothouse.trainer.ppo.scores import ScoreShaper


def test_checklist_08_each_rank_has_a_seed_of_its_own() -> None:
    assert [rank_seed(7, rank) for rank in range(3)] == [7, 100_010, 200_013]


def test_checklist_08_each_rank_shuffles_in_an_order_of_its_own(world: Any) -> None:
    ranks = [None, *(SimpleNamespace(index=index, size=3) for index in range(3))]
    orders = [world.learner(rank, seed=7).shuffles.permutation(50).tolist() for rank in ranks]
    assert orders[0] == orders[1], "a trainer alone is rank 0"
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("keep_mean", [True, False])
def test_checklist_29_one_rank_whitens_like_four(on_ranks: Any, keep_mean: bool) -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 3 + 2
    parts = values.split([20, 5, 1, 24])
    alone = whiten(values, OneRank(), keep_mean=keep_mean)
    together = torch.cat(on_ranks(4, lambda ranks: whiten(parts[ranks.index], ranks, keep_mean=keep_mean)))
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-6)
    assert float(alone.mean()) == pytest.approx(float(values.mean()) if keep_mean else 0.0, abs=1e-5)


def test_running_score_moments_are_those_of_all_ranks(on_ranks: Any) -> None:
    scores = torch.randn(8, generator=torch.Generator().manual_seed(1))
    ended = torch.ones(8, dtype=torch.bool)

    def shape(ranks: Any, part: slice) -> torch.Tensor:
        return ScoreShaper(ScoreConfig(normalise=True)).shape(scores[part], ended[part], ranks)

    alone = shape(OneRank(), slice(None))
    parts = [slice(0, 3), slice(3, 4), slice(4, 8)]
    together = torch.cat(on_ranks(3, lambda ranks: shape(ranks, parts[ranks.index])))
    torch.testing.assert_close(alone, together)


@pytest.mark.parametrize("proximal", ["auto", "recompute"])
def test_checklist_38_a_step_on_four_ranks_equals_a_step_on_one(
    world: Any, on_ranks: Any, proximal: str
) -> None:
    settings = {
        "epochs": 2, "whiten_rewards": True, "proximal": proximal,
        "kl": {"adaptive": True}, "scores": {"normalise": True},
    }  # fmt: skip
    alone = world.learner(**settings)
    batch = world.batch(alone, rows=12)
    expected = alone.step(batch)
    shares = [[0, 1, 2, 3, 4], [5], [6, 7], [8, 9, 10, 11]]

    learners = [world.learner(**settings) for _ in shares]  # transformers cannot build models in two threads

    def work(ranks: Any) -> dict[str, float]:
        learners[ranks.index].ranks = ranks
        return learners[ranks.index].step(batch.select(np.array(shares[ranks.index])))

    for learner, metrics in zip(learners, on_ranks(4, work), strict=True):
        for ours, theirs in ((learner.policy, alone.policy), (learner.value, alone.value)):
            for name, tensor in ours.parameters.items():
                torch.testing.assert_close(tensor, theirs.parameters[name], atol=1e-5, rtol=0)
        assert learner.kl.beta == pytest.approx(alone.kl.beta, rel=1e-6)
        for name in set(expected) - {"eps"}:
            assert metrics[name] == pytest.approx(expected[name], abs=1e-5, rel=1e-4), name
