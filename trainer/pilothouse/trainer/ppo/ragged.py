"""Arithmetic on rows that lie end to end: R response tokens of B responses, lengths instead of padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Ranks(Protocol):
    """The trainers that share one batch: each computes some of its sequences, and all learn the same."""

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

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sum over ranks into each tensor's place; every rank gets the same bits."""
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

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Leaves the tensors as they are."""


def row_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Returns [B], the sum of each row of ``values`` [R] with ``lengths`` int64 [B]."""
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return values.new_zeros(len(lengths)).index_add(0, rows, values)


def last_tokens(lengths: Tensor) -> Tensor:
    """Returns int64 [B], where in a flat [R] array each row has its last token."""
    return lengths.cumsum(0) - 1


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and biased variance of all valid tokens."""

    count: Tensor
    """Scalar."""
    mean: Tensor
    """Scalar."""
    variance: Tensor
    """Scalar, divided by the count, not by count - 1."""

    @classmethod
    def of(cls, values: Tensor) -> "Moments":
        """Returns the moments of ``values`` [R], in float64, in two passes."""
        wide = values.double()
        count = wide.new_tensor(len(values))
        mean = wide.sum() / count
        return cls(count, mean, (wide - mean).square().sum() / count)


def whiten(values: Tensor, *, keep_mean: bool) -> Tensor:
    """Returns ``values`` [R] scaled to unit variance; the mean is kept or removed.

    Biased variance with 1e-8 inside the root, as in lm-human-preferences. Rewards keep their mean, advantages
    lose it. Needs eight or more sequences to mean anything.
    """
    moments = Moments.of(values)
    white = (values.double() - moments.mean) * (moments.variance + 1e-8).rsqrt()
    return (white + moments.mean if keep_mean else white).to(values.dtype)
