"""What a finished demo leaves for its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.evaluate import Evaluation
from pilothouse.trainer.stages import Stage

EVALUATION_FILE = "evaluation.json"
"""File of every judged response in an evaluation's folder."""

TITLES = {
    "material": "Texts and labels",
    "sft": "SFT",
    "reward-model": "Reward model",
    "export": "ONNX export",
    "before": "Evaluation before",
    "ppo": "Online PPO",
    "after": "Evaluation after",
}
"""Stages in their order, and what people call them."""


@dataclass(frozen=True, slots=True)
class Results:
    """The finished stages."""

    stages: Mapping[str, Stage]
    """By the names of `TITLES`."""

    def folder(self, name: str) -> Path:
        """Returns a stage's folder."""
        return self.stages[name].folder

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """Returns the rows of a stage's ``metrics.jsonl``."""
        return list(read_rows(self.folder(name) / "metrics.jsonl"))

    def evaluation(self, name: str) -> Evaluation:
        """Returns the evaluation ``before`` or ``after``."""
        return Evaluation.read(self.folder(name) / EVALUATION_FILE)

    def seconds(self) -> dict[str, float]:
        """Returns the time of every stage by its title; the start of the services stands by itself."""
        spent = {TITLES[name]: stage.seconds for name, stage in self.stages.items()}
        started = sum(float(stage.outputs.get("services_seconds", 0.0)) for stage in self.stages.values())
        return spent | {"Services start": started}
