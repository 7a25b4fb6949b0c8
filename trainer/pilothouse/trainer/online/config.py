"""Settings of the closed loop: everything around the runs that it starts."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pilothouse.config import Config
from pilothouse.trainer.online.guards import GuardConfig


class LoopConfig(Config):
    """One loop. What its reward models and PPO runs are like stands in ``[reward_model]`` and ``[ppo]``."""

    folder: Path = Path("runs/loop")
    """Folder of the loop: one folder for each turn."""
    model: str = "tiny"
    """The SFT model: first policy, reference, and base of every reward model."""
    prompts: tuple[Path, ...] = ()
    """Prompts to whose answers people are asked; one file at least."""
    held_out_prompts: tuple[Path, ...] = ()
    """Prompts on which every turn's policy is measured; one file at least."""
    turns: int = Field(default=0, ge=0)
    """Turns to take; 0 goes on until it is stopped."""
    queue: str = "loop"
    """Queue of the feedback service that is filled; made if it is not there."""
    instructions: str = "Which answer is better?"
    """Shown above the tasks of a queue that is made."""
    overlap: int = Field(default=1, ge=1, le=100)
    """Raters for each task of a queue that is made."""
    tasks_per_turn: int = Field(default=64, ge=1)
    """Prompts whose answers are queued each turn."""
    oversample: int = Field(default=1, ge=1)
    """Prompts are answered so many times over, and people get those first on which the serving ensemble
    disagrees most (active selection). 1: all of them, in their order."""
    answers_per_task: int = Field(default=0, ge=0, le=9)
    """People rank so many of a prompt's answers, those on whose pairs the serving ensemble disagrees most; 2
    makes every task one pair. 0: all of them."""
    temperatures: tuple[float, ...] = (0.7, 1.0)
    """The policy answers at each."""
    answers_per_temperature: int = Field(default=2, ge=1)
    """Answers at each temperature."""
    new_rankings: int = Field(default=64, ge=1)
    """A turn goes on when so many rankings have come in since the turn before."""
    held_out_percent: int = Field(default=20, ge=1, le=90)
    """Share of the prompts whose rankings are held out, to compare reward models on."""
    models_folder: Path = Path("runs/reward-models")
    """``reward.models_folder`` of the reward service, as this machine sees it."""
    export_onnx: bool = False
    """Stage candidates as ONNX files and not as transformers folders."""
    combination: Literal["mean", "min", "mean_minus_std"] = "mean"
    """How an ensemble's members (``reward_model.members``) are combined."""
    promotion_margin: float = Field(default=0.0, ge=-1, le=1)
    """A candidate is promoted if its held-out accuracy is at least that of the serving model plus this."""
    gold_min_rankings: int = Field(default=50, ge=0)
    """Held-out rankings from which on a gold reward model is trained on them, to raise an alarm when the
    policy exploits the serving one; 0 for none."""
    feedback: str = "127.0.0.1:7006"
    """host:port of the feedback service."""
    reward_models: str = "127.0.0.1:7007"
    """host:port of the reward service's models server."""
    guards: GuardConfig = GuardConfig()
    """What pauses a PPO run."""
    seed: int = Field(default=0, ge=0)
    """Of prompts and samples."""

    @model_validator(mode="after")
    def _enough_answers(self) -> Self:
        answers = len(self.temperatures) * self.answers_per_temperature
        if not 2 <= answers <= 9:
            raise ValueError(
                f"{answers} answers to a prompt; people rank 2 to 9, so many as temperatures times "
                "answers_per_temperature"
            )
        if self.answers_per_task == 1 or self.answers_per_task > answers:
            raise ValueError(f"answers_per_task = {self.answers_per_task}; set 2 to {answers}, or 0 for all")
        return self
