"""Draws the next token of every running sequence. Axes: B batch (rows), V vocabulary. Log-probs are nats.

A token is drawn by an exponential race, in two levels (first a block of the vocabulary, then a token in it),
so that a whole batch costs little more than its log-sum-exp: runner j arrives after E_j / weight_j, and is
the first with the probability weight_j / sum of weights (the Gumbel-max trick of Maddison et al. 2014,
without its logarithms). The waiting times E come from one Philox stream per completion (Salmon et al. 2011),
keyed by (seed, sample index): what a row draws depends on its own logits and stream, not on batch mates.

The last bits of logits vary with the batch's shape. They decide a race only where its first two arrive that
close together. Inverting the cumulative distribution, they would decide wherever the uniform number lies that
close to any step, and a vocabulary has tens of thousands of steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK = 256
"""Vocabulary entries summed together at the first level."""
NUCLEUS_GUESS = 1024
"""Largest tokens looked at for top-p before the whole vocabulary is sorted."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of one request are drawn and when its completions end."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_p: float = 1.0
    """Keeps the smallest set of tokens that reaches this share; 1 is off."""
    top_k: int = 0
    """Keeps this many most likely tokens; 0 is off."""
    min_new_tokens: int = 0
    """No stop token is drawn before this many tokens."""
    max_new_tokens: int = 64
    """A completion ends after this many tokens."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end a completion."""

    @property
    def greedy(self) -> bool:
        """The most likely token is taken."""
        return self.temperature == 0

    @property
    def cuts(self) -> bool:
        """The distribution is cut before drawing."""
        return not self.greedy and (self.top_k > 0 or self.top_p < 1)


class WaitingTimes:
    """Exponential numbers of one completion, the same wherever and whenever it runs."""

    __slots__ = ("_generator",)

    def __init__(self, seed: int, sample_index: int) -> None:
        key = np.array([seed % 2**64, sample_index], dtype=np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=key))

    def draw(self, out: npt.NDArray[np.float64]) -> None:
        """Fills ``out`` with the next numbers of the stream, each at least 0 with mean 1."""
        self._generator.standard_exponential(out=out)


class Row(Protocol):
    """What the sampler needs to know of a sequence."""

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""

    @property
    def waiting_times(self) -> WaitingTimes:
        """Its own random numbers."""

    @property
    def produced(self) -> int:
        """Tokens drawn so far."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token per row."""

    tokens: Tensor
    """[B] int64, on the model's device."""
    token_ids: list[int]
    """The same as Python integers."""
    logprobs: list[float]
    """[B] of each token, after temperature and before any cut (temperature 0 counts as 1)."""
    finite: list[bool]
    """[B] whether the row's logits made a distribution; where False, its token means nothing."""


