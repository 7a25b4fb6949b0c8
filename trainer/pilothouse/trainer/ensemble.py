"""Several reward models from the same rankings, and what they say together. M members, K answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pilothouse.models.load import load_causal_lm
from pilothouse.tensors import Floats
from pilothouse.trainer.durable import to_json, write_atomic
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_run import watched
from pilothouse.trainer.fitting import require_data
from pilothouse.trainer.pairs import Numbers, independent_units, make_pairs
from pilothouse.trainer.progress import Progress, silent
from pilothouse.trainer.rankings import PairAccuracy, accuracy_to_json, pair_accuracy
from pilothouse.trainer.reward_data import Rankings, RewardData, bootstrap, read_reward_data
from pilothouse.trainer.reward_model import RewardModelResult, train_on
from pilothouse.trainer.statistics import (
    Interval,
    interval_to_json,
    intervals_to_json,
    mean_interval,
    sums_interval,
)

ENSEMBLE = "ensemble.json"
"""Name of the report in the run's folder."""

_SEED_STEP = 100_003  # between the seeds of members


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How far members are apart on held-out rankings, as served: with deviation 1 each."""

    deviation: Interval
    """Deviation of the members' scores of an answer, mean over answers."""
    unanimous: Interval | None
    """Share of pairs that all members put in the same order; None without pairs."""
    accuracy_unanimous: Interval | None
    """Accuracy of the mean on these; None without any."""
    accuracy_divided: Interval | None
    """Accuracy of the mean on the others."""


@dataclass(frozen=True, slots=True)
class EnsembleReport:
    """On held-out rankings. The combinations are those of Coste et al. 2023, arXiv 2310.02743, section 3."""

    mean: PairAccuracy
    """Of the members' mean score."""
    least: PairAccuracy
    """Of their least score."""
    mean_minus_std: PairAccuracy
    """Of the mean less ``std_factor`` deviations."""
    std_factor: float
    disagreement: Disagreement

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON."""
        return {
            "accuracy": {
                "mean": accuracy_to_json(self.mean),
                "min": accuracy_to_json(self.least),
                "mean_minus_std": accuracy_to_json(self.mean_minus_std),
            },
            "std_factor": self.std_factor,
            "disagreement": intervals_to_json(self.disagreement),
        }


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """What came out of training."""

    members: tuple[RewardModelResult, ...]
    report: EnsembleReport | None
    """None without held-out rankings."""


def member_config(config: RewardModelConfig, number: int) -> RewardModelConfig:
    """Returns the run of a member, counted from 1: a folder and a seed of its own."""
    changes = {"output": config.output / f"member-{number}", "seed": config.seed + _SEED_STEP * (number - 1)}
    return config.model_copy(update=changes | {"members": 1})


def train_ensemble(config: RewardModelConfig, progress: Progress = silent) -> EnsembleResult:
    """Trains every member as a run of its own in ``config.output / "member-N"``, one after the other.

    Members differ in the weights of their head, the order of the data and, with ``member_bootstrap``, the
    prompts that they learn from. They are normalised with the same samples, so that their scores compare. A
    member is what it is whatever their number, which can be raised later. Called again after a stop, finished
    members take no step.

    Args:
        config: The run, of two members or more.
        progress: Hears of every step of every member.

    Raises:
        ConfigError: As `train_reward_model`.
        InvalidDataError: The data cannot be used.
        RunInUseError: Another process writes to a member's folder.
        KeyboardInterrupt: Ended by a signal or a caller, after a checkpoint.
    """
    require_data(config, "reward_model")
    start, data, results = None, None, []
    for number in range(1, config.members + 1):
        own = member_config(config, number)
        with watched(own, "reward-model") as run:
            if start is None or data is None:
                start = load_causal_lm(config.model, device=config.device)
                data = read_reward_data(config, start)
            drawn = bootstrap(data.items, own.seed) if config.member_bootstrap else data.items
            member = {"number": number, "bootstrap": config.member_bootstrap}
            results.append(train_on(own, start, replace(data, items=drawn), run, progress, member))
    report = _report(config, results, data)
    _write(config, results, report)
    return EnsembleResult(tuple(results), report)


def ensemble_report(
    scores: Sequence[Sequence[Floats]], items: Rankings, *, std_factor: float, seed: int = 0
) -> EnsembleReport:
    """Measures combinations of members and their disagreement.

    Args:
        scores: For each member, one row [K] for each ranking, as served.
        items: The rankings.
        std_factor: λ of mean - λ · deviation.
        seed: Of the bootstrap.
    """
    stacked = [np.stack(rows).astype(np.float64) for rows in zip(*scores, strict=True)]  # [M, K] each
    units, ranks = independent_units(items), [item.ranks for item in items]

    def accuracy(rows: Sequence[Numbers]) -> PairAccuracy:
        return pair_accuracy([row.astype(np.float32) for row in rows], ranks, units=units, seed=seed)

    mean, spread = [rows.mean(axis=0) for rows in stacked], [rows.std(axis=0) for rows in stacked]
    careful = [centre - std_factor * width for centre, width in zip(mean, spread, strict=True)]
    return EnsembleReport(
        accuracy(mean),
        accuracy([rows.min(axis=0) for rows in stacked]),
        accuracy(careful),
        std_factor,
        _disagreement(scores, items, mean, spread, seed),
    )


def _disagreement(
    scores: Sequence[Sequence[Floats]],
    items: Rankings,
    mean: Sequence[Numbers],
    spread: Sequence[Numbers],
    seed: int,
) -> Disagreement:
    together = make_pairs([row.astype(np.float32) for row in mean], items)
    signs = np.stack([np.sign(make_pairs(rows, items).margins) for rows in scores])  # [M, n]
    same = (signs == signs[0]).all(axis=0)

    def share(part: Numbers, whole: Numbers) -> Interval | None:
        rows = np.stack([part, whole], axis=1)
        return sums_interval(rows, lambda sums: sums[:, 0] / sums[:, 1], units=together.units, seed=seed)

    return Disagreement(
        mean_interval([float(row.mean()) for row in spread], seed=seed),
        share(same.astype(np.float64), np.ones(len(same))),
        share(together.right * same, same.astype(np.float64)),
        share(together.right * ~same, (~same).astype(np.float64)),
    )


def _report(
    config: RewardModelConfig, results: Sequence[RewardModelResult], data: RewardData | None
) -> EnsembleReport | None:
    if data is None or not data.held_out:
        return None
    return ensemble_report([item.scores for item in results], data.held_out, std_factor=config.std_factor)


def _write(
    config: RewardModelConfig, results: Sequence[RewardModelResult], report: EnsembleReport | None
) -> None:
    members = [
        {
            "model": f"member-{number}/model",
            "version": result.version,
            "seed": member_config(config, number).seed,
            "accuracy": None if result.accuracy is None else interval_to_json(result.accuracy.overall),
        }
        for number, result in enumerate(results, start=1)
    ]
    body = {"members": members, "bootstrap": config.member_bootstrap}
    held_out = None if report is None else report.to_json()
    write_atomic(config.output / ENSEMBLE, to_json(body | {"held_out": held_out}))
