"""A loop on the tiny model with real services as processes; one turn of it takes seconds."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pilothouse.client import RewardModelsClient
from pilothouse.config import parse
from pilothouse.errors import NoCandidateError
from pilothouse.local import LocalStack
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.trainer.demo.loop.crowd import Crowd, Member
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.run_config import PpoRunConfig, ServicesConfig

WORDS = ("is", "was", "and", "had", "with", "of", "for", "that", "this", "but", "not", "very")
SERVICES = ("policy", "reward", "reference", "feedback")
RANDOM_MODELS = ("random-1", "random-2", "random-3")


@dataclass(frozen=True)
class Place:
    """Running services, and a loop of its own in them."""

    folder: Path
    name: str
    targets: Mapping[str, str]

    @property
    def services(self) -> ServicesConfig:
        return ServicesConfig.model_validate(
            {name: self.targets[name] for name in ("policy", "weights", "reward", "reference")}
        )

    def config(self, **changes: Any) -> LoopConfig:
        settings = {
            "folder": self.folder / self.name,
            "queue": self.name,
            "prompts": [self.folder / "prompts.jsonl"],
            "held_out_prompts": [self.folder / "prompts.jsonl"],
            "turns": 1,
            "tasks_per_turn": 12,
            "new_rankings": 12,
            "temperatures": [1.0],
            "answers_per_temperature": 4,
            "held_out_percent": 30,
            "models_folder": self.folder / "reward-models",
            "feedback": self.targets["feedback"],
            "reward_models": self.targets["reward-models"],
        }
        return LoopConfig.model_validate(settings | changes)

    def reward_model(self, **changes: Any) -> RewardModelConfig:
        settings = {"normalise_samples": 16, "max_sequence_tokens": 64, "tensorboard": False}
        return parse(RewardModelConfig, settings | changes, section="reward_model")

    def ppo(self, **changes: Any) -> PpoRunConfig:
        settings = {
            "total_steps": 2,
            "minibatches": 1,
            "run": {"checkpoint_every_steps": 1, "tensorboard": False},
            "rollout": {
                "prompts": [self.folder / "prompts.jsonl"],
                "prompts_per_step": 8,
                "max_prompt_tokens": 16,
                "max_new_tokens": 8,
            },
            "services": self.services.model_dump(),
        }
        return parse(PpoRunConfig, settings | changes, section="ppo")

    def crowd(self, members: int = 2) -> Crowd:
        people = [Member(f"honest {number}", "honest", number) for number in range(members)]
        return Crowd(people, self.name, self.targets["feedback"])

    def serve(self, *models: str) -> str:
        """Lets models of the models folder serve, whatever serves now; returns their version."""
        with RewardModelsClient(self.targets["reward-models"]) as client:
            with suppress(NoCandidateError):
                client.drop()
            version, serving = client.stage(*models).reward_version, client.models().serving.reward_version
            if version != serving:
                client.promote(version, expected_serving_version=serving)
        return version


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """One set of services for all tests; each has a queue and a folder of its own."""
    folder = tmp_path_factory.mktemp("loop")
    models = folder / "reward-models"
    start = load_causal_lm("tiny")
    for number, name in enumerate(RANDOM_MODELS, start=1):
        model = ScalarModel.from_causal_lm(start.model, number, pad_id=start.codec.pad_id)
        model.save(models / name, start.codec, max_sequence_tokens=64)
    rows = [json.dumps({"prompt": f"the film {first} {second}"}) for first in WORDS for second in WORDS]
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    settings = {
        "policy.max_sequence_tokens": 64,
        "policy.max_running": 16,
        "reward.backend": "rules",
        "reward.tokenizer": "tiny",
        "reward.models_folder": str(models),
        "reward.shadow.percent": 100,
        "feedback.database": f"sqlite:///{folder / 'feedback.db'}",
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    services = folder / "services"
    services.mkdir()
    with LocalStack(overrides=overrides, services=SERVICES, folder=services) as running:
        yield lambda name: Place(folder, name, dict(running.targets))


@pytest.fixture
def place(stack: Callable[[str], Place], request: pytest.FixtureRequest) -> Place:
    return stack(f"loop-{abs(hash(request.node.name)) % 10**8}")
