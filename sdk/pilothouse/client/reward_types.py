"""What the clients that replace reward models take and return."""

from dataclasses import dataclass
from typing import Literal

EnsembleCombination = Literal["mean", "min", "mean_minus_std"]
"""How the members' scores of an ensemble become one."""


@dataclass(frozen=True, slots=True)
class LoadedRewardModel:
    """A reward model in the memory of the reward service."""

    reward_version: str
    folders: tuple[str, ...]
    """Inside ``reward.models_folder``, several for an ensemble; none for the configured reward model."""
    combination: EnsembleCombination | None
    """None where there is no staged ensemble."""
    std_factor: float
    """How many standard deviations ``mean_minus_std`` subtracts."""
    backend: str
    providers: tuple[str, ...]
    """ONNX Runtime execution providers in use; empty for other backends."""
    max_sequence_tokens: int
    """0 where the backend has no such limit."""
    tokenizer_digest: str
    """Empty where there is none, or several."""


@dataclass(frozen=True, slots=True)
class ShadowStatistics:
    """How the candidate scored live rows; differences are candidate minus serving."""

    rows: int
    """Rows that both have scored."""
    mean_difference: float
    std_difference: float
    """Population standard deviation."""
    max_absolute_difference: float
    pairs: int
    """Pairs of rows of one request with the same prompt and different scores of the serving model."""
    agreement: float
    """Share of them that the candidate orders the same, its own ties counting one half; 0 without pairs."""
    dropped_rows: int
    """Passed over because as many were waiting as may."""
    failed_rows: int
    """The candidate could not score them."""
    waiting_rows: int


@dataclass(frozen=True, slots=True)
class RewardCandidate:
    """A staged reward model and how it compares."""

    model: LoadedRewardModel
    serving_version: str
    """Version of the reward model with which it is compared."""
    shadow: ShadowStatistics


@dataclass(frozen=True, slots=True)
class RewardModels:
    """Every reward model in the memory of the reward service."""

    serving: LoadedRewardModel
    previous: LoadedRewardModel | None
    """Can be gone back to."""
    candidate: LoadedRewardModel | None
