"""Held-out rankings as untied pairs, and which of them are independent. n pairs, K answers of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilothouse.tensors import Floats
from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.rankings import untied_pairs

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Untied pairs, each as the better answer minus the worse."""

    margins: Numbers
    """[n] difference of scores: positive where the model has the people's order."""
    longer: Numbers
    """[n] difference of lengths in tokens: positive where the better answer is the longer one."""
    units: npt.NDArray[np.int64]
    """[n] number of the independent unit to which a pair belongs."""

    @property
    def right(self) -> Numbers:
        """[n]: 1 where the model has the people's order, 1/2 where its scores are equal."""
        return np.asarray((np.sign(self.margins) + 1) / 2)

    @property
    def confidence(self) -> Numbers:
        """[n] in [0.5, 1]: the probability that the model gives to its own order, sigmoid(|margin|)."""
        return np.asarray(1 / (1 + np.exp(-np.abs(self.margins))))


def make_pairs(scores: Sequence[Floats], items: Sequence[EncodedRanking]) -> Pairs:
    """Returns the pairs of rankings in their order.

    Args:
        scores: One row [K] for each ranking.
        items: The rankings.
    """
    margins, longer, units = [], [], []
    for row, item, unit in zip(scores, items, independent_units(items), strict=True):
        values = np.asarray(row, dtype=np.float64)
        lengths = np.array([len(sequence) for sequence in item.sequences], dtype=np.float64)
        better, worse = untied_pairs(item.ranks)
        margins.append(values[better] - values[worse])
        longer.append(lengths[better] - lengths[worse])
        units.append(np.full(len(better), unit))
    return Pairs(np.concatenate(margins), np.concatenate(longer), np.concatenate(units))


def prompt_of(item: EncodedRanking) -> bytes:
    """Returns what tells the ranking's prompt from others: its tokens, or the answers where it has none."""
    tokens = item.sequences[0][: item.prompt_length]
    return np.concatenate([tokens] if len(tokens) else list(item.sequences)).astype("<i4").tobytes()


def independent_units(items: Sequence[EncodedRanking]) -> list[int]:
    """Returns each ranking's number, from 0, of the unit that a bootstrap draws whole.

    That is its prompt, because the rankings of one prompt share answers and raters' doubts. Where all have
    the same prompt it tells nothing apart, and every ranking is a unit.
    """
    numbers: dict[bytes, int] = {}
    units = [numbers.setdefault(prompt_of(item), len(numbers)) for item in items]
    return units if len(numbers) > 1 else list(range(len(items)))
