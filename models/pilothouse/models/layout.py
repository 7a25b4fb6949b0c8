"""Fills the engine's weight layout tensor by tensor, so that a new version can be built in small pieces.

``DecoderWeights.from_state`` does the same in one go. Names and shapes are those of transformers.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pilothouse.models.weights import DecoderWeights, LayerWeights, Linear, Norm


class Place(NamedTuple):
    """Where a named parameter lies in the engine's layout."""

    view: Tensor
    """In transformers' shape, onto the engine's storage."""
    offset: float
    """Added to the parameter when it is stored (the folded offset of Gemma's norms)."""


def places(weights: DecoderWeights) -> dict[str, Place]:
    """Returns where every parameter lies in fused engine weights, tied ones once.

    Args:
        weights: Made by ``from_state`` or ``allocate``.
    """
    found: dict[str, Place] = {}
    for name, part in (_gpt2 if weights.spec.names == "gpt2" else _llama)(weights):
        if isinstance(part, Norm):
            found[f"{name}.weight"] = Place(
                part.weight, 0.0 if part.bias is not None else weights.spec.norm_offset
            )
            if part.bias is not None:
                found[f"{name}.bias"] = Place(part.bias, 0.0)
        elif isinstance(part, Linear):
            found[f"{name}.weight"] = Place(part.weight, 0.0)
            if part.bias is not None:
                found[f"{name}.bias"] = Place(part.bias, 0.0)
        elif part is not None:
            found[f"{name}.weight"] = Place(part, 0.0)
    return found


def allocate(weights: DecoderWeights, unchanged: Set[str] = frozenset()) -> DecoderWeights:
    """Returns weights of the same layout in fresh memory that holds nothing yet.

    Args:
        weights: The pattern.
        unchanged: Names of parameters that stay as they are. Memory that only they use is shared, not
            allocated; the rest of them must be copied like any other parameter.
    """
    changed = {
        place.view.untyped_storage().data_ptr()
        for name, place in places(weights).items()
        if name not in unchanged
    }
    memo: dict[int, Tensor] = {}  # a tied head stays one tensor with the embedding

    def fresh(part: Any) -> Any:
        if isinstance(part, Tensor):
            if part.untyped_storage().data_ptr() not in changed:
                return part
            return memo.setdefault(id(part), torch.empty_like(part))
        if isinstance(part, tuple):
            return tuple(fresh(item) for item in part)
        if isinstance(part, DecoderWeights | LayerWeights | Linear | Norm):
            values = {field.name: fresh(getattr(part, field.name)) for field in dataclasses.fields(part)}
            return type(part)(**values)
        return part

    result: DecoderWeights = fresh(weights)
    return result


def owned(weights: DecoderWeights, foreign: Iterable[Tensor]) -> DecoderWeights:
    """Returns weights that share no memory with ``foreign``; what does is copied.

    A parameter may be a view into a mapped file, which would stay mapped as a whole.
    """
    storages = {tensor.untyped_storage().data_ptr() for tensor in foreign}
    sources = places(weights)
    own = frozenset(
        name for name, place in sources.items() if place.view.untyped_storage().data_ptr() not in storages
    )
    result = allocate(weights, own)
    for name, place in places(result).items():
        if name not in own:
            place.view.copy_(sources[name].view)
    return result


def store_rows(values: Tensor, place: Place, first_row: int) -> None:
    """Stores some rows (of the first axis) of a parameter.

    Args:
        values: Flat, any float dtype, whole rows of the parameter in transformers' shape.
        place: Where the parameter lies.
        first_row: Of ``values``.
    """
    rows = place.view.view(1) if place.view.dim() == 0 else place.view
    target = rows[first_row : first_row + values.numel() // max(1, rows[0].numel())]
    target.copy_(values.view(target.shape))
    if place.offset:
        target.add_(place.offset)


def shapes(weights: DecoderWeights) -> Mapping[str, tuple[int, ...]]:
    """Returns the shape of every parameter by name."""
    return {name: tuple(place.view.shape) for name, place in places(weights).items()}


Named = Iterator[tuple[str, Norm | Linear | Tensor | None]]


def _llama(weights: DecoderWeights) -> Named:
    yield "model.embed_tokens", weights.embedding
    for index, layer in enumerate(weights.layers):
        here = f"model.layers.{index}"
        yield f"{here}.input_layernorm", layer.input_norm
        heads = zip("qkv", layer.qkv[0].weight.split(weights.spec.qkv_sizes), strict=True)
        yield from ((f"{here}.self_attn.{letter}_proj", part) for letter, part in heads)
        if layer.query_norm is not None and layer.key_norm is not None:
            yield f"{here}.self_attn.q_norm", layer.query_norm
            yield f"{here}.self_attn.k_norm", layer.key_norm
        yield f"{here}.self_attn.o_proj", layer.output
        if layer.attention_norm is None or layer.mlp_out_norm is None:
            yield f"{here}.post_attention_layernorm", layer.mlp_norm
        else:
            yield f"{here}.post_attention_layernorm", layer.attention_norm
            yield f"{here}.pre_feedforward_layernorm", layer.mlp_norm
            yield f"{here}.post_feedforward_layernorm", layer.mlp_out_norm
        gate, up = layer.mlp_in[0].weight.chunk(2)
        yield f"{here}.mlp.gate_proj", gate
        yield f"{here}.mlp.up_proj", up
        yield f"{here}.mlp.down_proj", layer.mlp_out
    yield "model.norm", weights.final_norm
    if not weights.spec.tied and weights.head is not None:
        yield "lm_head", weights.head


def _gpt2(weights: DecoderWeights) -> Named:
    yield "transformer.wte", weights.embedding
    yield "transformer.wpe", weights.positions
    for index, layer in enumerate(weights.layers):
        here = f"transformer.h.{index}"
        yield f"{here}.ln_1", layer.input_norm
        yield f"{here}.attn.c_attn", _stored(layer.qkv[0])
        yield f"{here}.attn.c_proj", _stored(layer.output)
        yield f"{here}.ln_2", layer.mlp_norm
        yield f"{here}.mlp.c_fc", _stored(layer.mlp_in[0])
        yield f"{here}.mlp.c_proj", _stored(layer.mlp_out)
    yield "transformer.ln_f", weights.final_norm
    if not weights.spec.tied and weights.head is not None:
        yield "lm_head", weights.head


def _stored(linear: Linear) -> Linear:
    """Returns the map with its weight as GPT-2 stores it, [in, out]."""
    return Linear(linear.weight.t(), linear.bias, transposed=True)
