"""What is behind a checkpoint: reward models, people's judgements, earlier policies, back to the base model.

Nothing is kept for this beyond what runs leave anyway: settings, checkpoints, ledgers, cards of reward models
and manifests of exports. What can be proven by a digest is; what has gone is named as missing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilothouse.errors import InvalidDataError, NotFoundError, PilothouseError
from pilothouse.models.load import load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.reward_files import MANIFEST
from pilothouse.models.text import TINY
from pilothouse.trainer.ensemble import ENSEMBLE
from pilothouse.trainer.fit_run import MODEL
from pilothouse.trainer.learner_files import POLICY
from pilothouse.trainer.lineage_data import data_files
from pilothouse.trainer.lineage_ledger import experience
from pilothouse.trainer.lineage_nodes import (
    BaseModel,
    DataFile,
    Ensemble,
    Missing,
    Origin,
    Ppo,
    Reference,
    Scoring,
    Seen,
    Sft,
    Untrained,
)
from pilothouse.trainer.lineage_places import Place, place_of
from pilothouse.trainer.lineage_rewards import members, read_reward_model
from pilothouse.trainer.lineage_scorers import Found, find_scorer

_DEEPEST = 64
"""Generations that are followed."""


def trace(folder: Path) -> Origin:
    """Returns the lineage of what lies in a folder.

    Args:
        folder: A PPO checkpoint or its ``policy``, a run of any kind (PPO: its newest complete checkpoint),
            the ``model`` of a run, a reward model, or an ensemble.

    Raises:
        NotFoundError: There is no such folder.
        InvalidDataError: It is nothing of that.
    """
    give = "give the folder of a run, of one of its checkpoints, or of a model that a run has made"
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}; {give}")
    folder = folder.resolve()
    if place_of(folder) is None and not any((folder / name).is_file() for name in (MANIFEST, ENSEMBLE)):
        raise InvalidDataError(f"{folder} is no run and was not made by one; {give}")
    return _Walk().origin(folder)


class _Walk:
    """One way back. Everything is described once, where it is met first."""

    def __init__(self) -> None:
        self._met: set[tuple[Path, str]] = set()
        self._policies: list[tuple[bool, Path]] = []  # whether PPO made it, its folder
        self._digests: dict[Path, str | None] = {}

    def origin(self, folder: Path, depth: int = 0) -> Origin:
        if depth > _DEEPEST:
            return Missing(folder=str(folder), why=f"not followed beyond {_DEEPEST} generations; ask for it")
        place = place_of(folder)
        key = (place.run, place.checkpoint) if place else (folder, "")
        kind = _kind(folder, place)
        if kind != "base-model" and key in self._met:
            return Seen(folder=str(folder), of=kind)
        self._met.add(key)
        if kind == "ensemble":
            return self._ensemble(folder, depth)
        if kind == "reward-model":
            return self._reward_model(folder, place, depth)
        if place is None:
            return self._base_model(folder)
        return self._ppo(place, depth) if place.task == "ppo" else self._sft(place, depth)

    def _ppo(self, place: Place, depth: int) -> Ppo:
        checkpoint, problems = place.read()
        state: Mapping[str, Any] = checkpoint.state if checkpoint else {}
        settings = dict(place.config) | dict(state.get("identity", {}))
        step = checkpoint.step if checkpoint else place.step
        behind, versions, wrong = experience(place.run / "ledger.jsonl", step)
        learner = _read_json(checkpoint.folder / "learner.json") if checkpoint else {}
        own = str(learner.get("reward_version", ""))
        versions = (*versions, own) if own and own not in versions else versions
        value = place.path(settings["value_model"]) if settings["value_model"] else None
        rewards = tuple(self._scoring(version, place, value, depth) for version in versions)
        policy = self._start(place, settings["model"], depth)
        name = checkpoint.folder.name if checkpoint else place.checkpoint
        if checkpoint:
            self._policies.append((True, checkpoint.folder / POLICY))
        return Ppo(
            folder=str(place.run),
            checkpoint=name,
            step=step,
            epoch=int(state["epoch"]) if state else None,
            version=int(state["version"]) if state else None,
            seed=int(settings["seed"]),
            experience=behind,
            rewards=rewards,
            reference=self._reference(str(learner.get("reference_digest", ""))),
            data=tuple(_ppo_data(place)),
            policy=policy,
            value_model=None if value is None else self.origin(value, depth + 1),
            problems=(*problems, *wrong),
        )

    def _sft(self, place: Place, depth: int) -> Sft:
        checkpoint, problems = place.read()
        config = place.config
        data = data_files(place.paths(config["data"]), "training", ())
        data += data_files(place.paths(config["evaluation_data"]), "held-out", ())
        policy = self._start(place, config["model"], depth)
        if (place.run / MODEL).is_dir():
            self._policies.append((False, place.run / MODEL))
        else:
            problems.append(f"it has not come to its end: there is no {MODEL}")
        return Sft(
            folder=str(place.run),
            steps=checkpoint.step if checkpoint else None,
            seed=int(config["seed"]),
            data=tuple(data),
            policy=policy,
            problems=tuple(problems),
        )

    def _reward_model(self, folder: Path, place: Place | None, depth: int) -> Origin:
        model = place.run / MODEL if place else folder
        if place:
            return read_reward_model(model, place, self._start(place, place.config["model"], depth))
        why = "the run that made this reward model is not here: its folder was copied or moved"
        return read_reward_model(model, None, Missing(folder="", why=why))

    def _ensemble(self, folder: Path, depth: int) -> Ensemble:
        found = members(folder)
        problems = () if found else ("it has no members any more",)
        return Ensemble(
            folder=str(folder),
            version="",
            combination="",
            std_factor=0.0,
            members=tuple(self.origin(member, depth + 1) for member in found),
            problems=problems,
        )

    def _base_model(self, folder: Path) -> BaseModel | Missing:
        if folder != Path(TINY) and not folder.is_dir():
            return Missing(folder=str(folder), why=f"there is no folder {folder}: it was moved or deleted")
        self._policies.append((False, folder))
        digest = self._digest(folder)
        problems = () if digest else ("its weights cannot be read as a policy",)
        return BaseModel(name=folder.name, folder=str(folder), digest=digest, problems=problems)

    def _start(self, place: Place, model: str, depth: int) -> Origin:
        """Returns what a run started from."""
        return self._base_model(Path(TINY)) if model == TINY else self.origin(place.path(model), depth + 1)

    def _scoring(self, version: str, place: Place, value: Path | None, depth: int) -> Scoring:
        found = find_scorer(version, _near(place, value), _std_factors(value))
        if found is None:
            if version.partition(":")[0] in ("rules", "python"):
                return Scoring(version=version, how="", model=Untrained(version=version))
            why = f"scored by version {version}; its files are not known here"
            return Scoring(version=version, how="", model=Missing(folder="", why=why))
        return Scoring(version=version, how=found.how, model=self._scorer(version, found, depth))

    def _scorer(self, version: str, found: Found, depth: int) -> Origin:
        if not found.combination:
            return self.origin(found.folders[0], depth + 1)
        return Ensemble(
            folder=str(found.folders[0].parent.parent),
            version=version,
            combination=found.combination,
            std_factor=found.std_factor,
            members=tuple(self.origin(folder, depth + 1) for folder in found.folders),
        )

    def _reference(self, digest: str) -> Reference:
        """Returns which of the policies met so far the reference is; usually one that PPO has not made."""
        for _, folder in sorted(self._policies, key=lambda item: item[0]):
            if digest and self._digest(folder) == digest:
                return Reference(digest=digest, folder=str(folder))
        return Reference(digest=digest, folder=None)

    def _digest(self, folder: Path) -> str | None:
        """Returns the digest of a policy's weights; None where they cannot be read."""
        if folder not in self._digests:
            try:
                loaded = load_causal_lm(folder)
                self._digests[folder] = state_digest(parameters_by_name(loaded.model))
            except PilothouseError:
                self._digests[folder] = None
        return self._digests[folder]


def _kind(folder: Path, place: Place | None) -> str:
    if place is not None:
        return place.task
    if (folder / ENSEMBLE).is_file():
        return "ensemble"
    return "reward-model" if (folder / MANIFEST).is_file() else "base-model"


def _ppo_data(place: Place) -> list[DataFile]:
    config = place.config
    prompts = data_files(place.paths(config["rollout"]["prompts"]), "prompts", ())
    if not config["pretraining_coefficient"]:
        return prompts
    return prompts + data_files(place.paths(config["pretraining"]["texts"]), "pretraining", ())


def _near(place: Place, value: Path | None) -> list[Path]:
    """Returns where the reward model may lie: with the value model's start, beside it, beside the run."""
    if value is None:
        return [place.run.parent]
    run = value.parent.parent if value.parent.name.startswith("member-") else value.parent
    return [run, run.parent, place.run.parent]


def _std_factors(value: Path | None) -> tuple[float, ...]:
    place = None if value is None else place_of(value)
    own = place.config.get("std_factor", 1.0) if place else 1.0
    return tuple(dict.fromkeys((1.0, float(own))))


def _read_json(file: Path) -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(file.read_bytes())  # of a checkpoint that was verified
    return body
