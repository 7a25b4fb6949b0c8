"""The named outputs of a run, ``summary.json``, and the conditions under which it counts as a success."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pilothouse.trainer.rankings import PairAccuracy, accuracy_to_json
from pilothouse.trainer.statistics import Interval

LIBRARIES = (
    "pilothouse",
    "torch",
    "transformers",
    "onnxruntime",
    "onnxruntime-gpu",
    "grpcio",
    "numpy",
    "vaderSentiment",
)
"""Packages whose versions a summary names, where they are installed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure on the same prompts and seeds before and after training."""

    measure: str
    """Its name."""
    before: Interval
    after: Interval
    difference: Interval
    """After minus before, paired by prompt."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run must reach."""

    reward_model_accuracy: float = 0.75
    """Least held-out pair accuracy."""
    kl_budget_nats: float = 20.0
    """Largest mean KL to the reference per sequence."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition and whether it held."""

    name: str
    passed: bool
    detail: str
    """The figures behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything that a run is judged by. Rewards are normalised scores, KL is in nats, lengths in tokens."""

    run: str
    seed: int
    model: str
    reward_model: PairAccuracy
    """Held-out accuracy of the reward model."""
    reward: Comparison
    """Held-out reward of the learned model."""
    independent: Comparison
    """The same quality by a measure that nothing was trained on, so that over-optimisation would show."""
    kl_per_sequence: Interval
    """KL of the trained policy to the reference, summed over a response."""
    response_tokens: Comparison
    eos_share: Comparison
    """Share of responses that end by themselves."""
    seconds: Mapping[str, float]
    """Wall time of each stage."""
    limits: Limits
    versions: Mapping[str, str]
    """Libraries, model digests and the policy's version."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a reader needs to judge the figures: sizes, learning rates, what was frozen."""
    notes: tuple[str, ...] = ()
    """What was made how, in words."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions in the order in which they are told."""
        accuracy, reward, other = (
            self.reward_model.overall,
            self.reward.difference,
            self.independent.difference,
        )
        limits = self.limits
        return (
            Condition(
                "The reward model ranks held-out pairs as people did",
                accuracy.mean >= limits.reward_model_accuracy,
                f"{accuracy.mean:.1%} of {self.reward_model.pairs} pairs, "
                f"needed {limits.reward_model_accuracy:.0%}",
            ),
            Condition(
                "The held-out reward rises beyond its interval",
                reward.low > 0,
                f"{reward.mean:+.3f}, 95 % interval [{reward.low:+.3f}, {reward.high:+.3f}]; "
                "needed an interval above 0",
            ),
            Condition(
                "The independent measure does not fall",
                # No tolerance, and not "its interval reaches 0": with few prompts that allows any fall.
                other.mean >= 0,
                f"{other.mean:+.3f}, 95 % interval [{other.low:+.3f}, {other.high:+.3f}]; "
                "needed a mean difference of at least 0",
            ),
            Condition(
                "KL to the reference stays within its budget",
                self.kl_per_sequence.mean <= limits.kl_budget_nats,
                f"{self.kl_per_sequence.mean:.2f} nats per sequence; budget {limits.kl_budget_nats:g}",
            ),
        )

    @property
    def passed(self) -> bool:
        """Whether every condition held."""
        return all(condition.passed for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``summary.json``."""
        body = asdict(self)
        accuracy = accuracy_to_json(self.reward_model)
        body["reward_model"] = {"accuracy": accuracy["overall"], **accuracy}
        del body["reward_model"]["overall"]
        body["total_seconds"] = sum(self.seconds.values())
        body["conditions"] = [asdict(condition) for condition in self.conditions]
        body["passed"] = self.passed
        return body


def write_summary(summary: Summary, folder: Path) -> Path:
    """Writes ``summary.json`` into the folder, whole or not at all, and returns its path."""
    file = folder / "summary.json"
    partial = folder / ".summary.json.partial"
    partial.write_text(json.dumps(summary.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, file)
    return file


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that decide the numbers, where present."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
