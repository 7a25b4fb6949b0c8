"""Stages that leave their output in a folder of their own and are not done twice for the same inputs."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from pilothouse.errors import ConfigError
from pilothouse.trainer.durable import to_json, write_atomic

MARKER = "stage.json"
"""File in a stage's folder that says for which inputs it stands and, when done, what came out."""

Inputs = Mapping[str, Any]
Outputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage."""

    name: str
    folder: Path
    outputs: Outputs
    """JSON values for later stages and the report."""
    seconds: float
    """Work spent on it, over all attempts."""
    digest: str
    """Of its inputs; part of the inputs of later stages."""
    reused: bool
    """It was done by an earlier call."""


class Stages:
    """The stages of one run directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_done(self, name: str, inputs: Inputs) -> bool:
        """Returns whether the stage's output is there for these inputs."""
        marker = self._marker(name)
        return marker.get("digest") == identity(name, inputs) and "outputs" in marker

    def run(self, name: str, inputs: Inputs, work: Callable[[Path], Outputs]) -> Stage:
        """Returns the stage's output, made now unless it is there.

        Work that was cut off goes on in the folder it has begun; other inputs start in an empty one.

        Args:
            name: Also the folder's name.
            inputs: Everything that decides the output, as JSON.
            work: Fills the given folder and returns outputs as JSON.

        Raises:
            ConfigError: The folder holds something that is no stage.
        """
        digest, folder = identity(name, inputs), self._folder(name)
        marker = self._marker(name)
        if marker.get("digest") == digest and "outputs" in marker:
            return Stage(name, folder, marker["outputs"], marker["seconds"], digest, reused=True)
        if marker.get("digest") != digest:
            self._start_anew(folder, marker)
            marker = {"digest": digest, "seconds": 0.0}
        started, spent = time.monotonic(), float(marker["seconds"])
        _write(folder, marker)
        try:
            outputs = dict(work(folder))
        finally:
            seconds = spent + time.monotonic() - started
            _write(folder, {"digest": digest, "seconds": seconds})
        _write(folder, {"digest": digest, "seconds": seconds, "outputs": outputs})
        return Stage(name, folder, outputs, seconds, digest, reused=False)

    def _folder(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")

    def _marker(self, name: str) -> dict[str, Any]:
        file = self._folder(name) / MARKER
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def _start_anew(self, folder: Path, marker: Mapping[str, Any]) -> None:
        if folder.exists() and any(folder.iterdir()) and not marker:
            raise ConfigError(f"{folder} holds something that is no stage; choose another folder")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


def _write(folder: Path, marker: Mapping[str, Any]) -> None:
    write_atomic(folder / MARKER, to_json(dict(marker)))


def identity(name: str, inputs: Inputs) -> str:
    """Returns the digest of a stage's name and inputs."""
    return blake3(to_json({"name": name, "inputs": dict(inputs)})).hexdigest()
