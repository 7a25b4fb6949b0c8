"""Products of few rows at the speed of memory: matrices stored in panels of outputs.

A decode step multiplies 1 to 64 rows with every matrix of the model, which takes as long as reading the
matrix, if it is read in one stream. A general product jumps from row to row of it, or reorders it at every
call. A panel holds all inputs of `PANEL` outputs side by side, as a processor's product kernel wants them,
and one batched product runs over the panels. Measured on SmolLM2-135M's matrices with two cores, 8 rows are
1.2 to 2 times as fast as from a plain or transposed matrix; one row and 500 rows take as long as from the
better of the two.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pilothouse.models.memory import zeros
from pilothouse.models.weights import DecoderWeights, LayerWeights, Linear, Norm

PANEL = 48
"""Outputs of a panel: what a float32 kernel with AVX-512 computes at a time; twice that of one without."""


@dataclass(slots=True)
class PanelLinear(Linear):
    """An affine map in panels. ``weight`` [out, in] only tells the shape, unless ``keeps_plain``."""

    panels: Tensor = field(kw_only=True)
    """[ceil(out / PANEL), in, PANEL]; what lies past the last output is cut off the product."""
    unused: int = field(kw_only=True)
    """Columns of the last panel that are no output."""
    keeps_plain: bool = field(default=False, kw_only=True)
    """``weight`` holds the values too: an LM head, which scoring cuts by tokens of the vocabulary."""

    @classmethod
    def of(cls, linear: Linear, *, keep_plain: bool = False) -> "PanelLinear":
        """Returns a map with the same values; the plain weight goes unless it is to stay."""
        outputs, inputs = linear.weight.shape
        shape = (-(-outputs // PANEL), inputs, PANEL)
        panels = zeros(shape, linear.weight.dtype, linear.weight.device)
        weight = linear.weight if keep_plain else torch.empty_like(linear.weight, device="meta")
        result = cls(weight, linear.bias, panels=panels, unused=-outputs % PANEL, keeps_plain=keep_plain)
        result.store(linear.weight, 0)
        return result

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns [N, out] of [N, in]."""
        panels = self.panels
        product = torch.bmm(inputs.expand(panels.shape[0], -1, -1), panels)  # [P, N, PANEL]
        rows = product.view(1, -1) if inputs.shape[0] == 1 else product.transpose(0, 1).flatten(1)
        if self.unused:
            rows = rows[:, : -self.unused]
        return rows if self.bias is None else rows + self.bias

    def store(self, rows: Tensor, first: int) -> None:
        """Stores rows [n, in] of the matrix [out, in], from row ``first`` on."""
        panels = self.panels.transpose(1, 2)  # [P, PANEL, in]
        while len(rows):
            panel, start = divmod(first, PANEL)
            if start == 0 and len(rows) >= PANEL:
                whole = len(rows) // PANEL
                count = whole * PANEL
                panels[panel : panel + whole].copy_(rows[:count].unflatten(0, (whole, PANEL)))
            else:
                count = min(PANEL - start, len(rows))
                panels[panel, start : start + count].copy_(rows[:count])
            rows, first = rows[count:], first + count

    def store_inputs(self, columns: Tensor, first: int) -> None:
        """Stores rows [n, out] of the matrix's transpose, from input ``first`` on."""
        target = self.panels[:, first : first + len(columns)]  # [P, n, PANEL]
        whole = columns.shape[1] // PANEL
        end = whole * PANEL
        target[:whole].copy_(columns[:, :end].unflatten(1, (whole, PANEL)).transpose(0, 1))
        if end < columns.shape[1]:
            target[whole, :, : columns.shape[1] - end].copy_(columns[:, end:])

    def rows(self, first: int, count: int) -> Tensor:
        """Returns ``count`` rows of the matrix [out, in], from row ``first`` on; a view or a copy."""
        start, end = first // PANEL, -(-(first + count) // PANEL)
        plain = self.panels[start:end].transpose(1, 2).reshape(-1, self.panels.shape[1])
        return plain[first - start * PANEL :][:count]


@dataclass(slots=True)
class ProductNorm(Norm):
    """RMS norm by a product of every row with itself: fewer of the small operations of a decode step."""

    eps_value: Tensor = field(kw_only=True)
    """``eps`` as [1, 1]."""
    share: float = field(kw_only=True)
    """Of one element in the mean: 1 / d."""

    @classmethod
    def of(cls, norm: Norm) -> Norm:
        """Returns the same norm; a layer norm is one operation already and stays."""
        if norm.bias is not None or norm.offset:
            return norm
        eps = torch.full((1, 1), norm.eps)
        return cls(norm.weight, None, norm.eps, eps_value=eps, share=1 / norm.weight.shape[0])

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns the normalised inputs [N, d]."""
        if inputs.shape[0] == 1:
            scale = torch.addmm(self.eps_value, inputs, inputs.mT, alpha=self.share)
        else:
            rows = inputs.unsqueeze(1)
            scale = torch.baddbmm(self.eps_value, rows, rows.mT, alpha=self.share).squeeze(1)
        return (inputs * scale.rsqrt_()).mul_(self.weight)


def in_panels(weights: DecoderWeights) -> DecoderWeights:
    """Returns the same weights with every matrix in panels, where this gains speed: in float32 on a CPU.

    Args:
        weights: In the engine's layout, made by ``from_state``.
    """
    if weights.embedding.device.type != "cpu" or weights.embedding.dtype != torch.float32:
        return weights
    return replace(
        weights,
        layers=tuple(_layer(layer) for layer in weights.layers),
        final_norm=ProductNorm.of(weights.final_norm),
        head=weights.head and PanelLinear.of(weights.head, keep_plain=True),
    )


def _layer(layer: LayerWeights) -> LayerWeights:
    return replace(
        layer,
        input_norm=ProductNorm.of(layer.input_norm),
        attention_norm=layer.attention_norm and ProductNorm.of(layer.attention_norm),
        mlp_norm=ProductNorm.of(layer.mlp_norm),
        mlp_out_norm=layer.mlp_out_norm and ProductNorm.of(layer.mlp_out_norm),
        qkv=tuple(PanelLinear.of(part) for part in layer.qkv),
        output=PanelLinear.of(layer.output),
        mlp_in=tuple(PanelLinear.of(part) for part in layer.mlp_in),
        mlp_out=PanelLinear.of(layer.mlp_out),
    )
