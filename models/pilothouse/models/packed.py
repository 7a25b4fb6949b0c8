"""Ragged sequences end to end in one packed batch, and causal attention inside each of them.

No padding is computed, and a sequence never sees another.
Axes: B sequences, T tokens of all of them, H heads, G KV heads, D head dim, L length of a run of equally long
sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pilothouse.models.decoder import Attend
from pilothouse.models.spec import DecoderSpec
from pilothouse.tensors import Tokens


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B sequences end to end."""

    tokens: Tensor
    """int64 [T]."""
    positions: Tensor
    """int64 [T], each token's place in its own sequence, from 0."""
    offsets: Tensor
    """int64 [B + 1]; sequence b is ``tokens[offsets[b]:offsets[b + 1]]``."""
    lengths: tuple[int, ...]
    """Tokens of every sequence."""


def pack(sequences: Sequence[Tokens | Tensor], device: torch.device | str = "cpu") -> PackedBatch:
    """Joins ragged sequences, each an integer array of shape [length >= 1], in the order given.

    Raises:
        ValueError: There is no sequence, or one is empty.
    """
    rows = [np.asarray(row, dtype=np.int64) for row in sequences]
    lengths = tuple(len(row) for row in rows)
    if not lengths or min(lengths) == 0:
        raise ValueError(f"a packed batch needs sequences of at least one token each, got lengths {lengths}")
    return PackedBatch(
        tokens=torch.from_numpy(np.concatenate(rows)).to(device),
        positions=torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])).to(device),
        offsets=torch.from_numpy(np.cumsum((0, *lengths))).to(device),
        lengths=lengths,
    )


def packed_attention(spec: DecoderSpec, batch: PackedBatch) -> Attend:
    """Returns causal attention inside each sequence of the batch; gradients flow through it.

    Neighbours of equal length share one attention call, so sort a batch by length for speed.
    """
    device = batch.tokens.device
    runs = [(length, len(list(group))) for length, group in groupby(batch.lengths)]
    windows = {layer.window for layer in spec.layers}
    masks = {
        (window, length): _window_mask(window, length, device)
        for window in windows
        for length, _ in runs
        if window is not None and window < length
    }

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        window = spec.layers[layer].window
        sizes = [length * count for length, count in runs]
        parts = zip(runs, *(torch.split(states, sizes) for states in (query, key, value)), strict=True)
        outputs = [
            _attend_run(q, k, v, count, spec.attention_scale, masks.get((window or 0, length)))
            for (length, count), q, k, v in parts
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    return attend


def _attend_run(
    query: Tensor, key: Tensor, value: Tensor, count: int, scale: float, mask: Tensor | None
) -> Tensor:
    """Attends inside ``count`` equally long sequences, [count·L, H or G, D] to [count·L, H·D]."""
    query, key, value = (
        states.view(count, -1, *states.shape[1:]).transpose(1, 2) for states in (query, key, value)
    )
    grouped = query.shape[1] != key.shape[1]
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
    )
    return output.transpose(1, 2).flatten(2).flatten(0, 1)


def _window_mask(window: int, length: int, device: torch.device) -> Tensor:
    """Returns bool [L, L]: a query sees its own and the ``window - 1`` positions before it."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen.triu(1 - window)
