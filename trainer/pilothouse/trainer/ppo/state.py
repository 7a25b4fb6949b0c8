"""A learner's whole state as tensors and JSON, so that a resumed run goes on bit for bit (checklist 48)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from pilothouse.errors import CorruptCheckpointError
from pilothouse.trainer.ppo.gates import Sources

if TYPE_CHECKING:
    from pilothouse.trainer.ppo.step import PpoLearner


class LearnerState(TypedDict):
    """What `PpoLearner.state_dict` returns."""

    tensors: dict[str, Tensor]
    """``policy.*`` and ``value.*`` under transformers' parameter names, ``policy_optimiser.*`` and
    ``value_optimiser.*`` (Adam's moments and step counts by parameter), ``average.*``. Live: write or copy
    them before the next step."""
    json: dict[str, Any]
    """Counters, KL controller, score moments, gate windows, sources, random state."""


def save_state(learner: "PpoLearner") -> LearnerState:
    """Returns the learner's state."""
    tensors: dict[str, Tensor] = {}
    for prefix, group in _groups(learner).items():
        tensors.update({f"{prefix}.{name}": tensor.detach() for name, tensor in group.items()})
    return LearnerState(
        tensors=tensors,
        json={
            "updates": learner.updates,
            "episodes": learner.episodes,
            "beta": learner.kl.beta,
            "score_moments": learner.scores.state(),
            "recent_kl": list(learner.kl_gate.recent),
            "reward_version": learner.sources.reward_version,
            "reference_digest": learner.sources.reference_digest,
            "value_gain": learner.value.model.gain,
            "value_bias": learner.value.model.bias,
            "shuffles": learner.shuffles.bit_generator.state,
        },
    )


def load_state(learner: "PpoLearner", state: LearnerState) -> None:
    """Restores what `save_state` returned into a learner of the same models and settings.

    Raises:
        CorruptCheckpointError: A tensor or number is missing or has another shape.
    """
    tensors, json = state["tensors"], state["json"]
    for prefix, group in (
        ("policy", learner.policy.parameters),
        ("value", learner.value.parameters),
        ("average", learner.policy.average),
    ):
        _copy(prefix, tensors, group)
    learner.policy.optimiser.load_state(_under("policy_optimiser", tensors))
    learner.value.optimiser.load_state(_under("value_optimiser", tensors))
    try:
        learner.updates, learner.episodes = int(json["updates"]), int(json["episodes"])
        learner.kl.beta = float(json["beta"])
        learner.scores.load_state(json["score_moments"])
        learner.kl_gate.recent.clear()
        learner.kl_gate.recent.extend(json["recent_kl"])
        learner.sources = Sources(json["reward_version"], json["reference_digest"])
        learner.value.model.gain, learner.value.model.bias = json["value_gain"], json["value_bias"]
        learner.shuffles.bit_generator.state = json["shuffles"]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptCheckpointError(
            f"learner state is incomplete ({error}); take another checkpoint"
        ) from None


def _groups(learner: "PpoLearner") -> dict[str, Mapping[str, Tensor]]:
    return {
        "policy": learner.policy.parameters,
        "value": learner.value.parameters,
        "average": learner.policy.average,
        "policy_optimiser": learner.policy.optimiser.state(),
        "value_optimiser": learner.value.optimiser.state(),
    }


@torch.no_grad()
def _copy(prefix: str, tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    for name, target in targets.items():
        source = tensors.get(f"{prefix}.{name}")
        if source is None or source.shape != target.shape:
            found = "is missing" if source is None else f"has shape {tuple(source.shape)}"
            raise CorruptCheckpointError(
                f"{prefix}.{name} {found}, expected {tuple(target.shape)}; resume with the models and "
                "settings the checkpoint was made with"
            )
        target.copy_(source)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
