"""Several trainers that share a batch compute what one computes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.trainer.ppo.minibatches import shares
from pilothouse.trainer.ppo.step import PpoLearner

EVERYTHING = {
    "epochs": 2, "minibatches": 3, "whiten_rewards": True, "importance": "token", "ema_decay": 0.9,
    "kl": {"adaptive": True, "placement": "both"}, "scores": {"normalise": True},
    "pretraining_coefficient": 0.5, "critic_warmup_steps": 1, "micro_batch_tokens": 30,
}  # fmt: skip


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 9))
def test_each_row_belongs_to_one_rank_and_no_rank_has_much_more_than_another(
    lengths: list[int], ranks: int
) -> None:
    found = shares(lengths, ranks)
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert all(found) == (len(lengths) >= ranks)
    tokens = [sum(lengths[row] for row in rows) for rows in found]
    assert max(tokens) - min(tokens) <= max(lengths)


def learn(learner: PpoLearner, world: Any, *, steps: int, rows: int) -> list[dict[str, float]]:
    random = np.random.default_rng(2)
    texts = [random.integers(3, 500, length).astype(np.int32) for length in (2, 9, 4, 7)]
    return [
        learner.step(world.batch(learner, rows=rows, seed=step), texts[: 4 - step]) for step in range(steps)
    ]


def test_checklist_08_every_rank_draws_the_same_shuffles(world: Any, on_ranks: Any) -> None:
    learners = [world.learner(seed=7, minibatches=3) for _ in range(2)]

    def work(ranks: Any) -> list[int]:
        learners[ranks.index].ranks = ranks
        learn(learners[ranks.index], world, steps=1, rows=5)
        return learners[ranks.index].shuffles.permutation(50).tolist()

    one, other = on_ranks(2, work)
    assert one == other


@pytest.mark.parametrize(
    ("ranks", "rows", "settings"),
    [
        (4, 12, {"proximal": "auto"}),
        (4, 12, {"proximal": "recompute"}),
        (3, 4, {"minibatches": 4}),  # more ranks than rows in a minibatch
        (2, 5, {"trainable_layers": 1}),
    ],
)
def test_checklist_38_steps_on_several_ranks_equal_steps_on_one(
    world: Any, on_ranks: Any, ranks: int, rows: int, settings: dict[str, Any]
) -> None:
    settings = EVERYTHING | settings
    alone = world.learner(**settings)
    expected = learn(alone, world, steps=3, rows=rows)
    learners = [world.learner(**settings) for _ in range(ranks)]  # transformers builds no models in threads

    def work(ranks: Any) -> list[dict[str, float]]:
        learners[ranks.index].ranks = ranks
        return learn(learners[ranks.index], world, steps=3, rows=rows)

    for learner, found in zip(learners, on_ranks(ranks, work), strict=True):
        for ours, theirs in ((learner.policy, alone.policy), (learner.value, alone.value)):
            for name, tensor in ours.parameters.items():
                torch.testing.assert_close(tensor, theirs.parameters[name], atol=1e-5, rtol=0)
        assert learner.kl.beta == pytest.approx(alone.kl.beta, rel=1e-6)
        for metrics, wanted in zip(found, expected, strict=True):
            assert metrics.keys() == wanted.keys()
            for name in set(wanted) - {"eps"}:
                assert metrics[name] == pytest.approx(wanted[name], abs=1e-5, rel=1e-4), name
