"""How the scores of a composite's parts become one. Axes: B rows, K parts.

``mean``, ``min`` and ``mean_minus_std`` are for ensembles: models that were trained alike but for their seed.
A policy finds the errors of one reward model; where several disagree, none can be trusted. Coste et al. 2023,
"Reward model ensembles help mitigate overoptimization" (arXiv 2310.02743), compare the mean, the worst case
(here ``min``) and the mean less a multiple of the members' variance. Here it is their standard deviation,
which has the unit of the score, so that the factor means the same whatever the scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilothouse.errors import NonFiniteScoreError
from pilothouse.reward.config import CombinationName
from pilothouse.tensors import Floats


def no_disagreement() -> Floats:
    """Returns what a scorer without an ensemble has, float32 of shape [0]."""
    return np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Combination:
    """One way to make a score out of several."""

    name: CombinationName = "weighted"
    """`weighted`, or the combination of an ensemble."""
    std_factor: float = 0.0
    """How many standard deviations `mean_minus_std` subtracts."""

    @property
    def key(self) -> tuple[str, float]:
        """What enters the version: the factor only where it changes a score."""
        return self.name, float(self.std_factor) if self.name == "mean_minus_std" else 0.0

    def score(self, values: Sequence[Floats], weights: Sequence[float]) -> Floats:
        """Returns the combined score, float32 [B], all finite.

        Args:
            values: Every part's scores, [B] each.
            weights: Every part's weight in a weighted sum.

        Raises:
            NonFiniteScoreError: It does not fit into float32.
        """
        with np.errstate(over="ignore"):
            scores: Floats = self._combined(values, weights).astype(np.float32)
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            what = "weighted sum" if self.name == "weighted" else self.name
            raise NonFiniteScoreError(f"the {what} of row {row} overflows; use smaller weights or factors")
        return scores

    def disagreement(self, values: Sequence[Floats]) -> Floats:
        """Returns the population standard deviation of an ensemble's scores, float32 [B]; else [0]."""
        if self.name == "weighted":
            return no_disagreement()
        spread: Floats = np.std(_stacked(values), axis=0).astype(np.float32)
        return spread

    def _combined(self, values: Sequence[Floats], weights: Sequence[float]) -> npt.NDArray[np.float64]:
        members = _stacked(values)  # [K, B]
        combined: npt.NDArray[np.float64]
        match self.name:
            case "weighted":
                combined = np.zeros(members.shape[1])
                for weight, own in zip(weights, members, strict=True):
                    combined += weight * own
            case "mean":
                combined = members.mean(axis=0)
            case "min":
                combined = members.min(axis=0)
            case "mean_minus_std":
                combined = members.mean(axis=0) - self.std_factor * members.std(axis=0)
        return combined


def _stacked(values: Sequence[Floats]) -> npt.NDArray[np.float64]:
    return np.stack(values).astype(np.float64)
