"""One functional forward over a decoder's weights: prefill, cached decode, scoring and training alike.

The batch is packed: all tokens end to end as [T, d], no padding. How a token sees others (causality, cache,
windows) is the ``Attend`` strategy's business.
Axes: T tokens, d width, H heads, G KV heads, D head dim, V vocabulary, N rows.
"""

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from pilothouse.models.rope import angles_at, rotate
from pilothouse.models.spec import Activation, DecoderSpec
from pilothouse.models.weights import DecoderWeights, LayerWeights, lean

__all__ = ["Attend", "DecoderWeights", "hidden_states", "logits"]

Angles = tuple[Tensor, Tensor]


class Attend(Protocol):
    """Lets the packed tokens of one layer see each other, and a cache where there is one."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Returns the attention's output [T, H·D].

        Args:
            layer: Index of the layer; its window is in ``spec.layers``.
            query: [T, H, D], rotary embedding applied, not scaled: the scale is ``spec.attention_scale``.
            key: [T, G, D], rotary embedding applied.
            value: [T, G, D].
        """


def hidden_states(
    weights: DecoderWeights,
    tokens: Tensor,
    positions: Tensor,
    attend: Attend,
    *,
    first_layer: int = 0,
    last_layer: int | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """Runs layers ``first_layer`` to ``last_layer`` (excluded) over packed tokens.

    Args:
        weights: The model.
        tokens: int64 [T]; not read where ``hidden`` is given.
        positions: int64 [T], each token's place in its own sequence, from 0, below ``spec.max_positions``.
        attend: The attention strategy.
        first_layer: Where to start; above 0 it needs ``hidden``.
        last_layer: Where to stop; None runs to the end.
        hidden: [T, d], the result of an earlier call that stopped at ``first_layer`` (a cached trunk).

    Returns:
        [T, d]; after the final norm when it runs to the end.
    """
    spec = weights.spec
    stop = len(weights.layers) if last_layer is None else last_layer
    states = _embed(weights, tokens, positions) if hidden is None else hidden
    angles = [angles_at(rope, spec.max_positions, positions, states.dtype) for rope in spec.ropes]
    for index in range(first_layer, stop):
        rope = spec.layers[index].rope
        states = _layer(weights, index, states, None if rope is None else angles[rope], attend)
    return weights.final_norm(states) if stop == len(weights.layers) else states


def logits(weights: DecoderWeights, hidden: Tensor) -> Tensor:
    """Returns the next-token logits, float32 [N, V], of final hidden states [N, d].

    Raises:
        ValueError: The model has no LM head.
    """
    if weights.head is None:
        raise ValueError("this model has no LM head; load it with load_causal_lm to get one")
    return weights.head(hidden).float()


def _embed(weights: DecoderWeights, tokens: Tensor, positions: Tensor) -> Tensor:
    states = F.embedding(tokens, weights.embedding)
    if weights.spec.embedding_scale != 1.0:
        states = states * weights.spec.embedding_scale
    if weights.positions is not None:
        states = states + F.embedding(positions, weights.positions)
    return states


def _layer(
    weights: DecoderWeights, index: int, states: Tensor, angles: Angles | None, attend: Attend
) -> Tensor:
    layer, spec = weights.layers[index], weights.spec
    query, key, value = _attention_inputs(spec, layer, layer.input_norm(states), angles)
    attended = layer.output(attend(index, query, key, value))
    states = states + (attended if layer.attention_norm is None else layer.attention_norm(attended))
    inner = _mlp(spec, layer, layer.mlp_norm(states))
    return states + (inner if layer.mlp_out_norm is None else layer.mlp_out_norm(inner))


def _attention_inputs(
    spec: DecoderSpec, layer: LayerWeights, states: Tensor, angles: Angles | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns query [T, H, D], key [T, G, D] and value [T, G, D]."""
    shape = (states.shape[0], -1, spec.head_dim)
    if len(layer.qkv) == 3:
        query, key, value = (linear(states).view(shape) for linear in layer.qkv)
    else:
        joined = layer.qkv[0](states).view(shape)
        if layer.query_norm is None and angles is not None:
            # One turn for query and key: half as many small operations, which a decode step is full of.
            turning, value = joined.split_with_sizes([spec.heads + spec.kv_heads, spec.kv_heads], 1)
            query, key = rotate(turning, *angles).split_with_sizes([spec.heads, spec.kv_heads], 1)
            return query, key, value
        query, key, value = joined.split_with_sizes([spec.heads, spec.kv_heads, spec.kv_heads], 1)
    if layer.query_norm is not None and layer.key_norm is not None:
        query, key = layer.query_norm(query), layer.key_norm(key)
    if angles is not None:
        query, key = rotate(query, *angles), rotate(key, *angles)
    return query, key, value


def _mlp(spec: DecoderSpec, layer: LayerWeights, states: Tensor) -> Tensor:
    """Returns the MLP's output [T, d]."""
    activate = _ACTIVATE[spec.activation]
    if spec.mlp == "plain":
        return lean(lambda inner: layer.mlp_out(activate(inner)), layer.mlp_in[0](states))
    if len(layer.mlp_in) == 1:
        gate, up = layer.mlp_in[0](states).chunk(2, -1)
    else:
        gate, up = (linear(states) for linear in layer.mlp_in)
    return lean(lambda gate, up: layer.mlp_out(activate(gate) * up), gate, up)


def _gelu_tanh(states: Tensor) -> Tensor:
    return F.gelu(states, approximate="tanh")


_ACTIVATE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
}
