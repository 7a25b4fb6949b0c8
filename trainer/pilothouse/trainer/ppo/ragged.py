"""Arithmetic on rows that lie end to end: R response tokens of B responses, lengths instead of padding."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Ranks(Protocol):
    """The trainers that share one batch. Each holds some of its sequences and all see the same sums."""

    size: int
    """How many there are."""
    index: int
    """Which one this is, from 0."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum of every rank's tensor, of equal shape. All ranks must call in the same order."""
        ...

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the elementwise maximum over ranks."""
        ...


class OneRank:
    """A trainer alone."""

    size = 1
    index = 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the tensor."""
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Returns the tensor."""
        return tensor


def rank_seed(seed: int, rank: int) -> int:
    """Returns a seed of the rank's own: seed + rank * 100003, as in lm-human-preferences."""
    return seed + rank * 100_003


def row_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Returns [B], the sum of each row of ``values`` [R] with ``lengths`` int64 [B]."""
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return values.new_zeros(len(lengths)).index_add(0, rows, values)


def last_tokens(lengths: Tensor) -> Tensor:
    """Returns int64 [B], where in a flat [R] array each row has its last token."""
    return lengths.cumsum(0) - 1


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and biased variance of all valid tokens of all ranks."""

    count: Tensor
    """Scalar."""
    mean: Tensor
    """Scalar."""
    variance: Tensor
    """Scalar, divided by the count, not by count - 1."""

    @classmethod
    def of(cls, values: Tensor, ranks: Ranks) -> "Moments":
        """Returns the moments of ``values`` [R] over all ranks, in float64, in two passes."""
        wide = values.double()
        count, total = ranks.sum(torch.stack([wide.new_tensor(len(values)), wide.sum()]))
        mean = total / count
        return cls(count, mean, ranks.sum((wide - mean).square().sum()) / count)


def whiten(values: Tensor, ranks: Ranks, *, keep_mean: bool) -> Tensor:
    """Returns ``values`` [R] scaled to unit variance over all ranks; the mean is kept or removed.

    Biased variance with 1e-8 inside the root, as in lm-human-preferences. Rewards keep their mean, advantages
    lose it. Needs eight or more sequences to mean anything.
    """
    moments = Moments.of(values, ranks)
    white = (values.double() - moments.mean) * (moments.variance + 1e-8).rsqrt()
    return (white + moments.mean if keep_mean else white).to(values.dtype)
