"""The trainer's configuration sections."""

from pilothouse.trainer.evaluation_config import EvaluationConfig
from pilothouse.trainer.fit_config import FitConfig, RewardModelConfig, SftConfig
from pilothouse.trainer.ppo.config import OptimiserConfig
from pilothouse.trainer.run_config import PpoRunConfig

PpoConfig = PpoRunConfig
"""Section ``ppo``: the PPO step and the run around it."""

__all__ = [
    "EvaluationConfig",
    "FitConfig",
    "OptimiserConfig",
    "PpoConfig",
    "PpoRunConfig",
    "RewardModelConfig",
    "SftConfig",
]
