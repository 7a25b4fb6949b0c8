"""What a decoder-only model computes, read from its transformers config.

A config feature that the decoder does not compute is refused by name: a silently ignored one would give
plausible but wrong numbers. Dropout is the exception: it is off everywhere, in rollout and in training
(checklist 7).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PretrainedConfig

from pilothouse.errors import UnsupportedArchitectureError
from pilothouse.models.rope import inverse_frequencies

Activation = Literal["silu", "gelu", "gelu_tanh"]
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """What sets one layer apart from the others."""

    rope: int | None
    """Index into ``DecoderSpec.ropes``; None where positions are learned."""
    window: int | None
    """A query sees its own and the ``window - 1`` positions before it; None where it sees all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """Everything that the forward pass needs to know besides the weights."""

    architecture: str
    """``model_type`` of the config."""
    names: Literal["llama", "gpt2"]
    """How parameters are named and stored."""
    vocabulary_size: int
    max_positions: int
    """Longest sequence in tokens."""
    width: int
    """d."""
    heads: int
    """H."""
    kv_heads: int
    """G, a divisor of H."""
    head_dim: int
    """D."""
    attention_scale: float
    """Multiplies query·key; not always D^-1/2."""
    layers: tuple[LayerSpec, ...]
    ropes: tuple[tuple[float, ...], ...]
    """Inverse frequencies, D/2 each, of every kind of rotary embedding in use."""
    norm: Literal["rms", "layer"]
    norm_eps: float
    norm_offset: float = 0.0
    """Added to the RMS-norm weight (1 in Gemma)."""
    qk_norm: bool = False
    """Queries and keys are normalised per head before the rotary embedding."""
    post_norms: bool = False
    """The outputs of attention and MLP are normalised before they join the residual stream (Gemma)."""
    mlp: Literal["gated", "plain"] = "gated"
    activation: Activation = "silu"
    embedding_scale: float = 1.0
    learned_positions: bool = False
    tied: bool
    """The LM head is the embedding matrix."""

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Widths of query, key and value: H·D, G·D, G·D."""
        return self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim


def decoder_spec(config: PretrainedConfig) -> DecoderSpec:
    """Returns the spec of a transformers config.

    Raises:
        UnsupportedArchitectureError: The architecture, or a feature that the config turns on, is unknown.
    """
    check_architecture(config.model_type)
    return _READERS[config.model_type](config)


def check_architecture(model_type: str) -> None:
    """Makes sure that the decoder knows a ``model_type``; its features are another question.

    Raises:
        UnsupportedArchitectureError: It does not.
    """
    if model_type not in _READERS:
        raise UnsupportedArchitectureError(
            f"architecture '{model_type}' is not supported; supported are: {', '.join(SUPPORTED)}"
        )


def _llama(config: PretrainedConfig) -> DecoderSpec:
    _refuse(config, attention_bias=False, mlp_bias=False)
    return DecoderSpec(**_rotary(config), activation=_activation(config, config.hidden_act))


def _qwen3(config: PretrainedConfig) -> DecoderSpec:
    _refuse(config, attention_bias=False)
    return DecoderSpec(**_rotary(config), activation=_activation(config, config.hidden_act), qk_norm=True)


def _gemma3(config: PretrainedConfig) -> DecoderSpec:
    _refuse(
        config,
        attention_bias=False,
        final_logit_softcapping=None,
        attn_logit_softcapping=None,
        use_bidirectional_attention=False,
    )
    shared = _rotary(config) | {"attention_scale": config.query_pre_attn_scalar**-0.5}
    return DecoderSpec(
        **shared,
        activation=_activation(config, config.hidden_activation),
        norm_offset=1.0,
        qk_norm=True,
        post_norms=True,
        # transformers rounds the factor to the weights' dtype; float32 keeps sqrt(d) itself.
        embedding_scale=config.hidden_size**0.5,
    )


def _gpt2(config: PretrainedConfig) -> DecoderSpec:
    _refuse(config, add_cross_attention=False, scale_attn_by_inverse_layer_idx=False)
    head_dim = config.n_embd // config.n_head
    return DecoderSpec(
        architecture=config.model_type,
        names="gpt2",
        vocabulary_size=config.vocab_size,
        max_positions=config.n_positions,
        width=config.n_embd,
        heads=config.n_head,
        kv_heads=config.n_head,
        head_dim=head_dim,
        attention_scale=head_dim**-0.5 if config.scale_attn_weights else 1.0,
        layers=(LayerSpec(rope=None, window=None),) * config.n_layer,
        ropes=(),
        norm="layer",
        norm_eps=config.layer_norm_epsilon,
        mlp="plain",
        activation=_activation(config, config.activation_function),
        learned_positions=True,
        tied=config.tie_word_embeddings,
    )


def _rotary(config: PretrainedConfig) -> dict[str, Any]:
    """Returns what the architectures with Llama's parameter names have in common."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown:
        raise _unsupported(config, f"layer types {sorted(unknown)}")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    ropes = [inverse_frequencies(_rope_parameters(config, kind), head_dim) for kind in kinds]
    distinct = list(dict.fromkeys(ropes))
    windows = [config.sliding_window if kind == "sliding_attention" else None for kind in kinds]
    return {
        "architecture": config.model_type,
        "names": "llama",
        "vocabulary_size": config.vocab_size,
        "max_positions": config.max_position_embeddings,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_dim": head_dim,
        "attention_scale": head_dim**-0.5,
        "layers": tuple(
            LayerSpec(rope=distinct.index(rope), window=window)
            for rope, window in zip(ropes, windows, strict=True)
        ),
        "ropes": tuple(distinct),
        "norm": "rms",
        "norm_eps": config.rms_norm_eps,
        "tied": config.tie_word_embeddings,
    }


def _rope_parameters(config: PretrainedConfig, kind: str) -> Mapping[str, Any]:
    """Returns the rotary parameters of one kind of layer; Gemma has one set per kind, others one for all."""
    parameters: Mapping[str, Any] = config.rope_parameters
    own: Mapping[str, Any] = parameters.get(kind, parameters)
    return own


def _activation(config: PretrainedConfig, name: str) -> Activation:
    if name not in _ACTIVATIONS:
        raise _unsupported(config, f"activation '{name}'")
    return _ACTIVATIONS[name]


def _refuse(config: PretrainedConfig, **expected: Any) -> None:
    """Refuses a config in which a feature is on; False and None both mean off."""
    for key, value in expected.items():
        actual = getattr(config, key, value)
        if (actual or None) != (value or None):
            raise _unsupported(config, f"{key}={actual}")


def _unsupported(config: PretrainedConfig, what: str) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(
        f"{config.model_type} with {what} is not supported: the decoder would compute wrong numbers; "
        f"use a model without it"
    )


_READERS: dict[str, Callable[[PretrainedConfig], DecoderSpec]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gemma3_text": _gemma3,
    "gpt2": _gpt2,
}
SUPPORTED = tuple(_READERS)
"""Values of ``model_type`` that the decoder computes."""
