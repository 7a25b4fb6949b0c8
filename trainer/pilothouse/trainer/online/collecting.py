"""The loop's way to people: answers to rank, the wait for rankings, and the snapshot that is learned from."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.client import (
    FeedbackAnswer,
    FeedbackClient,
    FeedbackTask,
    QueueSettings,
    RewardClient,
    SamplingParams,
    Split,
)
from pilothouse.client.collect import AnsweringPolicy, Answers, in_parts, sample_tasks
from pilothouse.errors import ConfigError, InvalidDataError
from pilothouse.tensors import Floats
from pilothouse.trainer.data.records import Prompt, read_prompts
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.selection import most_telling, priorities

TRAIN, HELD_OUT = "train", "held-out"
"""Folders of a snapshot's two parts."""

Show = Callable[[float, float, str], None]
"""Hears how much of how much is done, and of what."""

_ROWS_AT_ONCE = 256
_PARTS: tuple[tuple[str, Split], ...] = ((TRAIN, "train"), (HELD_OUT, "held-out"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All rankings at one moment, as files."""

    train: Path
    held_out: Path
    manifests: tuple[dict[str, Any], dict[str, Any]]
    """Of the two parts."""

    @classmethod
    def inside(cls, folder: Path, manifests: Sequence[dict[str, Any]]) -> "Snapshot":
        """Returns the snapshot that `take` left in a folder."""
        train, held_out = manifests
        return cls(
            folder / TRAIN / str(train["files"][0]["name"]),
            folder / HELD_OUT / str(held_out["files"][0]["name"]),
            (train, held_out),
        )


def prepare_queue(config: LoopConfig, feedback: FeedbackClient) -> None:
    """Makes the loop's queue, unless it is there."""
    if config.queue not in {queue.settings.name for queue in feedback.queues()}:
        feedback.put_queue(
            QueueSettings(name=config.queue, instructions=config.instructions, overlap=config.overlap)
        )


def prompts_of_turn(config: LoopConfig, turn: int) -> list[Prompt]:
    """Returns the prompts of a turn, counted from 1: each once before any comes again.

    Raises:
        ConfigError: No file is named.
    """
    if not config.prompts:
        raise ConfigError("loop.prompts names no file; give a JSONL or Parquet file with a prompt column")
    found = read_prompts(config.prompts)
    order = np.random.Generator(np.random.Philox(config.seed)).permutation(len(found))
    count = min(config.tasks_per_turn * config.oversample, len(found))
    start = (turn - 1) * count
    return [found[int(order[(start + place) % len(found)])] for place in range(count)]


def collect(
    config: LoopConfig,
    turn: int,
    name: str,
    policy: Answers,
    reward: RewardClient,
    feedback: FeedbackClient,
    show: Show,
    *,
    max_new_tokens: int,
) -> dict[str, Any]:
    """Lets the policy answer the turn's prompts and queues the answers.

    Args:
        config: The loop.
        turn: Counted from 1.
        name: What is stored as the answers' model.
        policy: Who answers.
        reward: Whose members' disagreement decides what people get, with ``oversample`` and
            ``answers_per_task``.
        feedback: Where to.
        show: Hears how far it is.
        max_new_tokens: Longest answer.

    Returns:
        Counts for the turn's record.
    """
    prompts = prompts_of_turn(config, turn)
    policies = [
        AnsweringPolicy(
            name=name,
            client=policy,
            sampling=SamplingParams(temperature=heat, max_new_tokens=max_new_tokens),
            n=config.answers_per_temperature,
        )
        for heat in config.temperatures
    ]
    asked = [prompt.content for prompt in prompts]
    tasks: list[FeedbackTask] = []
    found = sample_tasks(asked, policies, queue=config.queue, seed=config.seed + turn, source=f"turn {turn}")
    for task in found:
        tasks.append(task)
        show(len(tasks), len(asked), "prompts answered")
    if config.oversample > 1 or config.answers_per_task:
        tasks = most_wanted(tasks, reward, config.answers_per_task)[: config.tasks_per_turn]
    added = sum(feedback.add_tasks(config.queue, part) for part in in_parts(tasks))
    return {"prompts": len(prompts), "tasks": len(tasks), "added": added}


def most_wanted(tasks: Sequence[FeedbackTask], reward: RewardClient, answers: int = 0) -> list[FeedbackTask]:
    """Returns the tasks with their priorities, those first on which the serving ensemble disagrees most.

    Args:
        tasks: Of text prompts.
        reward: Where the ensemble serves. Where none does, all priorities are 0 and the order stays.
        answers: So many of a task's answers are kept, those that tell most; 0 for all.

    Raises:
        ConfigError: A prompt is a conversation.
    """
    texts = [[_text(answer) for answer in task.answers] for task in tasks]
    prompts = [_as_text(task.prompt) for task, row in zip(tasks, texts, strict=True) for _ in row]
    members = _members(reward, prompts, [text for row in texts for text in row])
    rows = np.split(members, np.cumsum([len(row) for row in texts])[:-1], axis=1)  # [M, K] for each task
    wanted = []
    for task, row in zip(tasks, rows, strict=True):
        chosen = most_telling(row, answers or row.shape[1])
        (priority,) = priorities(row[:, None, chosen])
        kept = tuple(task.answers[place] for place in chosen)
        wanted.append(replace(task, answers=kept, priority=float(priority)))
    return sorted(wanted, key=lambda task: -task.priority)


def _members(reward: RewardClient, prompts: Sequence[str], answers: Sequence[str]) -> Floats:
    """Returns the scores of an ensemble's members, [M, B]; one row of zeros where no ensemble serves."""
    parts = []
    for start in range(0, len(prompts), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        scores = reward.score(prompts[rows], answers[rows])
        if not len(scores.disagreement):  # also of a weighted sum, whose parts measure different things
            return np.zeros((1, len(prompts)), dtype=np.float32)
        parts.append(np.stack([part.values for part in scores.components]))
    return np.concatenate(parts, axis=1)


def wait(config: LoopConfig, feedback: FeedbackClient, before: int, show: Show) -> None:
    """Returns when enough new rankings are in, or when all that people were asked for is.

    Args:
        config: The loop.
        feedback: Where from.
        before: Rankings that the turn before has learned from.
        show: Hears how far it is.

    Raises:
        ConfigError: There is nothing to wait for.
    """
    for now in feedback.watch(config.queue):
        new = now.rankings - before  # below 0 where a rater was excluded or a prompt vetoed since
        show(min(max(new, 0), config.new_rankings), config.new_rankings, "new rankings")
        if new >= config.new_rankings or (new > 0 and not now.open_tasks):
            return
        if not now.open_tasks:
            raise ConfigError(
                f"queue {config.queue} has no task to rank, and {now.rankings} rankings; the loop has "
                f"learned from {before}. Give other loop.prompts or a higher temperature: what has been "
                "asked before is not asked again. With another database, begin another loop.folder"
            )


def take(config: LoopConfig, feedback: FeedbackClient, folder: Path) -> Snapshot:
    """Exports the queue's rankings of now into ``folder``, in two parts by prompt.

    Parts that an interrupted call has left are taken anew: both are of one moment, or nearly so.

    Raises:
        InvalidDataError: One part is empty.
    """
    manifests: list[dict[str, Any]] = []
    for name, split in _PARTS:
        shutil.rmtree(folder / name, ignore_errors=True)
        manifests.append(
            feedback.export(
                folder / name, queue=config.queue, split=split, held_out_percent=config.held_out_percent
            )
        )
        if not manifests[-1]["counts"]["pairs"]:
            raise InvalidDataError(
                f"no ranking of queue {config.queue} that is not all ties is {name}: prompts are split by "
                f"loop.held_out_percent = {config.held_out_percent}. Start the loop again when more have "
                "been ranked, or change that share"
            )
    return Snapshot.inside(folder, manifests)


def _text(answer: FeedbackAnswer | str) -> str:
    return answer if isinstance(answer, str) else answer.text


def _as_text(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise ConfigError(
            "active selection scores texts; with conversations set loop.oversample = 1 and "
            "loop.answers_per_task = 0"
        )
    return prompt
