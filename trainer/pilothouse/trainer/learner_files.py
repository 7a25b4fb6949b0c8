"""A learner as files: models as transformers keeps them, the rest as safetensors and JSON.

::

    policy/                 the policy; AutoModelForCausalLM loads it
    value/                  the value model; AutoModelForSequenceClassification loads it
    optimizer.safetensors   Adam's moments and step counts, moving average
    learner.json            counters, KL controller, score moments, gate windows
    rng.json                torch's random state
"""

import base64
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from pilothouse.errors import CorruptCheckpointError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import CausalLM, load_causal_lm, save_causal_lm
from pilothouse.models.text import TextCodec
from pilothouse.trainer.durable import to_json
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.token_ids import check_tokenizer

POLICY, VALUE = "policy", "value"
_OPTIMISER, _LEARNER, _RANDOM = "optimizer.safetensors", "learner.json", "rng.json"
_MODELS = (f"{POLICY}.", f"{VALUE}.")


def write_learner(folder: Path, learner: PpoLearner, codec: TextCodec) -> None:
    """Writes everything that `read_learner` needs into an existing folder."""
    state = learner.state_dict()
    save_causal_lm(learner.policy.model.model, codec, folder / POLICY)
    learner.value.model.save(folder / VALUE, codec)
    others = {
        name: tensor.contiguous() for name, tensor in state["tensors"].items() if not name.startswith(_MODELS)
    }
    save_file(others, folder / _OPTIMISER)
    (folder / _LEARNER).write_bytes(to_json(state["json"]))
    generator = torch.get_rng_state().numpy().tobytes()
    (folder / _RANDOM).write_bytes(to_json({"torch": base64.b64encode(generator).decode()}))


def load_models(config: PpoRunConfig, checkpoint: Path | None) -> tuple[CausalLM, ScalarModel]:
    """Loads policy and value model, from a checkpoint or from where the run starts.

    Raises:
        ConfigError: The value model has another tokenizer than the policy.
        ModelNotFoundError: A folder is missing.
        UnsafeModelError: A model would need unpickling or remote code.
    """
    device = config.device
    policy = load_causal_lm(checkpoint / POLICY if checkpoint else config.model, device=device)
    if checkpoint or config.value_model:
        folder = checkpoint / VALUE if checkpoint else Path(config.value_model)
        check_tokenizer(
            policy.codec,
            TextCodec.load(folder).digest,
            reader=f"the value model {folder}",
            mend=f"set ppo.value_model to a reward model trained from {config.model}, or leave it empty",
        )
        value = ScalarModel.load(folder, device=device)
    else:
        value = ScalarModel.from_causal_lm(policy.model, config.seed, pad_id=policy.codec.pad_id)
    return policy, value


def read_learner(folder: Path, learner: PpoLearner) -> None:
    """Restores a learner whose models were loaded from the same checkpoint, bit for bit.

    Raises:
        CorruptCheckpointError: A file or a tensor is missing or does not fit the models and settings.
    """
    device = str(next(iter(learner.policy.parameters.values())).device)
    try:
        tensors = load_file(folder / _OPTIMISER, device=device)
        numbers = json.loads((folder / _LEARNER).read_text())
        random = base64.b64decode(json.loads((folder / _RANDOM).read_text())["torch"])
    except (OSError, ValueError, KeyError) as error:
        raise CorruptCheckpointError(f"{folder} cannot be read: {error}; use an older checkpoint") from None
    models = {f"{POLICY}.{name}": tensor.detach() for name, tensor in learner.policy.parameters.items()}
    models |= {f"{VALUE}.{name}": tensor.detach() for name, tensor in learner.value.parameters.items()}
    learner.load_state_dict({"tensors": models | tensors, "json": numbers})
    torch.set_rng_state(torch.from_numpy(np.frombuffer(random, dtype=np.uint8).copy()))
