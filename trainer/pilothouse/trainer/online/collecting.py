"""The loop's way to people: answers to rank, the wait for rankings, and the snapshot that is learned from."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse.client import (
    FeedbackAnswer,
    FeedbackClient,
    FeedbackTask,
    PolicyClient,
    QueueSettings,
    RewardClient,
    SamplingParams,
    Split,
)
from pilothouse.client.collect import AnsweringPolicy, sample_tasks
from pilothouse.errors import ConfigError
from pilothouse.trainer.data.records import Prompt, read_prompts
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.selection import most_telling, priorities

TRAIN, HELD_OUT = "train", "held-out"
"""Folders of a snapshot's two parts."""

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
    policy: PolicyClient,
    reward: RewardClient,
    feedback: FeedbackClient,
    tell: Callable[[str], None],
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
        tell: Hears how far it is.
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
    for task in sample_tasks(asked, policies, seed=config.seed + turn, source=f"turn {turn}"):
        tasks.append(task)
        tell(f"{len(tasks)} of {len(asked)} prompts answered")
    if config.oversample > 1 or config.answers_per_task:
        tasks = most_wanted(tasks, reward, config.answers_per_task)[: config.tasks_per_turn]
    added = sum(feedback.add_tasks(config.queue, part) for part in _parts(tasks, 64))
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
    scores = reward.score(prompts, [text for row in texts for text in row])
    members = np.stack([part.values for part in scores.components])  # 1 where no ensemble serves: all worth 0
    rows = np.split(members, np.cumsum([len(row) for row in texts])[:-1], axis=1)  # [M, K] for each task
    wanted = []
    for task, row in zip(tasks, rows, strict=True):
        chosen = most_telling(row, answers or row.shape[1])
        (priority,) = priorities(row[:, None, chosen])
        kept = tuple(task.answers[place] for place in chosen)
        wanted.append(replace(task, answers=kept, priority=float(priority)))
    return sorted(wanted, key=lambda task: -task.priority)


def wait(feedback: FeedbackClient, queue: str, goal: int, tell: Callable[[str], None]) -> int:
    """Returns the number of rankings in the queue as soon as there are ``goal``."""
    for now in feedback.watch(queue):
        tell(f"{now.rankings} of {goal} rankings")
        if now.rankings >= goal:
            return now.rankings
    raise AssertionError("unreachable: a watch does not end")


def take(config: LoopConfig, feedback: FeedbackClient, folder: Path) -> Snapshot:
    """Exports the queue's rankings of now into ``folder``, in two parts by prompt.

    Parts that an interrupted call has left are taken anew: both are of one moment, or nearly so.
    """
    manifests = []
    for name, split in _PARTS:
        shutil.rmtree(folder / name, ignore_errors=True)
        manifests.append(
            feedback.export(
                folder / name, queue=config.queue, split=split, held_out_percent=config.held_out_percent
            )
        )
    return Snapshot.inside(folder, manifests)


def _parts(tasks: Iterable[FeedbackTask], size: int) -> Iterable[list[FeedbackTask]]:
    rest = iter(tasks)
    while part := list(islice(rest, size)):
        yield part


def _text(answer: FeedbackAnswer | str) -> str:
    return answer if isinstance(answer, str) else answer.text


def _as_text(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise ConfigError(
            "active selection scores texts; with conversations set loop.oversample = 1 and "
            "loop.answers_per_task = 0"
        )
    return prompt
