"""What a reward model learns from, is measured on and is normalised with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.errors import ConfigError, InvalidDataError, InvalidRequestError
from pilothouse.models.load import CausalLM, load_causal_lm
from pilothouse.models.reward_files import file_digest
from pilothouse.tensors import Tokens
from pilothouse.trainer.data.encode import Encoded, EncodedRanking, encode_prompts, encode_rankings
from pilothouse.trainer.data.records import read_prompts, read_rankings
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_data import within_limits
from pilothouse.trainer.pairs import prompt_of
from pilothouse.trainer.rankings import untied_pairs
from pilothouse.trainer.sampling import sample_sequences
from pilothouse.trainer.token_ids import check_tokenizer

Rankings = Sequence[EncodedRanking]


@dataclass(frozen=True, slots=True)
class RewardData:
    """Read once, also for an ensemble."""

    items: Rankings
    """To learn from."""
    held_out: Rankings
    """To measure on; may be empty."""
    samples: Sequence[Tokens]
    """To normalise scores with."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """Rankings to learn from that were kept, left out and truncated, by the names of metrics."""


def read_reward_data(config: RewardModelConfig, start: CausalLM) -> RewardData:
    """Reads rankings and samples the reference policy.

    Args:
        config: The run.
        start: The model that the reward model starts from.

    Raises:
        ConfigError: The policy of ``normalise_with`` has another tokenizer, or there is no chat template.
        InvalidDataError: The data cannot be used.
    """
    found = _read(config.data, config, start)
    if config.ties == "drop":
        _require_untied(found.items, config.data, 'all are ties, which reward_model.ties = "drop" leaves out')
    samples = _normalisation_samples(config, start, found.items)
    held_out = _read(config.evaluation_data, config, start).items if config.evaluation_data else []
    if held_out:
        _require_untied(held_out, config.evaluation_data, "all are ties, which tell nothing of accuracy")
    return RewardData(found.items, held_out, samples, found.counts("rankings"))


def bootstrap(items: Rankings, seed: int) -> list[EncodedRanking]:
    """Returns the rankings of as many prompts as there are, drawn with replacement and in order."""
    prompts: dict[bytes, list[EncodedRanking]] = {}
    for item in items:
        prompts.setdefault(prompt_of(item), []).append(item)
    groups = list(prompts.values())
    if len(groups) == 1:  # nothing to draw from but the rankings themselves
        groups = [[item] for item in items]
    drawn = np.random.Generator(np.random.Philox(seed)).integers(len(groups), size=len(groups))
    return [item for index in sorted(drawn.tolist()) for item in groups[index]]


def describe(items: Rankings, files: Sequence[Path]) -> dict[str, Any]:
    """Returns how much of what there is, and digests of the files, as JSON for a card."""
    return {
        "rankings": len(items),
        "pairs": sum(len(untied_pairs(item.ranks)[0]) for item in items),
        "prompts": len({prompt_of(item) for item in items}),
        "raters": len({item.rater for item in items if item.rater}),
        "weight": sum(item.weight for item in items),
        "files": [{"name": file.name, "blake3": file_digest(file)} for file in files],
    }


def _read(files: Sequence[Path], config: RewardModelConfig, model: CausalLM) -> Encoded[EncodedRanking]:
    found, limit = read_rankings(list(files), dialogues=config.dialogues), config.max_sequence_tokens

    def encode() -> Encoded[EncodedRanking]:
        try:
            return encode_rankings(found, model.codec, max_tokens=limit, overlong=config.overlong)
        except InvalidDataError:
            raise
        except InvalidRequestError as error:
            raise ConfigError(
                f"{config.model} cannot read the conversations of {', '.join(map(str, files))}: {error}; "
                'dialogues in one text can also be read as text: set reward_model.dialogues = "text"'
            ) from None

    return within_limits(encode, config, model, files, what="rankings", section="reward_model")


def _require_untied(items: Rankings, files: Sequence[Path], why: str) -> None:
    if all(len(set(item.ranks)) == 1 for item in items):
        raise InvalidDataError(
            f"{', '.join(map(str, files))}: no ranking has two answers of different rank: {why}; give a file "
            "with some that are not tied"
        )


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
    room = min(config.max_sequence_tokens, policy.spec.max_positions) - config.max_new_tokens
    prompts = encode_prompts(
        read_prompts(list(config.normalise_with)), policy.codec, max_tokens=max(1, room)
    ).told("prompts to normalise with")
    rows = [prompts[index % len(prompts)].tokens for index in range(config.normalise_samples)]
    return sample_sequences(
        policy, rows, max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed
    )
