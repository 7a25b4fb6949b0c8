"""The loop's reward models: trained on a snapshot, compared with the serving one, promoted or dropped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.client import RewardClient, RewardModelsClient, Scores
from pilothouse.models.export import export_reward_model
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Floats
from pilothouse.trainer.data.encode import EncodedRanking, encode_rankings
from pilothouse.trainer.data.records import read_rankings
from pilothouse.trainer.ensemble import member_config, train_ensemble
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_run import MODEL
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.progress import Progress
from pilothouse.trainer.rankings import PairAccuracy, pair_accuracy, pair_margins
from pilothouse.trainer.reward_model import train_reward_model
from pilothouse.trainer.statistics import Interval, mean_interval

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate and the serving model on the same held-out rankings."""

    candidate: PairAccuracy
    serving: PairAccuracy
    difference: Interval
    """Candidate minus serving, share of right pairs, paired by ranking."""
    candidate_version: str
    serving_version: str
    rankings: int

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
        }


def train_candidate(config: RewardModelConfig, progress: Progress) -> list[Path]:
    """Trains a reward model, or the members of an ensemble, and returns their model folders."""
    if config.members == 1:
        train_reward_model(config, progress)
        return [config.output / MODEL]
    train_ensemble(config, progress)
    return [member_config(config, number).output / MODEL for number in range(1, config.members + 1)]


def stage(config: LoopConfig, models: Sequence[Path], client: RewardModelsClient) -> str:
    """Loads the models as the candidate of the reward service; returns its version.

    Another candidate, which a loop that was ended has left, is dropped.
    """
    folders = [_exported(folder) if config.export_onnx else folder for folder in models]
    names = [str(folder.resolve().relative_to(config.models_folder.resolve())) for folder in folders]
    left = client.models().candidate
    if left is not None and left.folders != tuple(names):
        client.drop(left.reward_version)
    return client.stage(*names, combination=config.combination).reward_version


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
    codec, served = TextCodec.load(base), reward.model()
    limit = served.max_sequence_tokens or 2**31 - 1
    items = encode_rankings(read_rankings(held_out), codec, max_tokens=limit).told("rankings")
    serving = _scored(items, lambda rows, lengths: reward.score(sequences=rows, prompt_lengths=lengths))
    candidate = _scored(
        items,
        lambda rows, lengths: models.score_candidate(
            sequences=rows, prompt_lengths=lengths, reward_version=version
        ),
    )
    ranks = [item.ranks for item in items]
    mine, theirs = _right(candidate, ranks), _right(serving, ranks)
    return Verdict(
        candidate=pair_accuracy(candidate, ranks),
        serving=pair_accuracy(serving, ranks),
        difference=mean_interval(mine - theirs),
        candidate_version=version,
        serving_version=served.reward_version,
        rankings=len(items),
    )


def _scored(items: Sequence[EncodedRanking], score: Any) -> list[Floats]:
    """Returns one row of scores [K] for each ranking."""
    rows = [row for item in items for row in item.sequences]
    lengths = [item.prompt_length for item in items for _ in item.sequences]
    parts = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        found: Scores = score(rows[start : start + _ROWS_AT_ONCE], lengths[start : start + _ROWS_AT_ONCE])
        parts.append(found.values)
    ends = np.cumsum([len(item.sequences) for item in items])[:-1]
    return np.split(np.concatenate(parts), ends)


def _right(scores: Sequence[Floats], ranks: Sequence[Sequence[int]]) -> Floats:
    """Returns, for each ranking with an untied pair, the share of its pairs in the people's order."""
    shares = []
    for row, order in zip(scores, ranks, strict=True):
        if len(margins := pair_margins(row, order)):
            shares.append(float((margins > 0).mean() + 0.5 * (margins == 0).mean()))
    return np.array(shares, dtype=np.float32)


def _exported(folder: Path) -> Path:
    target = folder.with_name("onnx")
    export_reward_model(folder, target)
    return target
