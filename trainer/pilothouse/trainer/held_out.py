"""What held-out rankings say of a reward model, as ``accuracy.json`` and its card tell it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.tensors import Floats
from pilothouse.trainer.calibration import Calibration, calibrate
from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.human_agreement import HumanAgreement, human_agreement
from pilothouse.trainer.length_bias import LengthBias, length_bias
from pilothouse.trainer.pairs import independent_units, make_pairs
from pilothouse.trainer.rankings import PairAccuracy, accuracy_to_json, pair_accuracy
from pilothouse.trainer.statistics import intervals_to_json


@dataclass(frozen=True, slots=True)
class HeldOutReport:
    """Every ranking counts alike, whatever its weight in training. Intervals are from resampled prompts."""

    accuracy: PairAccuracy
    calibration: Calibration
    agreement: HumanAgreement | None
    """None where no two raters have ranked the same answers."""
    length: LengthBias

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``accuracy.json``; `accuracy_from_json` reads the accuracy from it."""
        return accuracy_to_json(self.accuracy) | {
            "calibration": intervals_to_json(self.calibration),
            "agreement": intervals_to_json(self.agreement),
            "length": intervals_to_json(self.length),
        }


def held_out_report(
    scores: Sequence[Floats], items: Sequence[EncodedRanking], *, seed: int = 0
) -> HeldOutReport:
    """Measures a model.

    Args:
        scores: One row [K] for each ranking, as the loss read them: before the last normalisation.
        items: The rankings.
        seed: Of the bootstrap.

    Raises:
        ValueError: No ranking has two answers of different rank.
    """
    accuracy = pair_accuracy(
        scores, [item.ranks for item in items], units=independent_units(items), seed=seed
    )
    pairs = make_pairs(scores, items)
    return HeldOutReport(
        accuracy,
        calibrate(pairs, seed=seed),
        human_agreement(scores, items, seed=seed),
        length_bias(scores, items, pairs, seed=seed),
    )
