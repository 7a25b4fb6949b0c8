"""Which models the decoder computes, and which it refuses by name."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
)

from pilothouse.errors import UnsupportedArchitectureError
from pilothouse.models.decoder import DecoderWeights, hidden_states, logits
from pilothouse.models.packed import pack, packed_attention
from pilothouse.models.spec import decoder_spec
from pilothouse.models.tiny import ARCHITECTURES, small_model

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BloomConfig(), "'bloom' is not supported; supported are: llama, qwen3, gemma3_text, gpt2"),
        (LlamaConfig(attention_bias=True), "attention_bias=True"),
        (LlamaConfig(mlp_bias=True), "mlp_bias=True"),
        (LlamaConfig(hidden_act="relu"), "activation 'relu'"),
        (Qwen3Config(attention_bias=True), "attention_bias=True"),
        (Gemma3TextConfig(final_logit_softcapping=30.0), "final_logit_softcapping"),
        (Gemma3TextConfig(attn_logit_softcapping=50.0), "attn_logit_softcapping"),
        (Gemma3TextConfig(use_bidirectional_attention=True), "use_bidirectional_attention"),
        (GPT2Config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
        (GPT2Config(add_cross_attention=True), "add_cross_attention"),
        (
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rope type 'dynamic'",
        ),
    ],
)
def test_what_is_not_computed_is_refused_by_name(config: PretrainedConfig, words: str) -> None:
    with pytest.raises(UnsupportedArchitectureError) as caught:
        decoder_spec(config)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}),
        LlamaConfig(
            **SHAPE,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 1e4,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        LlamaConfig(**SHAPE, hidden_act="gelu", head_dim=16),
        Qwen3Config(**SHAPE, head_dim=8, use_sliding_window=True, sliding_window=5, max_window_layers=1),
        GPT2Config(vocab_size=64, n_embd=32, n_head=4, n_layer=2, n_positions=64, scale_attn_weights=False),
        GPT2Config(vocab_size=64, n_embd=32, n_head=4, n_layer=2, n_positions=64, tie_word_embeddings=False),
    ],
    ids=["linear-rope", "llama3-rope", "gelu", "qwen3-window", "gpt2-unscaled", "gpt2-untied"],
)
def test_variants_of_the_architectures_equal_transformers(config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tokens = torch.randint(0, 64, (50,))
    weights = DecoderWeights.from_model(model)
    batch = pack([tokens])
    with torch.no_grad():
        attend = packed_attention(weights.spec, batch)
        ours = logits(weights, hidden_states(weights, batch.tokens, batch.positions, attend))
        torch.testing.assert_close(ours, model(input_ids=tokens[None]).logits[0], rtol=0, atol=1e-4)


def test_small_models_are_the_same_for_the_same_seed_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for architecture in ARCHITECTURES:
        one, same, other = (small_model(architecture, seed) for seed in (1, 1, 2))
        first, second, third = (next(model.parameters()) for model in (one, same, other))
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
    assert torch.equal(before, torch.get_rng_state())


def test_an_unknown_small_model_is_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="llama-tied"):
        small_model("mamba")
