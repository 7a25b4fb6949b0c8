"""Causal language models from a folder (or the built-in ``"tiny"``), and back into one.

Safetensors only: nothing is unpickled, no code of the model's folder is run, and no hub is asked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pilothouse.errors import (
    ConfigError,
    ModelNotFoundError,
    UnsafeModelError,
    UnsupportedArchitectureError,
)
from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.spec import DecoderSpec, check_architecture, decoder_spec
from pilothouse.models.text import TINY, TextCodec
from pilothouse.models.tiny import tiny_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Compute types by the name that configurations use."""

_SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class Network:
    """A causal language model: token ids in, logits out."""

    model: PreTrainedModel
    """Owns the parameters, in eval mode (dropout off)."""
    spec: DecoderSpec
    weights: DecoderWeights
    """Over the live parameters of ``model``: gradients reach them."""


@dataclass(frozen=True, slots=True)
class CausalLM(Network):
    """A causal language model with its tokenizer."""

    codec: TextCodec
    name: str
    """The folder's name, or ``"tiny"``."""


def load_causal_lm(name_or_folder: str | Path, *, device: str = "cpu", dtype: str = "float32") -> CausalLM:
    """Loads a model folder as transformers saves it; ``"tiny"`` is built in.

    Args:
        name_or_folder: The folder, or ``"tiny"``.
        device: Where the parameters live, for example ``cpu`` or ``cuda:0``.
        dtype: A key of ``DTYPES``.

    Raises:
        ModelNotFoundError: The folder, its config, weights or tokenizer is missing.
        UnsafeModelError: The weights are pickled, or the model needs code of its own.
        UnsupportedArchitectureError: The decoder does not compute this architecture or a feature it turns on.
        ConfigError: The dtype is unknown, the device cannot be used, or a file cannot be read.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype '{dtype}'; there are: {', '.join(DTYPES)}")
    codec = None
    if str(name_or_folder) == TINY:
        model = tiny_model()
    else:
        check_folder(Path(name_or_folder))
        codec = TextCodec.load(name_or_folder)
        model = load_pretrained(AutoModelForCausalLM, Path(name_or_folder), DTYPES[dtype])
    place(model, device, dtype)
    return CausalLM(
        model=model,
        spec=decoder_spec(model.config),
        weights=DecoderWeights.from_model(model),
        codec=codec or TextCodec.load(TINY),
        name=Path(name_or_folder).name,
    )


def empty_model(factory: Any, config: Mapping[str, Any], device: str) -> PreTrainedModel:
    """Returns a transformers model, float32 and in eval mode, whose weights are still to be filled in.

    Args:
        factory: An ``AutoModel...`` class.
        config: What `config_json` returned of a model like it.
        device: Where the parameters live.

    Raises:
        UnsupportedArchitectureError: The decoder does not compute this architecture.
        ConfigError: The device cannot be used.
    """
    check_architecture(str(config["model_type"]))
    kind = CONFIG_MAPPING[config["model_type"]]
    model: PreTrainedModel = factory.from_config(kind.from_dict(dict(config)), dtype=torch.float32)
    place(model, device, "float32")
    model.eval()
    return model


def config_json(model: PreTrainedModel) -> dict[str, Any]:
    """Returns a model's config as JSON, all that `empty_model` needs."""
    found: dict[str, Any] = json.loads(model.config.to_json_string())
    return found


def load_pretrained(factory: Any, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Returns a transformers model of a checked folder, in eval mode.

    Args:
        factory: An ``AutoModel...`` class.
        folder: One that ``check_folder`` accepted.
        dtype: Of the parameters.

    Raises:
        ConfigError: The files cannot be read as such a model, or some of its weights are missing.
    """
    quiet()
    try:
        model: PreTrainedModel
        model, report = factory.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # a config with wrong values makes transformers raise nearly anything
        raise ConfigError(f"the model in {folder} cannot be loaded: {error}") from error
    # transformers would go on with random values where weights are missing.
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if wrong:
        raise ConfigError(
            f"the weights in {folder} are not those of a {type(model).__name__} "
            f"(missing or unexpected: {', '.join(wrong[:5])}); give a folder of that kind of model"
        )
    model.eval()
    return model


def place(model: torch.nn.Module, device: str, dtype: str) -> None:
    """Moves a model's parameters to a device and a dtype, a key of ``DTYPES``.

    Raises:
        ConfigError: This machine has no such device, or not enough memory on it.
    """
    try:
        model.to(device=torch.device(device), dtype=DTYPES[dtype])
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"device '{device}' cannot be used: {reason}; choose cpu or a device of this machine"
        ) from error


def quiet() -> None:
    """Turns off transformers' progress bars, which would run through our own output."""
    transformers_logging.disable_progress_bar()


def check_folder(folder: Path) -> dict[str, Any]:
    """Returns the folder's config after making sure that it can be loaded and that this runs no foreign code.

    Raises:
        ModelNotFoundError: The folder, its config or its weights are missing.
        UnsafeModelError: The weights are pickled, or the config asks for remote code.
        UnsupportedArchitectureError: The decoder does not compute this architecture, or the weights are
            quantised.
        ConfigError: The config is no JSON object.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"no model folder {folder}; give a folder as transformers saves it, or 'tiny'"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(f"{folder} has no config.json; give a folder as transformers saves it")
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{folder / 'config.json'} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{folder / 'config.json'} is not a JSON object; save the model anew")
    if "auto_map" in config:
        raise UnsafeModelError(
            f"{folder} needs code of its own (auto_map), which is never run; use a plain model"
        )
    if not any((folder / name).is_file() for name in _SAFE_WEIGHTS):
        if any(file.suffix in _PICKLED for file in folder.iterdir()):
            raise UnsafeModelError(
                f"{folder} has only pickled weights, which are never read; save as safetensors"
            )
        raise ModelNotFoundError(f"{folder} has no model.safetensors; save the weights as safetensors")
    check_architecture(str(config.get("model_type")))
    if config.get("quantization_config"):
        raise UnsupportedArchitectureError(f"{folder} has quantised weights; save the model dequantised")
    return config


def save_causal_lm(model: PreTrainedModel, codec: TextCodec, folder: Path | str) -> None:
    """Writes a folder that transformers and ``load_causal_lm`` load: safetensors, config, tokenizer."""
    quiet()
    model.save_pretrained(folder)
    codec.save(folder)


def parameters_by_name(model: PreTrainedModel) -> dict[str, Tensor]:
    """Returns the model's parameters by transformers' names, tied ones once: what a weight push sends."""
    return dict(model.named_parameters())


def tensor_bytes(tensor: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns a tensor's little-endian bytes in C order, uint8 [bytes]; without a copy where it lies so."""
    if isinstance(tensor, Tensor):
        # NumPy has no bfloat16: reinterpret as bytes first.
        tensor = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)


def state_digest(state: Mapping[str, Tensor | npt.NDArray[Any]]) -> str:
    """Returns a model's digest, lower-case hex: BLAKE3 of its tensors' digests joined in name order."""
    digests = (blake3(tensor_bytes(state[name]).data).digest() for name in sorted(state))
    return blake3(b"".join(digests)).hexdigest()
