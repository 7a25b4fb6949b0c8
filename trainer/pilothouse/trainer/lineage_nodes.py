"""What a lineage is made of. As JSON every object has exactly the fields that stand here.

``kind`` tells the objects apart from which a policy or a reward model can come: ``ppo``, ``sft``,
``reward-model``, ``ensemble``, ``base-model``, ``missing`` and ``seen``. ``problems`` are sentences,
and there are none where everything is as it was written. Digests are BLAKE3, hexadecimal; times are seconds
since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["training", "held-out", "prompts", "pretraining"]
"""What a data file was for."""

FileState = Literal["as trained", "as exported", "changed", "missing", "unproven"]
"""Whether a file has the bytes that were trained on; where that is not on record, those of its export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A policy whose answers people judged."""

    model: str
    run: str
    """Run that its weights come from; empty where the weights are the model's own."""
    version: int
    """Weight version."""
    answers: int
    """Answers of it in the file; one that several people have ranked counts once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An export of the feedback service, as the manifest beside a data file tells it."""

    digest: str
    """Of all its files."""
    format: str
    split: str
    """``all``, ``train`` or ``held-out``."""
    queues: tuple[str, ...]
    counts: Mapping[str, int]
    """``rankings``, ``corrections``, ``demonstrations``, ``pairs``, ``raters``, ``tasks``, ``prompts`` and so
    on."""
    agreement: Mapping[str, Any]
    """Measures of the people's agreement by name: ``value``, ``low``, ``high``."""
    first_submitted_at: float | None
    last_submitted_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file that was learned from, or measured on."""

    path: str
    """Where it should lie; its name alone where only a card names it."""
    part: Part
    state: FileState
    digest: str | None
    """Of its bytes now; None where it is missing."""
    trained_digest: str | None
    """Of its bytes when it was trained on; None where that is not on record."""
    snapshot: Snapshot | None
    """None without a manifest that vouches for the bytes that were trained on."""
    policies: tuple[Answering, ...]
    """Who wrote the answers; empty where the file does not say, or has changed."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Something that is behind, but is not to be found here."""

    folder: str
    """Where it was; empty where that is not known."""
    why: str
    kind: Literal["missing"] = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained:
    """A rule or a program that scores: no training is behind it."""

    version: str
    """As every score carries it."""
    kind: Literal["untrained"] = "untrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something that this lineage describes in full at an earlier place."""

    folder: str
    of: str
    """Its kind."""
    kind: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model that no run here has made."""

    name: str
    folder: str
    """``tiny`` for the one that is built in."""
    digest: str | None
    """Of its weights, as services report it; None where they cannot be read."""
    problems: tuple[str, ...] = ()
    kind: Literal["base-model"] = "base-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sft:
    """A policy from demonstrations."""

    folder: str
    """Of the run."""
    steps: int | None
    """Optimiser steps; None where no checkpoint is left."""
    seed: int
    data: tuple[DataFile, ...]
    policy: "Origin"
    """What it started from."""
    problems: tuple[str, ...] = ()
    kind: Literal["sft"] = "sft"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """A reward model from people's rankings."""

    folder: str
    """Of the model."""
    version: str
    """As services report it; empty where the folder does not say."""
    member: int | None
    """Which of an ensemble it is."""
    seed: int | None
    loss: str
    labels: Mapping[str, Any] | None
    """``rankings``, ``pairs``, ``prompts``, ``raters``, ``weight`` that it learned from, by its card."""
    accuracy: Mapping[str, float | None] | None
    """``mean``, ``low``, ``high`` of the share of held-out pairs in the people's order."""
    data: tuple[DataFile, ...]
    policy: "Origin"
    """What it started from."""
    problems: tuple[str, ...] = ()
    kind: Literal["reward-model"] = "reward-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Reward models that are served as one."""

    folder: str
    version: str
    """As the service reports it; empty where nothing tells how they were combined."""
    combination: str
    """``mean``, ``min`` or ``mean_minus_std``; empty with the version."""
    std_factor: float
    members: tuple["Origin", ...]
    problems: tuple[str, ...] = ()
    kind: Literal["ensemble"] = "ensemble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Who scored the samples of a run."""

    version: str
    """On every sample."""
    how: str
    """How the model was recognised."""
    model: "Origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The model to which the policy was held."""

    digest: str
    """As the service reported it; empty where that is not on record."""
    folder: str | None
    """Which model of this lineage it is; None where it is none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What the ledger says of the samples behind a checkpoint."""

    samples: int
    prompts: int
    """Different ones."""
    policy_versions: int
    """How many weight versions have written them."""
    first_version: tuple[int, int] | None
    """(epoch, version) of the oldest; None without samples."""
    last_version: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppo:
    """A policy from PPO."""

    folder: str
    """Of the run."""
    checkpoint: str
    """Its folder's name; empty where the run has none that is complete."""
    step: int
    epoch: int | None
    """Fencing epoch; None where the checkpoint cannot be read."""
    version: int | None
    """Weight version; None where the checkpoint cannot be read."""
    seed: int
    experience: Experience | None
    """None without a ledger."""
    rewards: tuple[Scoring, ...]
    """One, unless versions were changed on purpose."""
    reference: Reference
    data: tuple[DataFile, ...]
    """Prompts, and text for PPO-ptx."""
    policy: "Origin"
    """What it started from."""
    value_model: "Origin | None"
    """What its value model started from; None for the policy's trunk with a fresh head."""
    problems: tuple[str, ...] = ()
    kind: Literal["ppo"] = "ppo"


Origin = Ppo | Sft | RewardModel | Ensemble | BaseModel | Untrained | Missing | Seen
