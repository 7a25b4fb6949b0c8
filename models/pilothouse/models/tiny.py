"""Small random models: the built-in ``"tiny"``, and one of every architecture that the decoder computes."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from pilothouse.errors import UnsupportedArchitectureError
from pilothouse.models.text import TINY, TextCodec
from pilothouse.models.tiny_text import TINY_VOCABULARY_SIZE

TINY_CONTEXT_TOKENS = 256
"""Longest sequence of every model made here."""


def tiny_model(seed: int = 0, architecture: str = "llama-tied") -> PreTrainedModel:
    """Returns the built-in model, in eval mode and float32: the same weights for the same seed.

    Args:
        seed: Of the random weights. The global random state is left as it was.
        architecture: One of ``ARCHITECTURES``.

    Raises:
        UnsupportedArchitectureError: The architecture is none of them.
    """
    return small_model(architecture, seed)


def small_model(architecture: str, seed: int = 0) -> PreTrainedModel:
    """Returns a random model of one architecture: width 64, 2 layers (Gemma 4), 4 heads, vocabulary 512.

    Args:
        architecture: One of ``ARCHITECTURES``.
        seed: Of the random weights. The global random state is left as it was.

    Raises:
        UnsupportedArchitectureError: The architecture is none of them.
    """
    if architecture not in ARCHITECTURES:
        raise UnsupportedArchitectureError(
            f"no small model '{architecture}'; there are: {', '.join(ARCHITECTURES)}"
        )
    config = copy.deepcopy(ARCHITECTURES[architecture])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    return model


def save_tiny(folder: Path | str, seed: int = 0, architecture: str = "llama-tied") -> None:
    """Writes the built-in model and its tokenizer as a folder that transformers loads."""
    tiny_model(seed, architecture).save_pretrained(folder)
    TextCodec.load(TINY).save(folder)


_SHAPE: dict[str, Any] = {
    "vocab_size": TINY_VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": TINY_CONTEXT_TOKENS,
    "initializer_range": 0.1,  # wide enough for distributions that differ from the uniform one
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT2_SHAPE: dict[str, Any] = {
    "vocab_size": TINY_VOCABULARY_SIZE,
    "n_embd": 64,
    "n_inner": 128,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": TINY_CONTEXT_TOKENS,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GEMMA3_SHAPE: dict[str, Any] = _SHAPE | {
    "num_hidden_layers": 4,
    "query_pre_attn_scalar": 24,
    "sliding_window": 6,  # shorter than most test sequences
    "sliding_window_pattern": 4,  # three sliding layers to one full one
}

ARCHITECTURES: dict[str, PretrainedConfig] = {
    "llama-tied": LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "llama-untied": LlamaConfig(**_SHAPE, tie_word_embeddings=False),
    "qwen3": Qwen3Config(**(_SHAPE | {"head_dim": 32}), tie_word_embeddings=True),
    "gemma3": Gemma3TextConfig(**_GEMMA3_SHAPE),
    "gpt2": GPT2Config(**_GPT2_SHAPE),
}
"""Configurations of the small models; every model gets a copy."""
