"""Fills the engine's weight layout tensor by tensor, so that a new version can be built in small pieces.

``DecoderWeights.from_state`` and ``in_panels`` do the same in one go. Names and shapes are those of
transformers.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pilothouse.models.memory import zeros
from pilothouse.models.panels import PanelLinear
from pilothouse.models.weights import DecoderWeights, LayerWeights, Linear, Norm


@dataclass(frozen=True, slots=True)
class PlainPlace:
    """A parameter in a tensor."""

    view: Tensor
    """In transformers' shape, onto the engine's storage."""
    offset: float = 0.0
    """Added to the parameter when it is stored (the folded offset of Gemma's norms)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's, in transformers."""
        return tuple(self.view.shape)

    @property
    def storage(self) -> int:
        """Names the memory."""
        return self.view.untyped_storage().data_ptr()

    def read(self) -> Tensor:
        """Returns the parameter."""
        return self.view - self.offset if self.offset else self.view

    def store(self, rows: Tensor, first: int) -> None:
        """Stores some rows (of the first axis), in the parameter's shape but for that axis."""
        target = self.view[first : first + len(rows)] if self.view.dim() else self.view
        target.copy_(rows.view(target.shape))
        if self.offset:
            target.add_(self.offset)


@dataclass(frozen=True, slots=True)
class PanelPlace:
    """A parameter in some rows of a matrix in panels."""

    linear: PanelLinear
    first: int
    count: int
    by_input: bool = False
    """The parameter is the matrix's transpose, [in, out] (GPT-2)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's, in transformers."""
        inputs = self.linear.weight.shape[1]
        return (inputs, self.count) if self.by_input else (self.count, inputs)

    @property
    def storage(self) -> int:
        """Names the memory."""
        return self.linear.panels.untyped_storage().data_ptr()

    def read(self) -> Tensor:
        """Returns the parameter; a view or a copy."""
        rows = self.linear.rows(self.first, self.count)
        return rows.t() if self.by_input else rows

    def store(self, rows: Tensor, first: int) -> None:
        """Stores some rows (of the first axis), in the parameter's shape but for that axis."""
        if self.by_input:
            self.linear.store_inputs(rows, first)
        else:
            self.linear.store(rows, self.first + first)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a named parameter lies in the engine's layout: once, or twice where it is kept plain too."""

    copies: tuple[PlainPlace | PanelPlace, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's, in transformers."""
        return self.copies[0].shape

    @property
    def memory(self) -> set[int]:
        """Names the memory, which it may share with others."""
        return {copy.storage for copy in self.copies}

    def read(self) -> Tensor:
        """Returns the parameter; a view or a copy."""
        return self.copies[0].read()

    def store(self, values: Tensor, first_row: int) -> None:
        """Stores some rows of the parameter.

        Args:
            values: Flat, any float dtype, whole rows (of the first axis) in transformers' shape.
            first_row: Of ``values``.
        """
        rows = values.view(-1, *self.shape[1:])
        for copy in self.copies:
            copy.store(rows, first_row)


def places(weights: DecoderWeights) -> dict[str, Place]:
    """Returns where every parameter lies in fused engine weights, tied ones once.

    Args:
        weights: Made by ``from_state``, ``in_panels`` or ``allocate``.
    """
    return dict((_gpt2 if weights.spec.names == "gpt2" else _llama)(weights))


def allocate(weights: DecoderWeights, unchanged: Set[str] = frozenset()) -> DecoderWeights:
    """Returns weights of the same layout in fresh memory that holds nothing yet.

    Args:
        weights: The pattern.
        unchanged: Names of parameters that stay as they are. Memory that only they use is shared, not
            allocated; the rest of them must be copied like any other parameter.
    """
    changed: set[int] = set()
    for name, place in places(weights).items():
        if name not in unchanged:
            changed |= place.memory
    result: DecoderWeights = _allocate(weights, changed, {})
    return result


def _allocate(part: Any, changed: Set[int], memo: dict[int, Tensor]) -> Any:
    """Returns a part with fresh tensors where its memory changes; ``memo`` keeps a tied head one tensor."""
    if isinstance(part, Tensor):
        if part.untyped_storage().data_ptr() not in changed:
            return part
        return memo.setdefault(id(part), _fresh(part))
    if isinstance(part, tuple):
        return tuple(_allocate(item, changed, memo) for item in part)
    if isinstance(part, DecoderWeights | LayerWeights | Linear | Norm):
        values = {
            field.name: _allocate(getattr(part, field.name), changed, memo)
            for field in dataclasses.fields(part)
        }
        return type(part)(**values)
    return part


def _fresh(tensor: Tensor) -> Tensor:
    """Returns memory of the same shape and strides; a matrix may be stored transposed."""
    if tensor.dim() == 2 and tensor.t().is_contiguous():
        return zeros(tensor.t().shape, tensor.dtype, tensor.device).t()
    return zeros(tensor.shape, tensor.dtype, tensor.device)


def inherit(source: Place, target: Place) -> bool:
    """Copies an unchanged parameter, unless the two share their memory; False where nothing was to do."""
    if target.memory == source.memory:
        return False
    target.store(source.read().reshape(-1), 0)
    return True


def owned(weights: DecoderWeights, foreign: Iterable[Tensor]) -> DecoderWeights:
    """Returns weights that share no memory with ``foreign``; what does is copied.

    A parameter may be a view into a mapped file, which would stay mapped as a whole.
    """
    storages = {tensor.untyped_storage().data_ptr() for tensor in foreign}
    sources = places(weights)
    own = frozenset(name for name, place in sources.items() if not place.memory & storages)
    result = allocate(weights, own)
    for name, place in places(result).items():
        inherit(sources[name], place)
    return result


def shapes(weights: DecoderWeights) -> Mapping[str, tuple[int, ...]]:
    """Returns the shape of every parameter by name."""
    return {name: place.shape for name, place in places(weights).items()}


Named = Iterator[tuple[str, Place]]


def _llama(weights: DecoderWeights) -> Named:
    yield from _embedding("model.embed_tokens", weights)
    for index, layer in enumerate(weights.layers):
        here = f"model.layers.{index}"
        yield from _norm(f"{here}.input_layernorm", weights, layer.input_norm)
        attention = [f"{here}.self_attn.{letter}_proj" for letter in "qkv"]
        yield from _joined(attention, layer.qkv[0], weights.spec.qkv_sizes)
        yield from _norm(f"{here}.self_attn.q_norm", weights, layer.query_norm)
        yield from _norm(f"{here}.self_attn.k_norm", weights, layer.key_norm)
        yield from _linear(f"{here}.self_attn.o_proj", layer.output)
        if layer.attention_norm is None:
            yield from _norm(f"{here}.post_attention_layernorm", weights, layer.mlp_norm)
        else:
            yield from _norm(f"{here}.post_attention_layernorm", weights, layer.attention_norm)
            yield from _norm(f"{here}.pre_feedforward_layernorm", weights, layer.mlp_norm)
            yield from _norm(f"{here}.post_feedforward_layernorm", weights, layer.mlp_out_norm)
        inner = layer.mlp_in[0]
        halves = [len(inner.weight) // 2] * 2
        yield from _joined([f"{here}.mlp.gate_proj", f"{here}.mlp.up_proj"], inner, halves)
        yield from _linear(f"{here}.mlp.down_proj", layer.mlp_out)
    yield from _norm("model.norm", weights, weights.final_norm)
    yield from _untied_head(weights)


def _gpt2(weights: DecoderWeights) -> Named:
    yield from _embedding("transformer.wte", weights)
    assert weights.positions is not None
    yield "transformer.wpe.weight", Place((PlainPlace(weights.positions),))
    for index, layer in enumerate(weights.layers):
        here = f"transformer.h.{index}"
        yield from _norm(f"{here}.ln_1", weights, layer.input_norm)
        yield from _linear(f"{here}.attn.c_attn", layer.qkv[0], by_input=True)
        yield from _linear(f"{here}.attn.c_proj", layer.output, by_input=True)
        yield from _norm(f"{here}.ln_2", weights, layer.mlp_norm)
        yield from _linear(f"{here}.mlp.c_fc", layer.mlp_in[0], by_input=True)
        yield from _linear(f"{here}.mlp.c_proj", layer.mlp_out, by_input=True)
    yield from _norm("transformer.ln_f", weights, weights.final_norm)
    yield from _untied_head(weights)


def _embedding(name: str, weights: DecoderWeights) -> Named:
    tied = weights.head if weights.spec.tied else None
    copies = () if tied is None else _matrix(tied, 0, len(tied.weight))
    yield f"{name}.weight", Place(copies or (PlainPlace(weights.embedding),))


def _untied_head(weights: DecoderWeights) -> Named:
    if not weights.spec.tied and weights.head is not None:
        yield from _linear("lm_head", weights.head)


def _norm(name: str, weights: DecoderWeights, norm: Norm | None) -> Named:
    if norm is None:
        return
    folded = weights.spec.norm_offset if norm.bias is None else 0.0
    yield f"{name}.weight", Place((PlainPlace(norm.weight, folded),))
    if norm.bias is not None:
        yield f"{name}.bias", Place((PlainPlace(norm.bias),))


def _linear(name: str, linear: Linear, *, by_input: bool = False) -> Named:
    yield f"{name}.weight", Place(_matrix(linear, 0, len(linear.weight), by_input=by_input))
    if linear.bias is not None:
        yield f"{name}.bias", Place((PlainPlace(linear.bias),))


def _joined(names: Iterable[str], linear: Linear, sizes: Iterable[int]) -> Named:
    """Yields parameters that lie side by side in one matrix."""
    first = 0
    for name, size in zip(names, sizes, strict=True):
        yield f"{name}.weight", Place(_matrix(linear, first, size))
        first += size


def _matrix(
    linear: Linear, first: int, count: int, *, by_input: bool = False
) -> tuple[PlainPlace | PanelPlace, ...]:
    rows = linear.weight[first : first + count]
    plain = PlainPlace(rows.t() if by_input else rows)
    if not isinstance(linear, PanelLinear):
        return (plain,)
    panels = PanelPlace(linear, first, count, by_input)
    return (plain, panels) if linear.keeps_plain else (panels,)
