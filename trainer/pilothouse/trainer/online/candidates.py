"""The loop's reward models: trained on a snapshot, compared with the serving one, promoted or dropped."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.client import RewardClient, RewardModelsClient, Scores, ShadowStatistics
from pilothouse.errors import ConfigError
from pilothouse.models.export import export_reward_model
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.data.encode import EncodedRanking, encode_rankings
from pilothouse.trainer.data.records import read_rankings
from pilothouse.trainer.ensemble import member_config, train_ensemble
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_run import MODEL
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.pairs import Pairs, independent_units, make_pairs
from pilothouse.trainer.progress import Progress
from pilothouse.trainer.rankings import PairAccuracy, pair_accuracy
from pilothouse.trainer.reward_model import train_reward_model
from pilothouse.trainer.statistics import Interval, ratio_interval

PREFIX = "turn-"
"""How the folders of the loop's candidates begin."""

_ROWS_AT_ONCE = 64

Score = Callable[[Sequence[Tokens], Sequence[int]], Scores]
"""Scores whole sequences, given how many tokens of each are the prompt."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate and the serving model on the same held-out rankings."""

    candidate: PairAccuracy
    serving: PairAccuracy
    difference: Interval
    """Candidate minus serving, share of right pairs, paired by prompt."""
    candidate_version: str
    serving_version: str
    rankings: int
    shadow: ShadowStatistics
    """What both have said of live rows so far; those of this comparison are among them."""

    def to_json(self) -> dict[str, Any]:
        """Returns it for the turn's record."""
        return {
            "candidate_version": self.candidate_version,
            "serving_version": self.serving_version,
            "candidate_accuracy": asdict(self.candidate.overall),
            "serving_accuracy": asdict(self.serving.overall),
            "difference": asdict(self.difference),
            "rankings": self.rankings,
            "pairs": self.candidate.pairs,
            "shadow": asdict(self.shadow),
        }


def train_candidate(config: RewardModelConfig, progress: Progress) -> list[Path]:
    """Trains a reward model, or the members of an ensemble, and returns their model folders."""
    if config.members == 1:
        train_reward_model(config, progress)
        return [config.output / MODEL]
    train_ensemble(config, progress)
    return [member_config(config, number).output / MODEL for number in range(1, config.members + 1)]


def stage(config: LoopConfig, models: Sequence[Path], std_factor: float, client: RewardModelsClient) -> str:
    """Loads the models as the candidate of the reward service, unless it is; returns its version.

    Another candidate of a loop, which was ended, is dropped.

    Raises:
        ConfigError: A candidate is staged that is no loop's.
    """
    folders = [_exported(folder) if config.export_onnx else folder for folder in models]
    names = [str(folder.resolve().relative_to(config.models_folder.resolve())) for folder in folders]
    left = client.models().candidate
    if left is not None and left.folders != tuple(names):
        if not all(name.startswith(PREFIX) for name in left.folders):
            raise ConfigError(
                f"the reward service holds a candidate that is not the loop's ({', '.join(left.folders)}); "
                "promote or drop it first, and start the loop again"
            )
        client.drop(left.reward_version)
    return client.stage(*names, combination=config.combination, std_factor=std_factor).reward_version


def compare(
    held_out: Path, base: str, version: str, reward: RewardClient, models: RewardModelsClient
) -> Verdict:
    """Scores the held-out rankings by both models.

    Args:
        held_out: Rankings that neither was trained on.
        base: Folder whose tokenizer reads them.
        version: Of the candidate.
        reward: The serving model.
        models: The candidate.

    Raises:
        InvalidDataError: The file holds no usable ranking.
    """
    codec, served, staged = TextCodec.load(base), reward.model(), models.candidate().model
    limit = min(model.max_sequence_tokens or 2**31 - 1 for model in (served, staged))
    items = encode_rankings(read_rankings(held_out), codec, max_tokens=limit).told("rankings")
    serving = _scored(items, lambda rows, lengths: reward.score(sequences=rows, prompt_lengths=lengths))
    candidate = _scored(
        items,
        lambda rows, lengths: models.score_candidate(
            sequences=rows, prompt_lengths=lengths, reward_version=version
        ),
    )
    ranks, units = [item.ranks for item in items], independent_units(items)
    return Verdict(
        candidate=pair_accuracy(candidate, ranks, units=units),
        serving=pair_accuracy(serving, ranks, units=units),
        difference=_difference(make_pairs(candidate, items), make_pairs(serving, items)),
        candidate_version=version,
        serving_version=served.reward_version,
        rankings=len(items),
        shadow=models.candidate().shadow,
    )


def _scored(items: Sequence[EncodedRanking], score: Score) -> list[Floats]:
    """Returns one row of scores [K] for each ranking."""
    rows = [row for item in items for row in item.sequences]
    lengths = [item.prompt_length for item in items for _ in item.sequences]
    parts = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        found = score(rows[start : start + _ROWS_AT_ONCE], lengths[start : start + _ROWS_AT_ONCE])
        parts.append(found.values)
    ends = np.cumsum([len(item.sequences) for item in items])[:-1]
    return np.split(np.concatenate(parts), ends)


def _difference(candidate: Pairs, serving: Pairs) -> Interval:
    better = np.bincount(candidate.units, weights=candidate.right - serving.right)
    return ratio_interval(better, np.bincount(candidate.units))


def _exported(folder: Path) -> Path:
    target = folder.with_name("onnx")
    export_reward_model(folder, target)
    return target
