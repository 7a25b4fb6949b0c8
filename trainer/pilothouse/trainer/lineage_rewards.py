"""A reward model of a lineage, from its manifest, its card and the settings of its run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilothouse.errors import PilothouseError
from pilothouse.models.reward_files import CARD, read_manifest
from pilothouse.trainer.fit_run import MODEL
from pilothouse.trainer.lineage_data import data_files
from pilothouse.trainer.lineage_nodes import DataFile, Origin, Part, RewardModel
from pilothouse.trainer.lineage_places import Place

_LABELS = ("rankings", "pairs", "prompts", "raters", "weight")
_PARTS: tuple[tuple[Part, str, str], ...] = (
    ("training", "training", "data"),
    ("held-out", "held_out", "evaluation_data"),
)
"""Of the data: its name here, on the card and in the settings."""


def read_reward_model(model: Path, place: Place | None, policy: Origin) -> RewardModel:
    """Returns what is known of a reward model.

    Args:
        model: Its folder, which may have gone.
        place: Its run; None where the folder stands alone.
        policy: What it started from.
    """
    version, problems = _version(model)
    card = _card(model)
    if version and not card:
        problems.append(f"{CARD} is missing or cannot be read, so nothing tells how many labels are in it")
    elif version and card.get("version") != version:
        problems.append(f"{CARD} is of another version")
    training = _part(card, "training")
    config = place.config if place else _part(card, "", "training")
    held_out = card.get("held_out") or {}
    return RewardModel(
        folder=str(model),
        version=version,
        member=(card.get("member") or {}).get("number"),
        seed=config.get("seed"),
        loss=str(config.get("loss", "")),
        labels={name: training.get(name) for name in _LABELS} if training else None,
        accuracy=held_out.get("overall"),
        data=tuple(_data(place, card)),
        policy=policy,
        problems=tuple(problems),
    )


def members(folder: Path) -> list[Path]:
    """Returns the models of an ensemble's members, in their order."""
    found = {int(path.name.rpartition("-")[2]): path for path in folder.glob("member-*") if _is_member(path)}
    return [found[number] / MODEL for number in sorted(found)]


def _is_member(path: Path) -> bool:
    return path.is_dir() and re.fullmatch(r"member-\d+", path.name) is not None


def _version(model: Path) -> tuple[str, list[str]]:
    """Returns the version by the manifest, and what is wrong with the files."""
    try:
        return read_manifest(model).version, []
    except PilothouseError as error:
        return "", [str(error)]


def _card(model: Path) -> Mapping[str, Any]:
    try:
        body = json.loads((model / CARD).read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _data(place: Place | None, card: Mapping[str, Any]) -> list[DataFile]:
    found = []
    for part, on_card, setting in _PARTS:
        recorded = _part(card, on_card).get("files", ())
        if place is None:
            found += [_named(entry, part) for entry in recorded]
        else:
            found += data_files(place.paths(place.config[setting]), part, recorded)
    return found


def _named(entry: Mapping[str, Any], part: Part) -> DataFile:
    """Returns a file of which only the card knows."""
    return DataFile(
        path=str(entry["name"]),
        part=part,
        state="missing",
        digest=None,
        trained_digest=str(entry["blake3"]),
        snapshot=None,
        policies=(),
        problems=("only its name is known: the model's run is not here",),
    )


def _part(card: Mapping[str, Any], name: str, section: str = "data") -> Mapping[str, Any]:
    """Returns a section of a card, or a part of it; empty where there is none."""
    body = card.get(section) or {}
    return (body.get(name) or {}) if name else body
