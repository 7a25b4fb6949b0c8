"""A reward model from people's rankings: the SFT model's body with a scalar head. K answers of one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import CausalLM, load_causal_lm
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.data.encode import EncodedRanking, encode_prompts, encode_rankings
from pilothouse.trainer.data.records import read_prompts, read_rankings
from pilothouse.trainer.durable import to_json, write_atomic
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_run import MODEL, FitRun, watched
from pilothouse.trainer.fitting import Fit, Metrics, Task, data_digest, require_data
from pilothouse.trainer.folders import replace_folder
from pilothouse.trainer.ppo.minibatches import micro_batches
from pilothouse.trainer.ppo.optimiser import as_parameters
from pilothouse.trainer.ppo.trainable import freeze_lower_layers
from pilothouse.trainer.progress import Progress, silent
from pilothouse.trainer.rankings import (
    PairAccuracy,
    accuracy_to_json,
    best_of_loss,
    pair_accuracy,
    pairs_loss,
)
from pilothouse.trainer.sampling import sample_sequences
from pilothouse.trainer.token_ids import check_tokenizer

Rankings = Sequence[EncodedRanking]


@dataclass(frozen=True, slots=True)
class RewardModelResult:
    """What came out of training."""

    accuracy: PairAccuracy | None
    """On held-out rankings; None without them."""
    version: str
    """Version of the reward model, as services report it."""
    metrics: Metrics
    """Of the last step."""


def train_reward_model(config: RewardModelConfig, progress: Progress = silent) -> RewardModelResult:
    """Trains, normalises and writes the reward model to ``config.output / "model"``.

    The process keeps the memory that it frees from here on, see `pilothouse.models.memory.keep_freed_memory`.

    Raises:
        ConfigError: No data, or the policy of ``normalise_with`` has another tokenizer.
        InvalidDataError: The data cannot be used.
        RunInUseError: Another process writes to ``config.output``.
        KeyboardInterrupt: Ended by a signal or a caller, after a checkpoint.
    """
    require_data(config, "reward_model")
    with watched(config, "reward-model") as run:
        return _train(config, run, progress)


def _train(config: RewardModelConfig, run: FitRun, progress: Progress) -> RewardModelResult:
    start = load_causal_lm(config.model, device=config.device)
    model = ScalarModel.from_causal_lm(start.model, config.seed, pad_id=start.codec.pad_id)
    freeze_lower_layers(model.model, len(model.spec.layers), config.trainable_layers)
    items = _read(config.data, config, start)
    samples = _normalisation_samples(config, start, items)
    if config.normalise_before:
        normalise(model, samples, config.micro_batch_tokens)
    held_out = _read(config.evaluation_data, config, start) if config.evaluation_data else []
    found: list[PairAccuracy] = []  # before the last normalisation: confidence is that of the trained loss
    metrics = Fit(config, _task(config, model, items, held_out, samples, found), run).run(progress)
    normalise(model, samples, config.micro_batch_tokens)
    with replace_folder(config.output / MODEL) as folder:
        manifest = model.save(folder, start.codec, max_sequence_tokens=config.max_sequence_tokens)
    accuracy = found[-1] if found else None
    if accuracy is not None:
        write_atomic(config.output / "accuracy.json", to_json(accuracy_to_json(accuracy)))
    return RewardModelResult(accuracy, manifest.version, metrics)


def _task(
    config: RewardModelConfig,
    model: ScalarModel,
    items: Rankings,
    held_out: Rankings,
    samples: Sequence[Tokens],
    found: list[PairAccuracy],
) -> Task:
    """Returns the task; every evaluation is also appended to ``found``, the last after the last step."""

    def evaluate() -> Metrics:
        accuracy = held_out_accuracy(model, held_out, config.micro_batch_tokens)
        found.append(accuracy)
        return {"eval_accuracy": accuracy.overall.mean, "eval_margin": accuracy.margin}

    rankings = [(*item.sequences, np.array(item.ranks)) for item in items]
    return Task(
        name="reward_model",
        parameters=as_parameters(dict(model.model.named_parameters())),
        lengths=[sum(len(row) for row in item.sequences) for item in items],
        digest=data_digest([*rankings, samples] if config.normalise_with else rankings),
        backward=lambda rows: backward(config, model, [items[row] for row in rows]),
        evaluate=evaluate if held_out else None,
    )


def backward(config: RewardModelConfig, model: ScalarModel, batch: Rankings) -> Metrics:
    """Adds the gradients of the mean loss over the batch's rankings.

    All answers of a ranking go through the model in one pass, each once, whatever the number of their pairs.
    The loss reads ``gain * raw``: the bias cancels in every comparison.
    """
    total, margins, values = 0.0, [], []
    lengths = [sum(len(row) for row in item.sequences) for item in batch]
    for rows in micro_batches(range(len(batch)), lengths, config.micro_batch_tokens):
        chosen = [batch[row] for row in rows]
        scores = model.gain * ordered_scores(model, [row for item in chosen for row in item.sequences])
        groups = scores.split([len(item.sequences) for item in chosen])
        loss = sum(
            (ranking_loss(config, group, item.ranks) for group, item in zip(groups, chosen, strict=True)),
            start=scores.new_zeros(()),
        ) / len(batch)
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
    loss = (
        pairs_loss(scores, ranks, ties=config.ties) if config.loss == "pairs" else best_of_loss(scores, ranks)
    )
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


def held_out_accuracy(model: ScalarModel, items: Rankings, micro_batch_tokens: int) -> PairAccuracy:
    """Compares the model's scores with rankings it has not seen."""
    scores = score_sequences(model, [row for item in items for row in item.sequences], micro_batch_tokens)
    ends = np.cumsum([len(item.sequences) for item in items])[:-1]
    return pair_accuracy(np.split(scores, ends), [item.ranks for item in items])