class Sampler:
    """Draws tokens for up to ``rows`` sequences at a time, in buffers that it keeps."""

    def __init__(self, rows: int, vocabulary_size: int, device: torch.device) -> None:
        blocks = -(-vocabulary_size // BLOCK)
        self._vocabulary_size = vocabulary_size
        # The tail past the vocabulary stays 0.
        self._weights = torch.zeros(rows, blocks, BLOCK, device=device)
        self._times = np.empty((rows, blocks + BLOCK))
        self._device = device
        self._plans: tuple[list[Row], _Plan] | None = None

    def draw(self, logits: Tensor, rows: Sequence[Row]) -> Drawn:
        """Draws one token per row.

        Args:
            logits: [B, V] float32; overwritten.
            rows: B sequences; each takes a number per block and per token of one, also where it is greedy.
        """
        plan = self._plan(rows)
        times = self._times[: len(rows)]
        for row, own in zip(rows, times, strict=True):
            row.waiting_times.draw(own)
        if plan.temperature is not None:
            logits.div_(plan.temperature)
        peak = logits.amax(1, keepdim=True)
        weights = self._weights[: len(rows)]  # [B, blocks, BLOCK]
        flat = weights.view(len(rows), -1)[:, : self._vocabulary_size]  # [B, V]
        torch.sub(logits, peak, out=flat)
        flat.exp_()
        sums = weights.sum(-1).double()  # [B, blocks]
        log_totals = sums.sum(1).log() + peak[:, 0]
        if plan.special:
            for index in plan.special:
                _restrict(rows[index], logits[index], flat[index])
            sums[plan.special] = weights[plan.special].sum(-1).double()
        tokens = _race(weights, sums, torch.from_numpy(times).to(self._device))
        if plan.greedy is not None:
            tokens = torch.where(plan.greedy, logits.argmax(1), tokens)
        logprobs = logits.gather(1, tokens[:, None])[:, 0] - log_totals
        values = logprobs.float().tolist()
        return Drawn(tokens, tokens.tolist(), values, [math.isfinite(value) for value in values])

    def _plan(self, rows: Sequence[Row]) -> "_Plan":
        """Returns what the rows' settings ask for; kept while the same rows come again."""
        if self._plans is not None and len(self._plans[0]) == len(rows):
            known, plan = self._plans
            if not plan.changes and all(a is b for a, b in zip(known, rows, strict=True)):
                return plan
        plan = _make_plan(rows, self._device)
        self._plans = (list(rows), plan)
        return plan


@dataclass(frozen=True, slots=True)
class _Plan:
    temperature: Tensor | None  # [B, 1], None where all are 1
    greedy: Tensor | None  # [B] bool, None where none is
    special: list[int]  # rows whose distribution is restricted before drawing
    changes: bool  # a row leaves `special` as it grows


def _make_plan(rows: Sequence[Row], device: torch.device) -> _Plan:
    temperatures = [row.sampling.temperature or 1.0 for row in rows]
    greedy = [row.sampling.greedy for row in rows]
    young = [row.produced < row.sampling.min_new_tokens and bool(row.sampling.stop_ids) for row in rows]
    return _Plan(
        temperature=(
            torch.tensor(temperatures, device=device)[:, None]
            if any(t != 1.0 for t in temperatures)
            else None
        ),
        greedy=torch.tensor(greedy, device=device) if any(greedy) else None,
        special=[index for index, row in enumerate(rows) if young[index] or row.sampling.cuts],
        changes=any(young),
    )


def _restrict(row: Row, logits: Tensor, weights: Tensor) -> None:
    """Takes away what may not be drawn: stop tokens too early, then all but top-k, then all but top-p.

    Args:
        row: Whose token is drawn.
        logits: [V]; stop tokens become minus infinity.
        weights: [V] exp(logits - max); what may not be drawn becomes 0.
    """
    sampling = row.sampling
    if row.produced < sampling.min_new_tokens and sampling.stop_ids:
        stops = torch.tensor(sampling.stop_ids, device=logits.device)
        logits[stops] = -torch.inf
        weights[stops] = 0
    if sampling.greedy:
        return
    if 0 < sampling.top_k < len(weights):
        weights.masked_fill_(weights < weights.topk(sampling.top_k).values[-1], 0)
    if sampling.top_p < 1:
        weights.masked_fill_(weights < _nucleus_floor(weights, sampling.top_p), 0)


def _nucleus_floor(weights: Tensor, share: float) -> Tensor:
    """Returns the smallest weight of the nucleus (Holtzman et al., arXiv:1904.09751); ties with it stay in.

    A token is in the nucleus if the tokens above it hold less than ``share`` of the mass.
    """
    needed = share * weights.sum(dtype=torch.float64)
    largest = weights.topk(min(NUCLEUS_GUESS, len(weights))).values
    reached = largest.double().cumsum(0)
    if reached[-1] < needed:
        largest = weights.sort(descending=True).values
        reached = largest.double().cumsum(0)
    inside = int(((reached - largest) < needed).sum())
    return largest[max(inside, 1) - 1]


def _race(weights: Tensor, sums: Tensor, times: Tensor) -> Tensor:
    """Returns who arrives first in every row, a block and then a token of it.

    Args:
        weights: [B, blocks, BLOCK] float32, not normalised.
        sums: [B, blocks] float64, of the weights of every block.
        times: [B, blocks + BLOCK] float64, exponential.

    Returns:
        [B] int64 token ids; a token of weight 0 never arrives.
    """
    times = times.clamp(min=torch.finfo(times.dtype).tiny)  # 0 / 0 would arrive first
    block = (times[:, :-BLOCK] / sums).argmin(1)
    rows = torch.arange(len(weights), device=weights.device)
    within = weights[rows, block].double()  # [B, BLOCK]
    return block * BLOCK + (times[:, -BLOCK:] / within).argmin(1)
