"""A reward model from people's rankings: the SFT model's body with a scalar head. K answers of one prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilothouse.errors import ConfigError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import CausalLM, load_causal_lm
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.durable import to_json, write_atomic
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_run import MODEL, FitRun, watched
from pilothouse.trainer.fitting import Fit, Metrics, Task, data_digest, require_data
from pilothouse.trainer.folders import replace_folder
from pilothouse.trainer.held_out import HeldOutReport, held_out_report
from pilothouse.trainer.pairs import independent_units
from pilothouse.trainer.ppo.minibatches import micro_batches
from pilothouse.trainer.ppo.optimiser import as_parameters
from pilothouse.trainer.ppo.trainable import freeze_lower_layers
from pilothouse.trainer.progress import Progress, silent
from pilothouse.trainer.rankings import (
    PairAccuracy,
    best_of_loss,
    pair_accuracy,
    pairs_loss,
    plackett_luce_loss,
    untied_pairs,
)
from pilothouse.trainer.reward_card import write_card
from pilothouse.trainer.reward_data import Rankings, RewardData, describe, read_reward_data

ACCURACY = "accuracy.json"
"""Name of the report on held-out rankings in the run's folder."""


@dataclass(frozen=True, slots=True)
class RewardModelResult:
    """What came out of training."""

    report: HeldOutReport | None
    """On held-out rankings; None without them."""
    version: str
    """Version of the reward model, as services report it."""
    metrics: Metrics
    """Of the last step."""
    scores: tuple[Floats, ...]
    """Of the held-out answers as served: a row [K] for each ranking."""
    counts: Mapping[str, float]
    """Rankings to learn from that were kept, left out and truncated, by the names of metrics."""

    @property
    def accuracy(self) -> PairAccuracy | None:
        """On held-out rankings; None without them."""
        return None if self.report is None else self.report.accuracy


def train_reward_model(config: RewardModelConfig, progress: Progress = silent) -> RewardModelResult:
    """Trains, normalises and writes the reward model to ``config.output / "model"``.

    The process keeps the memory that it frees from here on, see `pilothouse.models.memory.keep_freed_memory`.

    Raises:
        ConfigError: No data, several members, or the policy of ``normalise_with`` has another tokenizer.
        InvalidDataError: The data cannot be used.
        RunInUseError: Another process writes to ``config.output``.
        KeyboardInterrupt: Ended by a signal or a caller, after a checkpoint.
    """
    require_data(config, "reward_model")
    if config.members > 1:
        raise ConfigError(
            f"reward_model.members is {config.members}; train_reward_model trains one, train_ensemble several"
        )
    with watched(config, "reward-model") as run:
        start = load_causal_lm(config.model, device=config.device)
        return train_on(config, start, read_reward_data(config, start), run, progress)


def train_on(
    config: RewardModelConfig,
    start: CausalLM,
    data: RewardData,
    run: FitRun,
    progress: Progress,
    member: dict[str, Any] | None = None,
) -> RewardModelResult:
    """Trains, normalises and writes one reward model.

    Args:
        config: The run.
        start: The model that it starts from a copy of.
        data: What it learns from and is measured on.
        run: Its process, folder and server.
        progress: Hears of every step.
        member: For the card: which member of an ensemble it is; None for none.
    """
    model = ScalarModel.from_causal_lm(start.model, config.seed, pad_id=start.codec.pad_id)
    freeze_lower_layers(model.model, len(model.spec.layers), config.trainable_layers)
    if config.normalise_before:
        normalise(model, data.samples, config.micro_batch_tokens)
    gain, bias = model.gain, model.bias
    found: list[list[Floats]] = []  # before the last normalisation: confidence is that of the trained loss
    metrics = Fit(config, _task(config, model, data, found), run).run(progress)
    normalise(model, data.samples, config.micro_batch_tokens)
    report = held_out_report(found[-1], data.held_out) if found else None
    with replace_folder(config.output / MODEL) as folder:
        longest = min(config.max_sequence_tokens, model.spec.max_positions)
        manifest = model.save(folder, start.codec, max_sequence_tokens=longest)
        write_card(folder, _card(config, data, model, manifest.version, report, model.gain / gain, member))
    if report is not None:
        write_atomic(config.output / ACCURACY, to_json(report.to_json()))
    served = [model.gain * (row - bias) / gain + model.bias for row in (found[-1] if found else [])]
    return RewardModelResult(report, manifest.version, metrics, tuple(served), data.counts)


def _card(
    config: RewardModelConfig,
    data: RewardData,
    model: ScalarModel,
    version: str,
    report: HeldOutReport | None,
    served: float,
    member: dict[str, Any] | None,
) -> dict[str, Any]:
    """Returns the card; ``served`` is by how much served differences of scores exceed the trained ones."""
    training = (
        "loss",
        "ties",
        "square_penalty",
        "seed",
        "epochs",
        "batch_size",
        "trainable_layers",
        "overlong",
    )
    of = "samples of the reference policy" if config.normalise_with else "of the answers that were ranked"
    return {
        "version": version,
        "base_model": Path(config.model).name,
        "member": member,
        "training": config.model_dump(mode="json", include={*training, "max_sequence_tokens"})
        | {"learning_rate": config.optimiser.learning_rate, "schedule": config.optimiser.schedule},
        "data": {
            "training": describe(data.items, config.data),
            "held_out": describe(data.held_out, config.evaluation_data) if data.held_out else None,
        },
        "normaliser": {"gain": model.gain, "bias": model.bias, "samples": len(data.samples), "of": of},
        "held_out": None if report is None else report.to_json(),
        "served_temperature": None if report is None else report.calibration.temperature.mean * served,
    }


