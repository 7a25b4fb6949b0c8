"""Runs the model over the running sequences. Axes as in ``kv_cache``; V vocabulary."""

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from pilothouse.models.decoder import DecoderWeights, hidden_states, logits
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.packed import pack, packed_attention
from pilothouse.policy.kv_cache import DecodeAttention, KvCache, PrefillAttention, PromptKv
from pilothouse.policy.requests import Prompt, Version
from pilothouse.policy.requests import Sequence as Running
from pilothouse.policy.sampling import Drawn, Sampler
from pilothouse.tensors import Floats, Tokens

Item = TypeVar("Item")


class ModelRunner:
    """The weights now serving, the KV cache and the sampler. Used from one thread."""

    def __init__(self, weights: DecoderWeights, *, slots: int, positions: int, prefill_tokens: int) -> None:
        """Reserves the cache.

        Args:
            weights: In the engine's layout; their dtype and device are the cache's.
            slots: Most sequences that run at the same time.
            positions: Longest prompt and completion together.
            prefill_tokens: Tokens of one packed pass, where there is a choice.
        """
        self.weights = weights
        self.version = Version(0, 0)
        self.positions = positions
        self._prefill_tokens = prefill_tokens
        self._device = weights.embedding.device
        self.cache = KvCache(
            weights.spec, slots, positions, dtype=weights.embedding.dtype, device=self._device
        )
        self._sampler = Sampler(slots, weights.spec.vocabulary_size, self._device)

    def start(self, sequences: Sequence[Running]) -> Drawn:
        """Computes prompts, fills the slots of ``sequences`` and draws their first tokens.

        A prompt is computed once, for all of its completions.
        """
        fresh = {id(entry.prompt): entry.prompt for entry in sequences if entry.prompt.kv is None}
        if fresh:
            self._prefill(list(fresh.values()))
        rows = []
        for entry in sequences:
            assert entry.prompt.kv is not None
            self.cache.fill(entry.slot, entry.prompt.kv.states)
            rows.append(entry.prompt.kv.logits)
        drawn = self._sampler.draw(torch.stack(rows), sequences)
        for entry in sequences:
            if entry.prompt.waiting == 0:
                entry.prompt.kv = None
        return drawn

    def decode(self, running: Sequence[Running]) -> Drawn:
        """Draws the next token of every running sequence; ``running`` is in slot order."""
        tokens = torch.tensor([entry.tokens[-1] for entry in running], device=self._device)
        places = [entry.length - 1 for entry in running]
        positions = torch.tensor(places, device=self._device)
        attend = DecodeAttention(self.cache, positions, shortest=min(places) + 1, longest=max(places) + 1)
        hidden = hidden_states(self.weights, tokens, positions, attend)
        return self._sampler.draw(logits(self.weights, hidden), running)

    def recompute(self, running: Sequence[Running]) -> None:
        """Computes all keys and values of running sequences again, with the weights now serving."""
        for batch in in_batches(running, [entry.length for entry in running], self._prefill_tokens):
            texts = [np.concatenate([entry.prompt.tokens, entry.tokens[:-1]]) for entry in batch]
            states, _, _ = self._pass(texts)
            for entry, part in zip(batch, states.split([len(text) for text in texts], 2), strict=True):
                self.cache.fill(entry.slot, part)

    def move(self, entry: Running, source: int) -> None:
        """Follows a sequence to the slot that it now has."""
        self.cache.move(source, entry.slot, entry.length - 1)

    def clear(self, entry: Running) -> None:
        """Zeroes what a sequence with non-finite logits has left in its slot."""
        self.cache.clear(entry.slot, entry.length)

    def _prefill(self, prompts: Sequence[Prompt]) -> None:
        states, hidden, lengths = self._pass([prompt.tokens for prompt in prompts])
        ends = torch.tensor(lengths, device=self._device).cumsum(0) - 1
        last = logits(self.weights, hidden[ends])
        for prompt, part, row in zip(prompts, states.split(lengths, 2), last, strict=True):
            prompt.kv = PromptKv(part, row)

    def _pass(self, sequences: Sequence[Tokens]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Returns (keys and values [L, 2, T, G, D], hidden states [T, d], lengths) of whole sequences."""
        batch = pack(sequences, self._device)
        states = self.cache.empty_prompts(len(batch.tokens))
        attend = PrefillAttention(packed_attention(self.weights.spec, batch), states)
        hidden = hidden_states(self.weights, batch.tokens, batch.positions, attend)
        return states, hidden, list(batch.lengths)


def logprobs_in_pieces(
    weights: DecoderWeights,
    sequences: Sequence[Tokens],
    prompt_lengths: Sequence[int],
    *,
    temperature: float,
    batch_tokens: int,
) -> Generator[None, None, Floats]:
    """Scores responses batch by batch; a generator that yields between batches and returns the result.

    Args:
        weights: Scored with these from the first batch to the last.
        sequences: Each int32 [length], prompt and response.
        prompt_lengths: Of every sequence, at least 1.
        temperature: Divides the logits.
        batch_tokens: Most tokens of one batch; one longer sequence goes alone.

    Returns:
        Float32 [responses], ragged end to end.
    """
    parts: list[Floats] = []
    rows = list(zip(sequences, prompt_lengths, strict=True))
    for batch in in_batches(rows, [len(row) for row in sequences], batch_tokens):
        scored = [(row, length) for row, length in batch if len(row) > length]
        if scored:
            values = response_logprobs(
                weights, [row for row, _ in scored], [length for _, length in scored], temperature=temperature
            )
            parts.append(values.float().cpu().numpy())
        yield
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def in_batches(items: Sequence[Item], sizes: Sequence[int], budget: int) -> Iterator[list[Item]]:
    """Groups neighbours whose sizes add up to at most ``budget``; a larger one goes alone."""
    group: list[Item] = []
    total = 0
    for item, size in zip(items, sizes, strict=True):
        if group and total + size > budget:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group
