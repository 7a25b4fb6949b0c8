"""A loop on the tiny model with real services as processes; one turn of it takes seconds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pilothouse.local import LocalStack
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.run_config import ServicesConfig

WORDS = ("is", "was", "and", "had", "with", "of", "for", "that", "this", "but", "not", "very")
SERVICES = ("policy", "reward", "reference", "feedback")


@dataclass(frozen=True)
class Place:
    """Running services and the folder that they share with the loop."""

    folder: Path
    targets: Mapping[str, str]

    @property
    def services(self) -> ServicesConfig:
        return ServicesConfig.model_validate(
            {name: self.targets[name] for name in ("policy", "weights", "reward", "reference")}
        )

    def config(self, **changes: Any) -> LoopConfig:
        settings = {
            "folder": self.folder / "loop",
            "prompts": [self.folder / "prompts.jsonl"],
            "held_out_prompts": [self.folder / "prompts.jsonl"],
            "temperatures": [1.0],
            "answers_per_temperature": 4,
            "held_out_percent": 30,
            "models_folder": self.folder / "reward-models",
            "feedback": self.targets["feedback"],
            "reward_models": self.targets["reward-models"],
        }
        return LoopConfig.model_validate(settings | changes)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    models = tmp_path / "reward-models"
    start = load_causal_lm("tiny")
    for number in (1, 2, 3):
        ScalarModel.from_causal_lm(start.model, number, pad_id=start.codec.pad_id).save(
            models / f"random-{number}", start.codec, max_sequence_tokens=64
        )
    rows = [json.dumps({"prompt": f"the film {first} {second}"}) for first in WORDS for second in WORDS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    settings = {
        "policy.max_sequence_tokens": 64,
        "policy.max_running": 16,
        "reward.backend": "rules",
        "reward.tokenizer": "tiny",
        "reward.models_folder": str(models),
        "feedback.database": f"sqlite:///{tmp_path / 'feedback.db'}",
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    folder = tmp_path / "services"
    folder.mkdir()
    with LocalStack(overrides=overrides, services=SERVICES, folder=folder) as stack:
        yield Place(tmp_path, dict(stack.targets))
