"""Whether a reward model prefers long answers more than people do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilothouse.tensors import Floats
from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.pairs import Numbers, Pairs, independent_units
from pilothouse.trainer.statistics import Interval, sums_interval


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Lengths are tokens. An interval is None where it is undefined, as for answers of one length."""

    longer_pairs: int
    """Pairs whose better answer is the longer one."""
    longer_accuracy: Interval | None
    """Accuracy on them."""
    shorter_pairs: int
    """Pairs whose better answer is the shorter one."""
    shorter_accuracy: Interval | None
    """Accuracy on them: far below the other, the model counts words."""
    pearson: Interval | None
    """Correlation of score and length among the answers of a prompt, over all prompts."""
    spearman: Interval | None
    """The same of their ranks among the answers of a prompt."""
    partial: Interval | None
    """Correlation of score and length once the people's ranks are taken out of both by regression: people may
    have good reasons to like long answers."""


def length_bias(
    scores: Sequence[Floats], items: Sequence[EncodedRanking], pairs: Pairs, *, seed: int = 0
) -> LengthBias:
    """Measures the pull of length.

    Args:
        scores: One row [K] for each ranking.
        items: The rankings.
        pairs: Of the same.
        seed: Of the bootstrap, which draws prompts.
    """
    rows, owners = [], []
    for row, item, unit in zip(scores, items, independent_units(items), strict=True):
        lengths = np.array([len(sequence) for sequence in item.sequences], dtype=np.float64)
        score, quality = np.asarray(row, dtype=np.float64), -np.array(item.ranks, dtype=np.float64)
        centred = [values - values.mean() for values in (score, lengths, quality)]
        ranks = [values - values.mean() for values in (_mid_ranks(score), _mid_ranks(lengths))]
        rows.append([*_products(centred), *_products(ranks)])
        owners.append(unit)
    table = np.array(rows)  # [rankings, 6 + 3]
    pearson, spearman, partial = (
        sums_interval(table, statistic, units=owners, seed=seed)
        for statistic in (_pearson, lambda sums: _pearson(sums[:, 6:], width=2), _partial)
    )
    longer, shorter = pairs.longer > 0, pairs.longer < 0
    return LengthBias(
        int(longer.sum()),
        _accuracy(pairs, longer, seed),
        int(shorter.sum()),
        _accuracy(pairs, shorter, seed),
        pearson,
        spearman,
        partial,
    )


def _accuracy(pairs: Pairs, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]], seed: int) -> Interval | None:
    rows = np.stack([pairs.right * chosen, chosen], axis=1)
    return sums_interval(rows, lambda sums: sums[:, 0] / sums[:, 1], units=pairs.units, seed=seed)


def _mid_ranks(values: Numbers) -> Numbers:
    """Returns ranks [K] from 0; equal values share the mean of theirs."""
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2)


def _products(columns: Sequence[Numbers]) -> list[float]:
    """Returns the sums of products of every two columns, the upper triangle row by row."""
    return [float(a @ b) for index, a in enumerate(columns) for b in columns[index:]]


def _correlation(both: Numbers, first: Numbers, second: Numbers) -> Numbers:
    return np.asarray(both / np.sqrt(first * second))


def _pearson(sums: Numbers, width: int = 3) -> Numbers:
    """Returns [R]: the correlation of the first two of ``width`` columns from the sums of their products."""
    return _correlation(sums[:, 1], sums[:, 0], sums[:, width])


def _partial(sums: Numbers) -> Numbers:
    """Returns [R]: the correlation of score and length when quality is held (Frisch & Waugh 1933)."""
    length = _pearson(sums)
    score_quality = _correlation(sums[:, 2], sums[:, 0], sums[:, 5])
    length_quality = _correlation(sums[:, 4], sums[:, 3], sums[:, 5])
    left = (1 - score_quality**2) * (1 - length_quality**2)
    return np.asarray(
        (length - score_quality * length_quality) / np.sqrt(np.where(left > 1e-12, left, np.nan))
    )
