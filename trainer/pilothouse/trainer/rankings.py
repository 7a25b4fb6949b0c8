"""Losses and accuracy of rankings. K answers of one prompt; scores [K], higher is better; rank 1 is best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from pilothouse.tensors import Floats
from pilothouse.trainer.statistics import Interval, ratio_interval

Ties = Literal["half", "drop"]
"""A tied pair has the soft target 1/2, or does not count."""

BUCKETS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Edges of the confidence buckets; confidence is sigmoid(|difference of scores|)."""


def pairs_loss(scores: Tensor, ranks: Sequence[int], *, ties: Ties = "half") -> Tensor:
    """Returns -log sigmoid(better - worse) over all C(K, 2) pairs of one prompt, each weighted 1/C(K, 2).

    InstructGPT, equation 1: the pairs of a prompt stay together, so that each answer is computed once and no
    prompt counts more than another. For K = 2 this is the pairwise loss of Stiennon et al. 2020.

    Args:
        scores: [K], K >= 2.
        ranks: K ranks, smaller is better.
        ties: What equal ranks mean.
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


def pair_accuracy(scores: Sequence[Floats], ranks: Sequence[Sequence[int]], *, seed: int = 0) -> PairAccuracy:
    """Compares scores with rankings.

    Args:
        scores: One row [K] for each ranking, before any normalisation.
        ranks: K ranks for each ranking, smaller is better.
        seed: Of the bootstrap.

    Raises:
        ValueError: No ranking has two answers of different rank.
    """
    margins = [_margins(row, order) for row, order in zip(scores, ranks, strict=True)]
    right = [float((row > 0).sum() + 0.5 * (row == 0).sum()) for row in margins]
    overall = ratio_interval(right, [float(len(row)) for row in margins], seed=seed)
    flat = np.concatenate(margins)
    confidence = 1 / (1 + np.exp(-np.abs(flat)))
    buckets = []
    for low, high in pairwise(BUCKETS):
        inside = flat[(confidence >= low) & ((confidence < high) | (high == 1.0))]
        buckets.append(
            Bucket(low, high, len(inside), float((inside > 0).mean()) if len(inside) else float("nan"))
        )
    return PairAccuracy(overall, len(flat), tuple(buckets), float(flat.mean()))


def accuracy_to_json(accuracy: PairAccuracy) -> dict[str, Any]:
    """Returns the accuracy as JSON; a bucket without pairs has accuracy null."""
    body = asdict(accuracy)
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
        overall=Interval(**body["overall"]),
        pairs=body["pairs"],
        buckets=tuple(Bucket(**bucket) for bucket in buckets),
        margin=body["margin"],
    )


def _margins(scores: Floats, ranks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Returns better minus worse, float64 [pairs], for the untied pairs of one prompt."""
    values, order = np.asarray(scores, dtype=np.float64), np.asarray(ranks)
    better, worse = np.nonzero(order[:, None] < order[None, :])
    return values[better] - values[worse]
