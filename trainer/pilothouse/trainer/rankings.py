"""Losses and accuracy of rankings. K answers of one prompt; scores [K], higher is better; rank 1 is best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from pilothouse.tensors import Floats
from pilothouse.trainer.statistics import Interval, interval_from_json, intervals_to_json, ratio_interval

Places = npt.NDArray[np.int64]

Ties = Literal["half", "drop"]
"""A tied pair pulls its scores together, or does not count."""

BUCKETS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Edges of the confidence buckets; confidence is sigmoid(|difference of scores|)."""


def pairs_loss(scores: Tensor, ranks: Sequence[int], *, ties: Ties = "half") -> Tensor:
    """Returns -log sigmoid(better - worse) over all C(K, 2) pairs of one prompt, each weighted 1/C(K, 2).

    InstructGPT, equation 1: the pairs of a prompt stay together, so that each answer is computed once and no
    prompt counts more than another. For K = 2 this is the pairwise loss of Stiennon et al. 2020.

    Args:
        scores: [K], K >= 2.
        ranks: K ranks, smaller is better.
        ties: ``half``: a tied pair has the soft target 1/2.
    """
    first, second = torch.triu_indices(len(ranks), len(ranks), offset=1, device=scores.device)
    order = torch.as_tensor(ranks, device=scores.device)
    target = 0.5 + 0.5 * torch.sign(order[second] - order[first]).to(scores.dtype)  # 1: the first is better
    difference = scores[first] - scores[second]
    losses = target * softplus(-difference) + (1 - target) * softplus(difference)
    if ties == "drop":
        losses = losses * (order[first] != order[second])
    return losses.sum() / len(first)


def best_of_loss(scores: Tensor, ranks: Sequence[int]) -> Tensor:
    """Returns the cross-entropy of the softmax over K scores with the best answer as the target.

    Ziegler et al. 2019, section 2.1. Several best answers share the target evenly.

    Args:
        scores: [K], K >= 2.
        ranks: K ranks, smaller is better.
    """
    best = torch.tensor([rank == min(ranks) for rank in ranks], dtype=scores.dtype, device=scores.device)
    return -(log_softmax(scores, dim=0) * best / best.sum()).sum()


def plackett_luce_loss(scores: Tensor, ranks: Sequence[int], *, ties: Ties = "half") -> Tensor:
    """Returns -log likelihood of the whole ranking as K - 1 choices in turn, divided by K - 1.

    Luce 1959 and Plackett 1975: the best is chosen among all K answers by a softmax over scores, the next
    among the rest, and so on; this is Cox's partial likelihood with scores as log hazards. Divided by the
    choices, no prompt counts more than another, and for K = 2 it is the pairwise loss.

    The exact likelihood of tied answers sums over all their orders, and says nothing at all of ties at the
    bottom. Efron 1977 takes a share out of the tied answers' part of each denominator instead: it costs
    nothing, equals the mean over the orders where tied scores are equal, and falls off where they are not, so
    that a tie, which people mean, pulls its scores together.

    Args:
        scores: [K], K >= 2.
        ranks: K ranks, smaller is better.
        ties: ``half``: Efron's approximation. ``drop``: an answer is chosen among itself and the worse ones.
    """
    order = torch.as_tensor(ranks, device=scores.device)
    worse = (order[None, :] > order[:, None]).to(scores.dtype)  # [K, K]: the column is worse than the row
    tied = (order[None, :] == order[:, None]).to(scores.dtype)
    if ties == "drop":
        share = torch.eye(len(ranks), dtype=scores.dtype, device=scores.device)
    else:
        chosen = torch.tril(tied, diagonal=-1).sum(dim=1, keepdim=True)  # tied ones that went before
        share = tied * (1 - chosen / tied.sum(dim=1, keepdim=True))
    rest = torch.logsumexp(scores + torch.log(worse + share), dim=1)  # log 0: not among the rest
    return (rest - scores).sum() / (len(ranks) - 1)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pairs whose confidence lies in [low, high)."""

    low: float
    high: float
    pairs: int
    accuracy: float
    """Share in the people's order; nan without pairs."""


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """How often scores put two answers of a prompt in the people's order. Tied pairs do not count."""

    overall: Interval
    """Over all pairs; its interval resamples prompts, because the pairs of one are not independent."""
    pairs: int
    buckets: tuple[Bucket, ...]
    """By confidence: a calibrated model is right about as often as it is confident."""
    margin: float
    """Mean difference of scores, better minus worse."""


def pair_accuracy(
    scores: Sequence[Floats],
    ranks: Sequence[Sequence[int]],
    *,
    units: Sequence[int] | None = None,
    seed: int = 0,
) -> PairAccuracy:
    """Compares scores with rankings.

    Args:
        scores: One row [K] for each ranking, before any normalisation.
        ranks: K ranks for each ranking, smaller is better.
        units: Number, from 0, of the prompt of each ranking; None where every ranking has one of its own.
        seed: Of the bootstrap.

    Raises:
        ValueError: No ranking has two answers of different rank.
    """
    margins = [pair_margins(row, order) for row, order in zip(scores, ranks, strict=True)]
    right = [float((row > 0).sum() + 0.5 * (row == 0).sum()) for row in margins]
    groups = np.arange(len(margins)) if units is None else np.asarray(units)
    counts = np.bincount(groups, weights=[len(row) for row in margins])
    overall = ratio_interval(np.bincount(groups, weights=right), counts, seed=seed)
    flat = np.concatenate(margins)
    confidence = 1 / (1 + np.exp(-np.abs(flat)))
    buckets = []
    for low, high in pairwise(BUCKETS):
        inside = flat[(confidence >= low) & ((confidence < high) | (high == 1.0))]
        buckets.append(
            Bucket(low, high, len(inside), float((inside > 0).mean()) if len(inside) else float("nan"))
        )
    return PairAccuracy(overall, len(flat), tuple(buckets), float(flat.mean()))


def pair_margins(scores: Floats, ranks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Returns better minus worse, float64 [pairs], for the untied pairs of one prompt."""
    values = np.asarray(scores, dtype=np.float64)
    better, worse = untied_pairs(ranks)
    return values[better] - values[worse]


def untied_pairs(ranks: Sequence[int]) -> tuple[Places, Places]:
    """Returns the places of the better and the worse answer, int64 [pairs] each, of the untied pairs."""
    order = np.asarray(ranks)
    better, worse = np.nonzero(order[:, None] < order[None, :])
    return better, worse


def accuracy_to_json(accuracy: PairAccuracy) -> dict[str, Any]:
    """Returns the accuracy as JSON; a bucket without pairs has accuracy null."""
    body: dict[str, Any] = intervals_to_json(accuracy)
    for bucket in body["buckets"]:
        bucket["accuracy"] = bucket["accuracy"] if bucket["pairs"] else None
    return body


def accuracy_from_json(body: Mapping[str, Any]) -> PairAccuracy:
    """Returns what `accuracy_to_json` was given."""
    buckets = (
        bucket | {"accuracy": math.nan if bucket["accuracy"] is None else bucket["accuracy"]}
        for bucket in body["buckets"]
    )
    return PairAccuracy(
        overall=interval_from_json(body["overall"]),
        pairs=body["pairs"],
        buckets=tuple(Bucket(**bucket) for bucket in buckets),
        margin=body["margin"],
    )
