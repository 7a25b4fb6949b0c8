"""Supervised fine-tuning: a causal LM learns people's demonstrations. R target tokens of a batch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pilothouse.errors import ConfigError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import CausalLM, load_causal_lm, save_causal_lm
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.text import TextCodec
from pilothouse.trainer.data.encode import Encoded, EncodedDemonstration, encode_demonstrations
from pilothouse.trainer.data.records import read_demonstrations
from pilothouse.trainer.fit_config import SftConfig
from pilothouse.trainer.fit_data import within_limits
from pilothouse.trainer.fit_run import MODEL, FitRun, watched
from pilothouse.trainer.fitting import Fit, Metrics, Task, data_digest, require_data
from pilothouse.trainer.folders import replace_folder
from pilothouse.trainer.ppo.minibatches import micro_batches
from pilothouse.trainer.ppo.optimiser import as_parameters
from pilothouse.trainer.ppo.trainable import freeze_lower_layers
from pilothouse.trainer.progress import Progress, silent
from pilothouse.trainer.reward_model import score_sequences
from pilothouse.trainer.sampling import sample_sequences
from pilothouse.trainer.token_ids import check_tokenizer

Demonstrations = Sequence[EncodedDemonstration]


def train_sft(config: SftConfig, progress: Progress = silent) -> Metrics:
    """Runs SFT and writes the model to ``config.output / "model"``, where transformers loads it.

    The process keeps the memory that it frees from here on, see `pilothouse.models.memory.keep_freed_memory`.

    Returns:
        The metrics of the last step, and how many demonstrations were kept, left out and truncated.

    Raises:
        ConfigError: No data, or ``choose_by`` lacks what it needs, or its reward model has another tokenizer.
        InvalidDataError: The data cannot be used.
        RunInUseError: Another process writes to ``config.output``.
        KeyboardInterrupt: Ended by a signal or a caller, after a checkpoint.
    """
    require_data(config, "sft")
    if config.choose_by != "last" and not config.evaluation_data:
        raise ConfigError(f"sft.choose_by '{config.choose_by}' needs sft.evaluation_data")
    with watched(config, "sft") as run:
        return _train(config, run, progress)


def _train(config: SftConfig, run: FitRun, progress: Progress) -> Metrics:
    model = load_causal_lm(config.model, device=config.device)
    freeze_lower_layers(model.model, len(model.spec.layers), config.trainable_layers)
    items = _read(config.data, config, model)
    metrics = Fit(config, _task(config, model, items.items), run).run(progress)
    with replace_folder(config.output / MODEL) as folder:
        save_causal_lm(model.model, model.codec, folder)
    return metrics | items.counts("demonstrations")


def _task(config: SftConfig, model: CausalLM, items: Demonstrations) -> Task:
    held_out = _read(config.evaluation_data, config, model).items if config.evaluation_data else []
    reward = _reward_model(config, model) if config.choose_by == "reward" else None

    def evaluate() -> Metrics:
        metrics = held_out_metrics(model, held_out, config.micro_batch_tokens)
        if reward is not None:
            metrics["eval_reward"] = _mean_reward(config, model, reward, held_out)
        return metrics

    deciding = items if config.choose_by == "last" else [*items, *held_out]
    choose = {
        "last": None,
        "loss": lambda found: -found["eval_loss"],
        "reward": lambda found: found["eval_reward"],
    }
    return Task(
        name="sft",
        parameters=as_parameters(dict(model.model.named_parameters())),
        lengths=[len(item.tokens) for item in items],
        digest=data_digest([(item.tokens, np.array([item.prompt_length])) for item in deciding]),
        backward=lambda rows: backward(model, [items[row] for row in rows], config.micro_batch_tokens),
        evaluate=evaluate if held_out else None,
        choose=choose[config.choose_by],
    )


def _read(files: Sequence[Path], config: SftConfig, model: CausalLM) -> Encoded[EncodedDemonstration]:
    found, limit = read_demonstrations(list(files)), config.max_sequence_tokens

    def encode() -> Encoded[EncodedDemonstration]:
        return encode_demonstrations(found, model.codec, max_tokens=limit, overlong=config.overlong)

    return within_limits(encode, config, model, files, what="demonstrations", section="sft")


def backward(model: CausalLM, batch: Demonstrations, micro_batch_tokens: int) -> Metrics:
    """Adds the gradients of the mean loss over all target tokens of the batch.

    The targets are the response tokens, EOS among them: without it the policy would never learn to stop. The
    prompt is given, not learned, and there is no padding. Each micro-batch's sum is divided by the count
    of the whole batch.

    Returns:
        ``loss`` and TRL's ``entropy``: nats, means over the target tokens.
    """
    lengths = [len(item.tokens) for item in batch]
    targets = sum(length - item.prompt_length for length, item in zip(lengths, batch, strict=True))
    total = entropy = 0.0
    for rows in micro_batches(range(len(lengths)), lengths, micro_batch_tokens):
        logprobs, entropies = _logprobs(model, [batch[row] for row in rows])
        loss = -logprobs.sum() / targets
        loss.backward()
        total += loss.item()
        entropy += entropies.sum().item() / targets
    return {"loss": total, "entropy": entropy}


@torch.no_grad()
def held_out_metrics(model: CausalLM, items: Demonstrations, micro_batch_tokens: int) -> Metrics:
    """Returns loss and entropy, means over all target tokens, in nats."""
    lengths = [len(item.tokens) for item in items]
    targets = sum(len(item.tokens) - item.prompt_length for item in items)
    loss = entropy = 0.0
    for rows in micro_batches(range(len(lengths)), lengths, micro_batch_tokens):
        logprobs, entropies = _logprobs(model, [items[row] for row in rows])
        loss -= logprobs.sum().item()
        entropy += entropies.sum().item()
    return {"eval_loss": loss / targets, "eval_entropy": entropy / targets}


def _logprobs(model: CausalLM, items: Demonstrations) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the log-prob of every target token and the entropy of its distribution, [R] each."""
    prompts = [item.prompt_length for item in items]
    tokens = [item.tokens for item in items]
    logprobs, entropies = response_logprobs(model.weights, tokens, prompts, return_entropy=True)
    return logprobs, entropies.detach()  # looked at only


def _reward_model(config: SftConfig, model: CausalLM) -> ScalarModel:
    check_tokenizer(
        model.codec,
        TextCodec.load(config.reward_model).digest,
        reader=f"the reward model {config.reward_model}",
        mend=f"set sft.reward_model to one trained from a model with the tokenizer of {config.model}",
    )
    return ScalarModel.load(config.reward_model)


def _mean_reward(config: SftConfig, model: CausalLM, reward: ScalarModel, items: Demonstrations) -> float:
    prompts = [item.tokens[: item.prompt_length] for item in items]
    sequences = sample_sequences(model, prompts, max_new_tokens=config.max_new_tokens, seed=config.seed)
    return float(np.mean(score_sequences(reward, sequences, config.micro_batch_tokens)))