def _task(config: RewardModelConfig, model: ScalarModel, data: RewardData, found: list[list[Floats]]) -> Task:
    """Returns the task; the scores of every evaluation are also appended to ``found``."""

    def evaluate() -> Metrics:
        found.append(held_out_scores(model, data.held_out, config.micro_batch_tokens))
        ranks, units = [item.ranks for item in data.held_out], independent_units(data.held_out)
        accuracy = pair_accuracy(found[-1], ranks, units=units)
        return {"eval_accuracy": accuracy.overall.mean, "eval_margin": accuracy.margin}

    rankings = [(*item.sequences, np.array(item.ranks), *_weight(item.weight)) for item in data.items]
    return Task(
        name="reward_model",
        parameters=as_parameters(dict(model.model.named_parameters())),
        lengths=[sum(len(row) for row in item.sequences) for item in data.items],
        digest=data_digest([*rankings, data.samples] if config.normalise_with else rankings),
        backward=lambda rows: backward(config, model, [data.items[row] for row in rows]),
        evaluate=evaluate if data.held_out else None,
    )


def _weight(weight: float) -> list[np.ndarray[Any, Any]]:
    """Returns the bits of a weight as integers for a digest; nothing for 1, which says nothing."""
    return [] if weight == 1 else [np.array([weight]).view(np.int32)]


def backward(config: RewardModelConfig, model: ScalarModel, batch: Rankings) -> Metrics:
    """Adds the gradients of the batch's mean loss by weight, sum(weight · loss) / sum(weight).

    All answers of a ranking go through the model in one pass, each once, whatever the number of their pairs.
    The loss reads ``gain * raw``: the bias cancels in every comparison.
    """
    total, margins, values, weight = 0.0, [], [], sum(item.weight for item in batch)
    lengths = [sum(len(row) for row in item.sequences) for item in batch]
    for rows in micro_batches(range(len(batch)), lengths, config.micro_batch_tokens):
        chosen = [batch[row] for row in rows]
        scores = model.gain * ordered_scores(model, [row for item in chosen for row in item.sequences])
        groups = scores.split([len(item.sequences) for item in chosen])
        losses = (
            item.weight * ranking_loss(config, group, item.ranks)
            for group, item in zip(groups, chosen, strict=True)
        )
        loss = sum(losses, start=scores.new_zeros(())) / weight
        loss.backward()
        total += loss.item()
        values.append(scores.detach())
        margins += [
            (group.detach().numpy(force=True), item.ranks) for group, item in zip(groups, chosen, strict=True)
        ]
    flat = torch.cat(values)
    metrics = {"loss": total, "mean_reward": flat.mean().item()}
    metrics |= {"min_reward": flat.min().item(), "max_reward": flat.max().item()}
    return metrics | _pair_metrics(margins)


def ranking_loss(config: RewardModelConfig, scores: Tensor, ranks: Sequence[int]) -> Tensor:
    """Returns the configured loss of one ranking from its scores [K]."""
    match config.loss:
        case "pairs":
            loss = pairs_loss(scores, ranks, ties=config.ties)
        case "plackett-luce":
            loss = plackett_luce_loss(scores, ranks, ties=config.ties)
        case "best-of-k":
            loss = best_of_loss(scores, ranks)
    return loss + config.square_penalty * scores.square().mean()


def ordered_scores(model: ScalarModel, sequences: Sequence[Tokens]) -> Tensor:
    """Returns raw scores [B] in the order given, computed with equal lengths side by side."""
    order = np.argsort([len(row) for row in sequences], kind="stable")
    scores = model.last_token_scores([sequences[int(row)] for row in order])
    return scores[torch.from_numpy(np.argsort(order)).to(scores.device)]


@torch.no_grad()
def score_sequences(model: ScalarModel, sequences: Sequence[Tokens], micro_batch_tokens: int) -> Floats:
    """Returns normalised scores, float32 [B], of whole sequences: ``gain * raw + bias``."""
    lengths = [len(row) for row in sequences]
    scores = np.empty(len(sequences), dtype=np.float32)
    for rows in micro_batches(range(len(lengths)), lengths, micro_batch_tokens):
        raw = model.last_token_scores([sequences[row] for row in rows])
        scores[list(rows)] = (model.gain * raw + model.bias).numpy(force=True)
    return scores


def normalise(model: ScalarModel, samples: Sequence[Tokens], micro_batch_tokens: int) -> None:
    """Sets gain and bias so that the samples' scores have mean 0 and deviation 1.

    Ziegler et al. 2019, section 2.1: gain = 1 / deviation and bias = - gain * mean of the raw scores.
    """
    model.gain, model.bias = 1.0, 0.0
    raw = score_sequences(model, samples, micro_batch_tokens).astype(np.float64)
    model.gain = float(1.0 / max(raw.std(), 1e-6))
    model.bias = float(-model.gain * raw.mean())


def held_out_scores(model: ScalarModel, items: Rankings, micro_batch_tokens: int) -> list[Floats]:
    """Returns the normalised scores of rankings, a row float32 [K] for each."""
    scores = score_sequences(model, [row for item in items for row in item.sequences], micro_batch_tokens)
    return np.split(scores, np.cumsum([len(item.sequences) for item in items])[:-1])


def _pair_metrics(groups: Sequence[tuple[Floats, Sequence[int]]]) -> Metrics:
    """Returns TRL's ``accuracy`` and ``margin`` over the untied pairs of a batch; nothing if all are tied."""
    pairs = [(scores, *untied_pairs(ranks)) for scores, ranks in groups]
    margins = np.concatenate([scores[better] - scores[worse] for scores, better, worse in pairs]).astype(
        np.float64
    )
    if not len(margins):
        return {}
    return {"accuracy": float(np.mean(margins > 0)), "margin": float(np.mean(margins))}
