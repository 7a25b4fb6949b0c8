"""Log-probabilities of response tokens without ever holding [R, V] logits.

Only the positions that predict a response token reach the LM head, block by block over rows and vocabulary;
the backward pass computes the logits of a block again (Wijmans et al. 2024, arXiv 2411.09009).
Axes: B sequences, T packed tokens, R response tokens, V vocabulary, d width.
Log-probabilities and entropies are nats.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pilothouse.models.decoder import DecoderWeights, hidden_states
from pilothouse.models.packed import pack, packed_attention
from pilothouse.tensors import Tokens

CHUNK_TOKENS = 512
"""Rows of a block: enough for an efficient product."""
CHUNK_VOCABULARY = 1024
"""Columns of a block: with the rows above 2 MiB of float32, which stay in the cache between passes."""


@overload
def response_logprobs(
    weights: DecoderWeights,
    sequences: Sequence[Tokens],
    prompt_lengths: Sequence[int],
    *,
    temperature: float = 1.0,
    chunk_tokens: int = CHUNK_TOKENS,
    return_entropy: Literal[False] = False,
) -> Tensor: ...


@overload
def response_logprobs(
    weights: DecoderWeights,
    sequences: Sequence[Tokens],
    prompt_lengths: Sequence[int],
    *,
    temperature: float = 1.0,
    chunk_tokens: int = CHUNK_TOKENS,
    return_entropy: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def response_logprobs(
    weights: DecoderWeights,
    sequences: Sequence[Tokens],
    prompt_lengths: Sequence[int],
    *,
    temperature: float = 1.0,
    chunk_tokens: int = CHUNK_TOKENS,
    return_entropy: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the log-probability of every response token, float32 [R], ragged rows end to end.

    Args:
        weights: The model; gradients reach its parameters where they require them.
        sequences: Prompt and response joined, each an integer array [length].
        prompt_lengths: Prompt tokens of every sequence, at least 1.
        temperature: Divides the logits; that of sampling, so that the numbers compare (checklist 4).
        chunk_tokens: Rows that reach the LM head at a time.
        return_entropy: Also return the entropy of every response position, float32 [R].

    Raises:
        ValueError: A prompt is empty or longer than its sequence, or the temperature is not above 0.
    """
    inputs, rows, targets = response_inputs(sequences, prompt_lengths)
    if not inputs:
        nothing = torch.empty(0, device=weights.embedding.device)
        return (nothing, nothing) if return_entropy else nothing
    batch = pack(inputs, weights.embedding.device)
    hidden = hidden_states(weights, batch.tokens, batch.positions, packed_attention(weights.spec, batch))
    logprobs, entropies = chosen_logprobs(
        weights,
        hidden[rows.to(hidden.device)],
        targets.to(hidden.device),
        temperature=temperature,
        chunk_tokens=chunk_tokens,
        entropy=return_entropy,
    )
    return logprobs if entropies is None else (logprobs, entropies)


def response_inputs(
    sequences: Sequence[Tokens], prompt_lengths: Sequence[int]
) -> tuple[list[Tokens], Tensor, Tensor]:
    """Returns what has to run through the model so that every response token is predicted.

    Token t is read at position t - 1 (checklist 6). The last token of a sequence predicts nothing, so it is
    left out, and so is a sequence without a response.

    Args:
        sequences: Prompt and response joined, each an integer array [length].
        prompt_lengths: Prompt tokens of every sequence, at least 1.

    Returns:
        The inputs; where in them, packed, every response token is predicted; those tokens. Both int64 [R].

    Raises:
        ValueError: A prompt is empty or longer than its sequence.
    """
    inputs: list[Tokens] = []
    rows, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    start = 0
    for sequence, prompt in zip(sequences, prompt_lengths, strict=True):
        length = len(sequence)
        if not 1 <= prompt <= length:
            raise ValueError(f"a sequence of {length} tokens cannot begin with a prompt of {prompt}")
        if prompt < length:
            inputs.append(sequence[:-1])
            rows.append(np.arange(start + prompt - 1, start + length - 1))
            targets.append(np.asarray(sequence[prompt:], np.int64))
            start += length - 1
    return inputs, torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(targets))


