"""What decides the output of each state of a turn: with that changed, the state is done again.

Nothing else is: a limit of the guards that is raised after an alarm does not undo a turn.
"""

from collections.abc import Mapping
from typing import Any

from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.run_config import PpoRunConfig

STATES = ("collect", "wait", "snapshot", "candidate", "compare", "decide", "gold", "improve", "measure")
"""States of a turn, in their order."""

_OF_THE_LOOP = {
    "collect": {
        "prompts",
        "queue",
        "tasks_per_turn",
        "oversample",
        "temperatures",
        "answers_per_temperature",
        "answers_per_task",
        "seed",
    },
    "snapshot": {"held_out_percent"},
    "candidate": {"model"},
    "compare": {"combination", "export_onnx"},
    "decide": {"promotion_margin"},
    "gold": {"gold_min_rankings"},
    "measure": {"model", "held_out_prompts", "seed"},
}
"""Settings by state. ``wait`` has none, for what has come in has come in; what a PPO run may change on its
way is that run's own affair (`pilothouse.trainer.ppo_run`)."""

_ELSEWHERE = {
    "model",
    "data",
    "evaluation_data",
    "output",
    "resume",
    "accept_changes",
    "evaluate_every_steps",
    "checkpoint_every_steps",
    "tensorboard",
    "server",
    "threads",
}
"""Settings of a reward model that are the loop's own, or do not decide what it learns."""


def settings_of(
    state: str, loop: LoopConfig, reward_model: RewardModelConfig, ppo: PpoRunConfig
) -> Mapping[str, Any]:
    """Returns the settings on which a state's output depends, as JSON."""
    found = loop.model_dump(mode="json", include=_OF_THE_LOOP.get(state, set()))
    if state in ("collect", "measure"):
        found["sampling"] = [ppo.rollout.max_prompt_tokens, ppo.rollout.max_new_tokens, ppo.temperature]
    if state in ("candidate", "gold"):
        config = like_rollouts(reward_model, loop, ppo)
        found["reward_model"] = config.model_dump(mode="json", exclude=_ELSEWHERE)
    return found


def like_rollouts(config: RewardModelConfig, loop: LoopConfig, ppo: PpoRunConfig) -> RewardModelConfig:
    """Returns the run of a reward model, its scores normalised on the reference's answers, sampled as in PPO.

    Where ``normalise_with`` names prompts, it is left as it is.
    """
    if config.normalise_with:
        return config
    return config.model_copy(
        update={
            "normalise_with": loop.prompts,
            "temperature": ppo.temperature,
            "max_new_tokens": ppo.rollout.max_new_tokens,
        }
    )
