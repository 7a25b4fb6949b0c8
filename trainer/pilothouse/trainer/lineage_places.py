"""Where things of a lineage lie: the run above a folder, and what its relative paths are relative to."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilothouse.errors import CorruptCheckpointError
from pilothouse.trainer.checkpoint import Checkpoint, read_checkpoint
from pilothouse.trainer.fit_run import MODEL
from pilothouse.trainer.learner_files import POLICY, VALUE

Task = Literal["ppo", "sft", "reward-model"]

_STEP = re.compile(r"step_(\d+)")
_DEEPEST = 4  # RUN/checkpoints/step_XXXXXXXX/policy


@dataclass(frozen=True, slots=True)
class Place:
    """A run's folder, and the part of it that is meant."""

    run: Path
    task: Task
    config: Mapping[str, Any]
    """As the run was last started."""
    checkpoint: str
    """Name of the checkpoint's folder; empty where none is named."""

    def path(self, given: str) -> Path:
        """Returns a path of the run's settings.

        A relative one is relative to the folder in which the run was started, which its own place tells where
        that was given relatively as well; else to the folder of now.
        """
        own = _output(self.config, self.task)
        count = len(own.parts)
        if not own.is_absolute() and self.run.parts[-count:] == own.parts:
            return Path(*self.run.parts[:-count], given)
        return Path.cwd() / given

    def paths(self, given: list[str]) -> list[Path]:
        """Returns several."""
        return [self.path(one) for one in given]

    def read(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the checkpoint that is meant, else the newest complete one, and what is wrong with it."""
        if self.checkpoint:
            return _verified(self.run / "checkpoints" / self.checkpoint)
        problems: list[str] = []
        for folder in sorted((self.run / "checkpoints").glob("step_*"), reverse=True):
            checkpoint, wrong = _verified(folder)
            if checkpoint is not None:
                return checkpoint, problems
            problems += wrong
        return None, [*problems, "it has no complete checkpoint"]

    @property
    def step(self) -> int:
        """The step in the checkpoint's name; 0 without one."""
        found = _STEP.fullmatch(self.checkpoint)
        return int(found[1]) if found else 0


def place_of(folder: Path) -> Place | None:
    """Returns the run to which a folder belongs: as the run itself, its result or a checkpoint.

    The folder need not exist any more: checkpoints are pruned, and their run still knows of them.
    """
    for run in [folder, *folder.parents][:_DEEPEST]:
        found = _run(run)
        if found is None:
            continue
        parts = folder.relative_to(run).parts
        if not parts or parts == (MODEL,):
            return Place(run, *found, "")
        if parts[0] == "checkpoints" and len(parts) > 1 and _STEP.fullmatch(parts[1]):
            inside = parts[2:]
            return Place(run, *found, parts[1]) if inside in ((), (POLICY,), (VALUE,)) else None
        return None
    return None


def _run(folder: Path) -> tuple[Task, Mapping[str, Any]] | None:
    """Returns what kind of run a folder holds and its settings; None for anything else, a model included."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or not isinstance(config.get("model"), str):
        return None
    if "rollout" in config and isinstance(config.get("run"), dict):
        return "ppo", config
    if "output" in config and "data" in config:
        return ("reward-model" if "normalise_with" in config else "sft"), config
    return None


def _output(config: Mapping[str, Any], task: Task) -> Path:
    """Returns the run's folder as its settings name it."""
    if task == "ppo":
        return Path(config["run"]["folder"], config["run"]["name"])
    return Path(config["output"])


def _verified(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    if not folder.is_dir():
        return None, [f"its checkpoint {folder.name} is not there any more"]
    try:
        return read_checkpoint(folder), []
    except CorruptCheckpointError as error:
        return None, [str(error)]
