"""Products of few rows at the speed of memory: weights in oneDNN's own blocked order.

A general product reorders its weights every time it is called, which for the 2 to 64 rows of a decode step
takes longer than the product itself. Here they are reordered once. On the MLP of SmolLM2-135M with one core,
8 rows are 1.6 times and 32 rows 1.3 times as fast as from the transposed layout of ``from_state``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pilothouse.models.weights import DecoderWeights, LayerWeights, Linear

ROWS_HINT = 32
"""Rows for which the blocked order is chosen; it serves any number."""


@dataclass(slots=True)
class PrepackedLinear(Linear):
    """An affine map in blocked order. ``weight`` [out, in] only tells the shape, unless ``keeps_plain``."""

    blocked: Tensor | None = None
    """Opaque; None while ``weight`` is being filled."""
    keeps_plain: bool = False
    """``weight`` stays readable: the embedding of a tied head."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns [N, out] of [N, in]."""
        if self.keeps_plain and len(inputs) == 1:  # one row is read faster from the plain order
            return F.linear(inputs, self.weight, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.blocked, self.bias, "none", [], "")
        return product

    def prepack(self) -> None:
        """Reorders ``weight``, and lets go of it unless it must stay."""
        self.blocked = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), ROWS_HINT)
        if not self.keeps_plain:
            self.weight = torch.empty_like(self.weight, device="meta")

    def plain(self) -> Tensor:
        """Returns the weight [out, in], copied back where it was let go."""
        return self.weight if self.blocked is None or self.keeps_plain else self.blocked.to_dense()


def prepack(weights: DecoderWeights) -> DecoderWeights:
    """Returns the same weights with MLP and LM head in blocked order, where this machine gains by it.

    Args:
        weights: In the engine's layout; its matrices are let go one by one.
    """
    if weights.embedding.device.type != "cpu" or weights.embedding.dtype != torch.float32 or not available():
        return weights
    head = weights.head and PrepackedLinear(weights.head.weight, weights.head.bias, keeps_plain=True)
    result = replace(weights, layers=tuple(_layer(layer) for layer in weights.layers), head=head)
    for _ in prepack_in_pieces(result):
        pass
    return result


def prepack_in_pieces(weights: DecoderWeights) -> Iterator[None]:
    """Reorders every matrix that waits for it; yields after each."""
    for linear in prepacked(weights):
        if linear.blocked is None:
            linear.prepack()
            yield


def prepacked(weights: DecoderWeights) -> Iterator[PrepackedLinear]:
    """Yields the maps in blocked order."""
    for layer in weights.layers:
        yield from (part for part in (*layer.mlp_in, layer.mlp_out) if isinstance(part, PrepackedLinear))
    if isinstance(weights.head, PrepackedLinear):
        yield weights.head


@lru_cache
def available() -> bool:
    """Whether this build of torch has the two operators and they agree with an ordinary product."""
    weight, inputs = torch.arange(12.0).view(4, 3), torch.arange(6.0).view(2, 3)
    linear = PrepackedLinear(weight)
    try:
        linear.prepack()
        return torch.allclose(linear(inputs), F.linear(inputs, weight))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _layer(layer: LayerWeights) -> LayerWeights:
    inner, (outer,) = (
        tuple(PrepackedLinear(part.weight, part.bias) for part in parts)
        for parts in (layer.mlp_in, (layer.mlp_out,))
    )
    return replace(layer, mlp_in=inner, mlp_out=outer)