def chosen_logprobs(
    weights: DecoderWeights,
    hidden: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int = CHUNK_TOKENS,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Returns the log-probability of one token per row and, if asked, each row's entropy; float32 [R] each.

    Args:
        weights: The model; gradients reach its LM head and ``hidden`` where they require them.
        hidden: Final hidden states [R, d].
        targets: The tokens, int64 [R].
        temperature: Divides the logits.
        chunk_tokens: Rows of a block.
        entropy: Compute the entropies too; differentiable as well.

    Raises:
        ValueError: The model has no LM head, or the temperature is not above 0.
    """
    if weights.head is None:
        raise ValueError("this model has no LM head; load it with load_causal_lm to get one")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    logprobs, entropies = _ChosenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weights.head.weight, targets, 1.0 / temperature, chunk_tokens, entropy
    )
    return logprobs, entropies if entropy else None


class _ChosenLogprobs(torch.autograd.Function):
    """(hidden [R, d], head [V, d]) to (logprobs [R], entropies [R] or [0])."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        scale: float,
        chunk_tokens: int,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        chosen = hidden.new_empty(len(hidden), dtype=torch.float32)
        normaliser = torch.empty_like(chosen)
        mean_logit = torch.empty_like(chosen if entropy else chosen[:0])
        for rows in _slices(len(hidden), chunk_tokens):
            parts, means = [], []
            for columns in _slices(len(head), CHUNK_VOCABULARY):
                block = _logits(hidden[rows], head[columns], scale)
                here = targets[rows] - columns.start
                inside = (here >= 0) & (here < block.shape[1])
                at_target = block.gather(1, here.clamp(0, block.shape[1] - 1).unsqueeze(1)).squeeze(1)
                chosen[rows] = torch.where(inside, at_target, chosen[rows])
                parts.append(block.logsumexp(1))
                if entropy:
                    means.append((block.softmax(1) * block).sum(1))
            stacked = torch.stack(parts, 1)
            normaliser[rows] = stacked.logsumexp(1)
            if entropy:
                mean_logit[rows] = (stacked.softmax(1) * torch.stack(means, 1)).sum(1)
        entropies = normaliser - mean_logit if entropy else mean_logit
        ctx.save_for_backward(hidden, head, targets, normaliser, entropies)
        ctx.scale, ctx.chunk_tokens = scale, chunk_tokens
        ctx.set_materialize_grads(False)  # entropies are mostly looked at only
        return chosen - normaliser, entropies

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs: Tensor | None, grad_entropies: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden, head, targets, normaliser, entropies = ctx.saved_tensors
        want_hidden, want_head = ctx.needs_input_grad[:2]
        if grad_logprobs is None:
            grad_logprobs = torch.zeros_like(normaliser)
        grad_hidden = torch.zeros_like(hidden) if want_hidden else None
        grad_head = torch.zeros_like(head) if want_head else None
        for rows in _slices(len(hidden), ctx.chunk_tokens):
            part = hidden[rows]
            for columns in _slices(len(head), CHUNK_VOCABULARY):
                logprobs = _logits(part, head[columns], ctx.scale).sub_(normaliser[rows, None])
                # d logprob / d logit = [target] - p; d entropy / d logit = -p (log p + entropy)
                slope = -grad_logprobs[rows, None]
                if grad_entropies is not None:
                    slope = slope - grad_entropies[rows, None] * (logprobs + entropies[rows, None])
                grad = logprobs.exp_().mul_(slope)
                here = targets[rows] - columns.start
                inside = ((here >= 0) & (here < grad.shape[1])).nonzero().squeeze(1)
                grad[inside, here[inside]] += grad_logprobs[rows][inside]
                grad = grad.mul_(ctx.scale).to(head.dtype)
                if grad_hidden is not None:
                    grad_hidden[rows].addmm_(grad, head[columns])
                if grad_head is not None:
                    grad_head[columns].addmm_(grad.t(), part)
        return grad_hidden, grad_head, None, None, None, None


def _logits(hidden: Tensor, head: Tensor, scale: float) -> Tensor:
    """Returns the block's logits, float32 [rows, columns]."""
    return torch.mm(hidden, head.t()).float().mul_(scale)


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
