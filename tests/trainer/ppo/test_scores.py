"""What a score becomes before it is rewarded."""

from typing import Any

import numpy as np
import pytest
import torch

from pilothouse.trainer.ppo.advantages import token_rewards
from pilothouse.trainer.ppo.config import ScoreConfig
from pilothouse.trainer.ppo.scores import ScoreShaper

ALL = torch.tensor([True, True, True, True])


def test_checklist_18_the_score_sits_at_the_eos_token_and_nothing_lies_after_it() -> None:
    rewards = token_rewards(torch.zeros(6), torch.tensor([2.0, 3.0]), torch.tensor([4, 2]), beta=0.1)
    assert rewards.tolist() == [0, 0, 0, 2.0, 0, 3.0]


@pytest.mark.parametrize("normalise", [False, True])
def test_checklist_19_a_response_without_eos_has_exactly_minus_one(normalise: bool) -> None:
    shaper = ScoreShaper(ScoreConfig(normalise=normalise, clip=0.5))
    scores = torch.tensor([5.0, -3.0, 7.0, 0.25])
    shaped = shaper.shape(scores, torch.tensor([True, False, False, True]))
    assert shaped[1:3].tolist() == [-1.0, -1.0]


def test_checklist_19_the_eos_share_is_reported_and_the_rewarded_score_replaced(world: Any) -> None:
    learner = world.learner()
    metrics = learner.step(world.batch(learner, finished=np.zeros(8, dtype=np.bool_)))
    assert metrics["objective/shaped_scores"] == -1.0
    assert metrics["val/num_eos_tokens"] == 0
    assert metrics["response/eos_share"] == 0.0


def test_the_score_of_a_cut_response_is_kept_when_asked() -> None:
    shaper = ScoreShaper(ScoreConfig(missing_eos_score=None))
    scores = torch.tensor([5.0, -3.0, 7.0, 0.25])
    assert shaper.shape(scores, ~ALL).tolist() == scores.tolist()


def test_checklist_26_the_clip_cuts_the_score_and_never_the_kl_part() -> None:
    shaper = ScoreShaper(ScoreConfig(clip=5.0))
    shaped = shaper.shape(torch.tensor([50.0, -50.0, 4.0, -4.0]), ALL)
    assert shaped.tolist() == [5.0, -5.0, 4.0, -4.0]
    rewards = token_rewards(torch.full((4,), 1000.0), shaped, torch.ones(4, dtype=torch.int64), beta=1.0)
    assert rewards.tolist() == [-995.0, -1005.0, -996.0, -1004.0]


def test_checklist_26_there_is_no_clip_by_default() -> None:
    scores = torch.tensor([50.0, -50.0, 4.0, -4.0])
    assert ScoreShaper(ScoreConfig()).shape(scores, ALL).tolist() == scores.tolist()


def test_running_moments_equal_those_of_all_scores_together() -> None:
    shaper = ScoreShaper(ScoreConfig(normalise=True))
    batches = [
        torch.randn(size, generator=torch.Generator().manual_seed(size)) * 3 + 7 for size in (4, 9, 2, 30)
    ]
    for scores in batches:
        shaped = shaper.shape(scores, torch.ones(len(scores), dtype=torch.bool))
    everything = torch.cat(batches).double()
    assert shaper.moments.mean == pytest.approx(float(everything.mean()), abs=1e-9)
    assert shaper.moments.deviation == pytest.approx(float(everything.std(unbiased=False)), abs=1e-9)
    torch.testing.assert_close(
        shaped.double(), (batches[-1].double() - everything.mean()) / everything.std(unbiased=False),
        atol=1e-6, rtol=1e-5,
    )  # fmt: skip


def test_equal_scores_are_normalised_to_zero_not_to_nan() -> None:
    shaper = ScoreShaper(ScoreConfig(normalise=True))
    assert shaper.shape(torch.full((4,), 3.0), ALL).tolist() == [0.0] * 4
