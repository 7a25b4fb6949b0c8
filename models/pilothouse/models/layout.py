"""Fills the engine's weight layout tensor by tensor, so that a new version can be built in small pieces.

``DecoderWeights.from_state`` does the same in one go. Names and shapes are those of transformers.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pilothouse.models.prepacked import PrepackedLinear
from pilothouse.models.weights import DecoderWeights, LayerWeights, Linear, Norm


class Place(NamedTuple):
    """Where a named parameter lies in the engine's layout."""

    view: Tensor
    """In transformers' shape, onto the engine's storage; its shape only, where that is prepacked."""
    offset: float = 0.0
    """Added to the parameter when it is stored (the folded offset of Gemma's norms)."""
    packed: PrepackedLinear | None = None
    """What holds the values instead of ``view``, once it is prepacked."""

    @property
    def memory(self) -> int:
        """Names the memory that it shares with others."""
        return id(self.packed) if self.packed is not None else self.view.untyped_storage().data_ptr()


def places(weights: DecoderWeights) -> dict[str, Place]:
    """Returns where every parameter lies in fused engine weights, tied ones once.

    Args:
        weights: Made by ``from_state``, ``prepack`` or ``allocate``.
    """
    found: dict[str, Place] = {}
    for name, part, packed in (_gpt2 if weights.spec.names == "gpt2" else _llama)(weights):
        if isinstance(part, Tensor):
            found[f"{name}.weight"] = Place(part, packed=packed)
        elif part is not None:
            folded = weights.spec.norm_offset if isinstance(part, Norm) and part.bias is None else 0.0
            found[f"{name}.weight"] = Place(part.weight, folded, packed)
            if part.bias is not None:
                found[f"{name}.bias"] = Place(part.bias)
    return found


def allocate(weights: DecoderWeights, unchanged: Set[str] = frozenset()) -> DecoderWeights:
    """Returns weights of the same layout in fresh memory that holds nothing yet and is not prepacked yet.

    Args:
        weights: The pattern.
        unchanged: Names of parameters that stay as they are. Memory that only they use is shared, not
            allocated; the rest of them must be copied like any other parameter.
    """
    changed = {place.memory for name, place in places(weights).items() if name not in unchanged}
    memo: dict[int, Tensor] = {}  # a tied head stays one tensor with the embedding

    def fresh(part: Any) -> Any:
        if isinstance(part, Tensor):
            if part.untyped_storage().data_ptr() not in changed:
                return part
            return memo.setdefault(id(part), torch.empty_like(part))
        if isinstance(part, PrepackedLinear):
            return fresh_packed(part)
        if isinstance(part, tuple):
            return tuple(fresh(item) for item in part)
        if isinstance(part, DecoderWeights | LayerWeights | Linear | Norm):
            values = {field.name: fresh(getattr(part, field.name)) for field in dataclasses.fields(part)}
            return type(part)(**values)
        return part

    def fresh_packed(part: PrepackedLinear) -> PrepackedLinear:
        bias = fresh(part.bias)
        if part.keeps_plain:
            weight = fresh(part.weight)
            kept = weight is part.weight and bias is part.bias
        else:
            kept = id(part) not in changed and bias is part.bias
            weight = None if kept else torch.empty(part.weight.shape, dtype=part.weight.dtype)
        return part if kept else PrepackedLinear(weight, bias, keeps_plain=part.keeps_plain)

    result: DecoderWeights = fresh(weights)
    return result


def inherit(source: Place, target: Place) -> bool:
    """Copies an unchanged parameter, unless the two share their memory; False where nothing was to do."""
    if target.packed is not None and target.packed.blocked is None and source.packed is not None:
        rows = source.packed.plain()
        view = source.view
        target.view.copy_(rows.as_strided(view.shape, view.stride(), view.storage_offset()))
        return True
    if target.packed is not None or target.view.data_ptr() == source.view.data_ptr():
        return False
    target.view.copy_(source.view)
    return True


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


Named = Iterator[tuple[str, Norm | Linear | Tensor | None, PrepackedLinear | None]]


def _llama(weights: DecoderWeights) -> Named:
    yield "model.embed_tokens", weights.embedding, None
    for index, layer in enumerate(weights.layers):
        here = f"model.layers.{index}"
        yield f"{here}.input_layernorm", layer.input_norm, None
        for letter, part in zip("qkv", layer.qkv[0].weight.split(weights.spec.qkv_sizes), strict=True):
            yield f"{here}.self_attn.{letter}_proj", part, None
        if layer.query_norm is not None and layer.key_norm is not None:
            yield f"{here}.self_attn.q_norm", layer.query_norm, None
            yield f"{here}.self_attn.k_norm", layer.key_norm, None
        yield f"{here}.self_attn.o_proj", layer.output, None
        if layer.attention_norm is None or layer.mlp_out_norm is None:
            yield f"{here}.post_attention_layernorm", layer.mlp_norm, None
        else:
            yield f"{here}.post_attention_layernorm", layer.attention_norm, None
            yield f"{here}.pre_feedforward_layernorm", layer.mlp_norm, None
            yield f"{here}.post_feedforward_layernorm", layer.mlp_out_norm, None
        inner = layer.mlp_in[0]
        for name, part in zip(("gate", "up"), inner.weight.chunk(2), strict=True):
            yield f"{here}.mlp.{name}_proj", part, _packed(inner)
        yield f"{here}.mlp.down_proj", layer.mlp_out, _packed(layer.mlp_out)
    yield "model.norm", weights.final_norm, None
    if not weights.spec.tied and weights.head is not None:
        yield "lm_head", weights.head, None


def _gpt2(weights: DecoderWeights) -> Named:
    yield "transformer.wte", weights.embedding, None
    yield "transformer.wpe", weights.positions, None
    for index, layer in enumerate(weights.layers):
        here = f"transformer.h.{index}"
        yield f"{here}.ln_1", layer.input_norm, None
        yield f"{here}.attn.c_attn", _stored(layer.qkv[0]), None
        yield f"{here}.attn.c_proj", _stored(layer.output), None
        yield f"{here}.ln_2", layer.mlp_norm, None
        yield f"{here}.mlp.c_fc", _stored(layer.mlp_in[0]), _packed(layer.mlp_in[0])
        yield f"{here}.mlp.c_proj", _stored(layer.mlp_out), _packed(layer.mlp_out)
    yield "transformer.ln_f", weights.final_norm, None
    if not weights.spec.tied and weights.head is not None:
        yield "lm_head", weights.head, None


def _stored(linear: Linear) -> Linear:
    """Returns the map with its weight as GPT-2 stores it, [in, out]."""
    return Linear(linear.weight.t(), linear.bias, transposed=True)


def _packed(linear: Linear) -> PrepackedLinear | None:
    """Returns a map that lets its plain weight go; the LM head does not, and has places like any other."""
    return linear if isinstance(linear, PrepackedLinear) else None
