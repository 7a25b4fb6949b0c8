"""Which reward model near a run has a version that the run's samples carry.

A version is a digest, so a model folder proves itself. An ensemble's is made of its members'. An ONNX model
has a version of its own; it is the export of the model with the same normaliser, tokenizer and longest
sequence: the normaliser's two numbers come out of training, and no two trainings have both in common.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.models.reward_files import MANIFEST, ensemble_version

COMBINATIONS = ("mean", "min", "mean_minus_std")
"""How the reward service combines an ensemble's members."""

_MEMBER = re.compile(r"member-(\d+)")
_GRAPH = "model.onnx"
_MOST_FOLDERS = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """A reward model whose version is the one that was looked for."""

    folders: tuple[Path, ...]
    """The trained model, or the members of an ensemble."""
    how: str
    """How it was recognised."""
    combination: str = ""
    """Of an ensemble."""
    std_factor: float = 0.0


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    manifest: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def is_graph(self) -> bool:
        return _GRAPH in self.manifest["files"]

    @property
    def likeness(self) -> tuple[object, ...] | None:
        """Returns what an export has in common with its source; None where that tells nothing."""
        body = self.manifest
        files = sorted((name, digest) for name, digest in body["files"].items() if "token" in name)
        if (body["gain"], body["bias"]) == (1.0, 0.0):
            return None
        return body["gain"], body["bias"], body["max_sequence_tokens"], tuple(files)


def find_scorer(version: str, near: Sequence[Path], std_factors: Iterable[float]) -> Found | None:
    """Returns the reward model of a version, or None.

    Args:
        version: As the samples carry it.
        near: Folders in and below which reward models may lie, the likeliest first.
        std_factors: Factors that ``mean_minus_std`` may have been given.
    """
    folders = _folders(near)
    for folder in folders:
        if folder.version == version:
            return _single(folder, folders)
    for members in _ensembles(folders):
        for combination in COMBINATIONS:
            for factor in std_factors if combination == "mean_minus_std" else (0.0,):
                if ensemble_version(combination, factor, [one.version for one in members]) == version:
                    return _several(members, folders, combination, factor)
    return None


def _single(folder: _Folder, folders: Sequence[_Folder]) -> Found:
    source = _source(folder, folders)
    if source is folder:
        return Found((folder.path,), "its folder has this version")
    return Found((source.path,), f"{folder.path} has this version and is its export")


def _several(
    members: Sequence[_Folder], folders: Sequence[_Folder], combination: str, factor: float
) -> Found:
    sources = tuple(_source(one, folders).path for one in members)
    how = f"{combination} of {len(members)} models has this version"
    return Found(sources, how, combination, factor)


def _source(folder: _Folder, folders: Sequence[_Folder]) -> _Folder:
    """Returns the model from which an ONNX model was exported; the folder itself where that is not known."""
    if not folder.is_graph or folder.likeness is None:
        return folder
    alike = [one for one in folders if not one.is_graph and one.likeness == folder.likeness]
    return alike[0] if len({one.version for one in alike}) == 1 else folder


def _ensembles(folders: Sequence[_Folder]) -> list[list[_Folder]]:
    """Returns the members of every ensemble in their order; those that were exported as one of their own."""
    groups: dict[tuple[Path, str], dict[int, _Folder]] = {}
    for folder in folders:
        if found := _MEMBER.fullmatch(folder.path.parent.name):
            group = groups.setdefault((folder.path.parent.parent, folder.path.name), {})
            group[int(found[1])] = folder
    return [[group[number] for number in sorted(group)] for group in groups.values() if len(group) > 1]


def _folders(near: Sequence[Path]) -> list[_Folder]:
    """Returns the reward models in and below folders, each once, in a stable order."""
    found: dict[Path, _Folder] = {}
    for top in near:
        for pattern in ("", "*/", "*/*/", "*/*/*/"):
            for file in sorted(top.glob(f"{pattern}{MANIFEST}"))[:_MOST_FOLDERS]:
                if file.parent not in found and (manifest := _manifest(file)) is not None:
                    found[file.parent] = _Folder(file.parent, manifest)
    return list(found.values())


def _manifest(file: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(file.read_bytes())
        known = {key: body[key] for key in ("version", "gain", "bias", "max_sequence_tokens", "files")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if isinstance(known["files"], dict) else None
