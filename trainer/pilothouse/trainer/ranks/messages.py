"""What rank 0 tells the others: a learner as it stands, and what a step learns from. JSON and tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import Network, config_json, empty_model
from pilothouse.models.spec import decoder_spec
from pilothouse.tensors import Tokens
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.ragged import Ranks
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.ranks.group import Json

Message = tuple[Json, Sequence[Tensor]]
"""What `Group.tell` sends and `Group.hear` returns."""

_ARRAYS = (
    "prompt_lengths", "response_lengths", "behaviour_logprobs", "reference_logprobs", "scores", "finished",
    "epochs", "versions",
)  # fmt: skip
"""Arrays of a batch; its sequences come before them, texts after."""


def of_learner(learner: PpoLearner) -> Message:
    """Returns a learner: its settings, its models' shapes, everything that it has learned."""
    state = learner.state_dict()
    fields = set(PpoConfig.model_fields)
    what = {
        "settings": learner.config.model_dump(mode="json", include=fields),
        "epoch": learner.epoch,
        "policy": config_json(learner.policy.model.model),
        "value": config_json(learner.value.model.model),
        "names": list(state["tensors"]),
        "state": state["json"],
    }
    return what, list(state["tensors"].values())


def to_learner(message: Message, ranks: Ranks, device: str) -> PpoLearner:
    """Returns the same learner again, on another rank."""
    what, tensors = message
    network = empty_model(AutoModelForCausalLM, what["policy"], device)
    policy = Network(network, decoder_spec(network.config), DecoderWeights.from_model(network))
    value = ScalarModel(empty_model(AutoModelForSequenceClassification, what["value"], device))
    settings = PpoConfig.model_validate(what["settings"])
    learner = PpoLearner(policy, value, settings, epoch=what["epoch"], ranks=ranks)
    named = {name: tensor.to(device) for name, tensor in zip(what["names"], tensors, strict=True)}
    learner.load_state_dict({"tensors": named, "json": what["state"]})
    return learner


def of_batch(batch: RolloutBatch, texts: Sequence[Tokens]) -> Message:
    """Returns what a step learns from: a batch and pre-training texts."""
    what = {
        "reward_version": batch.reward_version,
        "reference_digest": batch.reference_digest,
        "sample_ids": batch.sample_ids,
        "text_lengths": [len(text) for text in texts],
    }
    arrays = [np.concatenate(batch.sequences), *(getattr(batch, name) for name in _ARRAYS)]
    if texts:
        arrays.append(np.concatenate(texts))
    return what, [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def to_batch(message: Message) -> tuple[RolloutBatch, list[Tokens]]:
    """Returns the batch and the texts again."""
    what, tensors = message
    arrays = [tensor.numpy() for tensor in tensors]
    fields: dict[str, Any] = dict(zip(_ARRAYS, arrays[1:], strict=False))
    batch = RolloutBatch(
        sequences=_split(arrays[0], fields["prompt_lengths"] + fields["response_lengths"]),
        reward_version=what["reward_version"],
        reference_digest=what["reference_digest"],
        sample_ids=what["sample_ids"],
        **fields,
    )
    return batch, _split(arrays[-1], what["text_lengths"]) if what["text_lengths"] else []


def _split(joined: Tokens, lengths: Sequence[int]) -> list[Tokens]:
    return np.split(joined, np.cumsum(lengths)[:-1])
