"""From the reward model's score to the score that is rewarded."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pilothouse.trainer.ppo.config import ScoreConfig


@dataclass(slots=True)
class RunningMoments:
    """Mean and variance of every score so far (Chan et al. 1983: parallel updates)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    def add(self, scores: Tensor) -> None:
        """Takes in ``scores`` [B]."""
        wide = scores.double()
        count = float(len(scores))
        mean = float(wide.sum()) / count
        squares = float((wide - mean).square().sum())
        both, shift = self.count + count, mean - self.mean
        self.squares += squares + shift * shift * self.count * count / both
        self.mean += shift * count / both
        self.count = both

    @property
    def deviation(self) -> float:
        """Standard deviation, biased; 1 before there is any spread."""
        return math.sqrt(self.squares / self.count) if self.squares > 0 else 1.0


class ScoreShaper:
    """Normalises, clips and replaces scores, in this order."""

    def __init__(self, config: ScoreConfig) -> None:
        self.config = config
        self.moments = RunningMoments()

    def shape(self, scores: Tensor, finished: Tensor) -> Tensor:
        """Returns [B] scores to add at the last tokens.

        The replacement comes last: a response without EOS has exactly ``missing_eos_score``.

        Args:
            scores: [B], the reward service's.
            finished: bool [B], ended by EOS or a stop token.
        """
        shaped = scores
        if self.config.normalise:
            self.moments.add(scores)
            shaped = (shaped - self.moments.mean) / self.moments.deviation
        if self.config.clip is not None:
            shaped = shaped.clamp(-self.config.clip, self.config.clip)
        if self.config.missing_eos_score is not None:
            shaped = torch.where(finished, shaped, self.config.missing_eos_score)
        return shaped

    def state(self) -> dict[str, float]:
        """Returns the running moments."""
        return asdict(self.moments)

    def load_state(self, state: dict[str, float]) -> None:
        """Restores the running moments."""
        self.moments = RunningMoments(**state)
