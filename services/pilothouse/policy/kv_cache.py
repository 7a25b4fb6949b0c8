"""Keys and values of running sequences, allocated once.

Axes: L layers, S slots, G KV heads, N positions of a slot, D head dim, B running rows, T tokens of a packed
batch, H heads. Running sequences occupy the slots [0, B) without holes: a decode step reads plain slices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pilothouse.models.decoder import Attend
from pilothouse.models.memory import zeros
from pilothouse.models.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class PromptKv:
    """Keys and values of one computed prompt, before they are copied to the slots of its completions."""

    states: Tensor
    """[L, 2, P, G, D], a view into those of the whole prefill batch."""
    logits: Tensor
    """[V] float32, at the prompt's last token."""


class KvCache:
    """One preallocated block of keys and values: [L, 2, S, G, N, D]."""

    def __init__(
        self, spec: DecoderSpec, slots: int, positions: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Reserves the memory; on the CPU the system hands pages out when they are first written."""
        shape = (len(spec.layers), 2, slots, spec.kv_heads, positions, spec.head_dim)
        self._states = zeros(shape, dtype, device, sparse=True)
        self._rows = self._states.view(-1, slots * spec.kv_heads * positions, spec.head_dim).unbind()
        firsts = torch.arange(0, self._rows[0].shape[0], positions, device=device)
        self._firsts = firsts.view(slots, spec.kv_heads)
        self.spec = spec

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self._states.dtype

    def places(self, positions: Tensor) -> Tensor:
        """Returns where ``write`` puts the new tokens of the first B slots: [B·G] int64.

        Args:
            positions: [B] int64, where each slot's new token stands.
        """
        return (self._firsts[: len(positions)] + positions[:, None]).view(-1)

    def write(self, layer: int, places: Tensor, key: Tensor, value: Tensor) -> None:
        """Writes one token's key (rotary embedding applied) and value [B, G, D] in each of B slots."""
        self._rows[2 * layer].index_copy_(0, places, key.flatten(0, 1))
        self._rows[2 * layer + 1].index_copy_(0, places, value.flatten(0, 1))

    def seen(self, slots: int, length: int) -> Sequence[Tensor]:
        """Returns keys, then values, of each layer in turn: [slots, G, length, D] each."""
        return self._states[:, :, :slots, :, :length].flatten(0, 1).unbind()

    def fill(self, slot: int, states: Tensor) -> None:
        """Writes the keys and values of a sequence's first P positions, [L, 2, P, G, D]."""
        self._states[:, :, slot, :, : states.shape[2]] = states.transpose(2, 3)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first ``length`` positions of one slot to another."""
        self._states[:, :, target, :, :length] = self._states[:, :, source, :, :length]

    def clear(self, slot: int, length: int) -> None:
        """Zeroes a slot's first positions, where they may hold NaN.

        A masked position counts 0 times what lies there, and 0·NaN is NaN: it would poison the next user.
        """
        self._states[:, :, slot, :, :length].zero_()

    def empty_prompts(self, tokens: int) -> Tensor:
        """Returns room for the keys and values of a packed batch: [L, 2, T, G, D]."""
        layers, _, _, heads, _, dim = self._states.shape
        return torch.empty(
            (layers, 2, tokens, heads, dim), dtype=self._states.dtype, device=self._states.device
        )


class PrefillAttention:
    """Attends within a packed batch and keeps its keys and values."""

    def __init__(self, attend: Attend, states: Tensor) -> None:
        """Wraps an attention over whole sequences.

        Args:
            attend: Computes the attention itself.
            states: [L, 2, T, G, D], written.
        """
        self._attend = attend
        self._states = states

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Returns [T, H·D]."""
        self._states[layer, 0] = key
        self._states[layer, 1] = value
        return self._attend(layer, query, key, value)


class DecodeAttention:
    """Attends from one new token per running sequence to everything before it, in the cache.

    The query heads that share a KV head become the query axis of one attention, so keys and values are never
    repeated; positions beyond a sequence's length, or outside a layer's window, are masked.
    """

    def __init__(self, cache: KvCache, positions: Tensor, *, shortest: int, longest: int) -> None:
        """Prepares one decode step.

        Args:
            cache: Holds all earlier positions; the new ones are written to it.
            positions: [B] int64, where each row's new token stands.
            shortest: Smallest position + 1.
            longest: Largest position + 1.
        """
        spec = cache.spec
        self._cache = cache
        self._places = cache.places(positions)
        self._seen = cache.seen(len(positions), longest)
        self._grouped = (len(positions), spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim)
        self._scale = spec.attention_scale
        masks = {
            window: _mask(positions, longest, window, cache.dtype)
            for window in {layer.window for layer in spec.layers}
            if shortest < longest or (window is not None and window < longest)
        }
        self._masks = [masks.get(layer.window) for layer in spec.layers]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Returns [B, H·D] for query [B, H, D], key and value [B, G, D]."""
        self._cache.write(layer, self._places, key, value)
        attended = F.scaled_dot_product_attention(
            query.view(self._grouped),
            self._seen[2 * layer],
            self._seen[2 * layer + 1],
            attn_mask=self._masks[layer],
            scale=self._scale,
        )
        return attended.flatten(1)


def _mask(positions: Tensor, longest: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """Returns [B, 1, 1, N], 0 where a position is seen and minus infinity where not."""
    age = positions[:, None] - torch.arange(longest, device=positions.device)  # [B, N]
    hidden = age < 0
    if window is not None:
        hidden |= age >= window
    mask = torch.zeros(age.shape, dtype=dtype, device=age.device).masked_fill_(hidden, -torch.inf)
    return mask[:, None, None]