def _read(files: Sequence[Path], config: RewardModelConfig, model: CausalLM) -> list[EncodedRanking]:
    found = read_rankings(list(files))
    limit = config.max_sequence_tokens
    encoded = encode_rankings(found, model.codec, max_tokens=limit, overlong=config.overlong)
    return encoded.told("rankings")


def _normalisation_samples(config: RewardModelConfig, start: CausalLM, items: Rankings) -> list[Tokens]:
    """Returns samples of the reference policy; without prompts for it, answers that people ranked."""
    if not config.normalise_with:
        answers = [row for item in items for row in item.sequences]
        order = np.random.Generator(np.random.Philox(config.seed)).permutation(len(answers))
        return [answers[int(row)] for row in order[: config.normalise_samples]]
    policy = load_causal_lm(config.policy, device=config.device) if config.policy else start
    check_tokenizer(
        policy.codec,
        start.codec.digest,
        reader=f"the reward model, which starts from {config.model},",
        mend="set reward_model.policy to a model with the same tokenizer, or leave it empty",
    )
    room = config.max_sequence_tokens - config.max_new_tokens
    prompts = encode_prompts(
        read_prompts(list(config.normalise_with)), policy.codec, max_tokens=max(1, room)
    ).items
    rows = [prompts[index % len(prompts)].tokens for index in range(config.normalise_samples)]
    return sample_sequences(
        policy, rows, max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed
    )


def _pair_metrics(groups: Sequence[tuple[Floats, Sequence[int]]]) -> Metrics:
    """Returns TRL's ``accuracy`` and ``margin`` over the untied pairs of a batch; nothing if all are tied."""
    margins = [
        float(scores[better] - scores[worse])
        for scores, ranks in groups
        for better in range(len(ranks))
        for worse in range(len(ranks))
        if ranks[better] < ranks[worse]
    ]
    if not margins:
        return {}
    return {"accuracy": float(np.mean(np.array(margins) > 0)), "margin": float(np.mean(margins))}
