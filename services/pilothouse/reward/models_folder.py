"""``reward.models_folder``: which folders may be staged; ``serving.json`` in it names the promoted ones."""

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from pilothouse.errors import (
    ConfigError,
    CorruptDataError,
    InvalidRequestError,
    PreconditionError,
    StorageFullError,
    UnsafeModelError,
)
from pilothouse.reward.backends.combine import Combination
from pilothouse.reward.backends.composite import COMPOSITE, PLAIN, Recipe
from pilothouse.reward.config import CombinationName, RewardConfig, ScorerConfig

SERVING = "serving.json"
"""Name of the file that says what was promoted."""

MAX_MEMBERS = 16
"""Most folders of one ensemble."""

_NAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Spec:
    """A reward model as staged: one folder, or the members of an ensemble."""

    folders: tuple[str, ...]
    """Inside ``reward.models_folder``, without links on the way."""
    combine: CombinationName = "weighted"
    """How an ensemble's members are combined; `weighted` for a single folder."""
    std_factor: float = 0.0
    """Factor of `mean_minus_std`."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What ``serving.json`` says."""

    spec: Spec
    version: str
    """Version that the reward model had when it was promoted."""


class ModelsFolder:
    """The folder under which reward models may be staged."""

    def __init__(self, root: Path) -> None:
        """Finds the folder.

        Raises:
            ConfigError: It is none.
        """
        if not root.is_dir():
            raise ConfigError(f"reward.models_folder {root} is no folder; make it, or name another")
        self._root = root.resolve()
        self._file = self._root / SERVING

    @property
    def file(self) -> Path:
        """Where ``serving.json`` lies."""
        return self._file

    def spec(self, names: list[str], combine: CombinationName, std_factor: float) -> Spec:
        """Returns what a caller wants staged, with the true names of its folders.

        Raises:
            InvalidRequestError: There are none, too many or equal ones, or the factor is negative.
            UnsafeModelError: A name leads out of the folder.
        """
        if not 1 <= len(names) <= MAX_MEMBERS:
            raise InvalidRequestError(f"name 1 to {MAX_MEMBERS} folders, got {len(names)}")
        folders = tuple(self._inside(name) for name in names)
        if len(set(folders)) < len(folders):
            raise InvalidRequestError(
                f"a folder is named twice in {', '.join(folders)}; name each member once"
            )
        if not 0 <= std_factor < float("inf"):
            raise InvalidRequestError(f"std_factor must be 0 or more and finite, got {std_factor}")
        if len(folders) == 1:
            return Spec(folders)
        return Spec(folders, combine, std_factor if combine == "mean_minus_std" else 0.0)

    def paths(self, spec: Spec) -> list[Path]:
        """Returns where the folders of a reward model lie."""
        return [self._root / folder for folder in spec.folders]

    def recipe(self, spec: Spec, config: RewardConfig) -> Recipe:
        """Returns how to load a staged reward model.

        Args:
            spec: What to load.
            config: Device, threads, providers and the like, which are the configured scorer's.
        """
        scorers = [_scorer(path, config) for path in self.paths(spec)]
        if len(scorers) == 1:
            return Recipe(((PLAIN, 1.0, scorers[0]),), scorers[0].backend)
        parts = tuple((f"member-{number}", 1.0, scorer) for number, scorer in enumerate(scorers))
        return Recipe(parts, COMPOSITE, Combination(spec.combine, spec.std_factor))

    def promoted(self) -> Promoted | None:
        """Returns what was promoted last; None where the configured scorer serves.

        Raises:
            CorruptDataError: The file is not what this service writes, or names folders elsewhere.
        """
        try:
            body = json.loads(self._file.read_bytes())
            version, combine = str(body["version"]), body["combine"]
            if combine not in get_args(CombinationName):
                raise ValueError(f"combine is {combine!r}")
            return Promoted(self.spec(list(body["folders"]), combine, float(body["std_factor"])), version)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, UnsafeModelError) as error:
            raise CorruptDataError(f"{self._file} is damaged ({error}); {self.remedy}") from None

    @property
    def remedy(self) -> str:
        """What helps where the promoted model cannot be served."""
        return f"bring the folders back as they were, or remove {self._file} to serve the configured scorer"

    def record(self, promoted: Promoted | None) -> None:
        """Makes durable what serves after a restart; None for the configured scorer.

        Raises:
            StorageFullError: The disk is full.
            PreconditionError: The folder cannot be written to.
        """
        try:
            if promoted is None:
                self._file.unlink(missing_ok=True)
            else:
                _write(self._file, {"version": promoted.version, **asdict(promoted.spec)})
            _sync(self._root)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(
                    f"{self._file} cannot be written: the disk is full; free some"
                ) from None
            raise PreconditionError(
                f"{self._file} cannot be written ({error.strerror}); let the service write to that folder"
            ) from None

    def _inside(self, name: str) -> str:
        """Returns the true name of a folder, relative to this one."""
        shown = repr(name[:_NAME_CHARACTERS])
        if not name or len(name) > _NAME_CHARACTERS or "\0" in name or ".." in PurePosixPath(name).parts:
            raise UnsafeModelError(
                f"{shown} is no folder inside reward.models_folder; name one, without '..'"
            )
        try:
            path = (self._root / name).resolve()
        except (OSError, RuntimeError):  # a loop of links
            raise UnsafeModelError(f"{shown} cannot be followed; name a folder, not a link") from None
        if path == self._root or not path.is_relative_to(self._root):
            raise UnsafeModelError(
                f"{shown} leads out of reward.models_folder; copy the model there and name its folder"
            )
        return path.relative_to(self._root).as_posix()


def _scorer(folder: Path, config: RewardConfig) -> ScorerConfig:
    return ScorerConfig(
        backend="onnx" if (folder / "model.onnx").exists() else "torch",
        model=str(folder),
        providers=config.providers,
        require=config.require,
        device=config.device,
        dtype=config.dtype,
        threads=config.threads,
    )


def _write(file: Path, body: dict[str, Any]) -> None:
    """Writes beside and renames, so that a reader, or a crash, finds all of it or nothing."""
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as stream:
        stream.write((json.dumps(body, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
