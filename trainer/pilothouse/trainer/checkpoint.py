"""Checkpoints that are complete or are not used.

A checkpoint is written beside the others under a temporary name: files, ``MANIFEST.json`` with a BLAKE3
digest of each, ``COMMITTED`` with the manifest's own digest last; every file and folder is synced before the
rename that makes it visible. Reading verifies all digests; a broken checkpoint is skipped with a warning, and
the one before it is used.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from blake3 import blake3

from pilothouse.errors import CorruptCheckpointError
from pilothouse.trainer.durable import Disk, append_rows, cut_torn_line, read_rows, to_json, write_atomic

MANIFEST = "MANIFEST.json"
COMMITTED = "COMMITTED"
STATE = "state.json"
INDEX = "checkpoints.jsonl"
BEST = "best.json"
FORMAT = 1
"""Raised when older code could no longer read the folder."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete, verified checkpoint."""

    folder: Path
    step: int
    state: Mapping[str, Any]
    """Content of ``state.json``."""


class CheckpointStore:
    """The checkpoints of one run: newest ``keep_last``, and the best one."""

    def __init__(self, folder: Path, *, keep_last: int, disk: Disk | None = None) -> None:
        """Opens the store.

        Args:
            folder: Created if missing; ``checkpoints.jsonl`` and ``best.json`` lie in it as well.
            keep_last: Newest checkpoints kept, at least 1.
            disk: For tests.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._keep_last = keep_last
        self._disk = disk or Disk()
        cut_torn_line(folder / INDEX)

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        write: Callable[[Path], None],
        *,
        score: float | None = None,
    ) -> Path:
        """Writes a checkpoint and then drops old ones.

        Args:
            step: Step after which it is taken.
            state: JSON of everything that is not a tensor.
            write: Fills the given, existing folder with files.
            score: What "best" compares, higher is better; None takes no part.

        Returns:
            The folder, durable.
        """
        target = self.folder / _name(step)
        staged = self.folder / f".{target.name}.tmp"
        self._clear(staged)
        staged.mkdir()
        write(staged)
        self._disk.write(staged / STATE, to_json(dict(state)))
        digest = self._seal(staged, step)
        if target.exists():
            self._set_aside(target)
        self._disk.rename(staged, target)
        row = {"step": step, "folder": target.name, "digest": digest, "score": score, "status": "saved"}
        append_rows(self.folder / INDEX, [row], self._disk)
        best = self._best()
        if score is not None and (best is None or score > best["score"]):
            self._point_to(step, target.name, score)
        self._prune()
        return target

    def latest(self) -> Checkpoint | None:
        """Returns the newest complete checkpoint, or None; warns of each broken one it passes over."""
        for folder in reversed(self.folders()):
            try:
                return read_checkpoint(folder)
            except CorruptCheckpointError as error:
                _log.warning("broken checkpoint skipped", checkpoint=folder.name, problem=str(error))
                row = {"folder": folder.name, "status": "broken", "problem": str(error)}
                append_rows(self.folder / INDEX, [row], self._disk)
        return None

    def folders(self) -> list[Path]:
        """Returns the visible checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step_*") if path.is_dir())

    def best(self) -> str | None:
        """Returns the folder name of the best checkpoint so far."""
        best = self._best()
        return str(best["folder"]) if best else None

    def forget_after(self, step: int) -> None:
        """Sets aside checkpoints of steps above ``step``: they are broken, and the steps are taken again."""
        for folder in self.folders():
            if folder.name > _name(step):
                self._set_aside(folder)
        if (best := self._best()) and best["step"] > step:
            (self.folder / BEST).unlink()
            present = {folder.name for folder in self.folders()}
            saved = (row for row in read_rows(self.folder / INDEX) if row["status"] == "saved")
            rows = [row for row in saved if row["folder"] in present and row["score"] is not None]
            if rows:
                row = max(rows, key=lambda row: (row["score"], row["step"]))
                self._point_to(row["step"], row["folder"], row["score"])

    def _seal(self, folder: Path, step: int) -> str:
        """Syncs every file, writes manifest and marker, and returns the manifest's digest."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = {}
        for path in files:
            self._disk.sync(path)
            entries[path.relative_to(folder).as_posix()] = _entry(path)
        manifest = to_json({"format": FORMAT, "step": step, "files": entries})
        digest = blake3(manifest).hexdigest()
        self._disk.write(folder / MANIFEST, manifest)
        for inner in (path for path in folder.rglob("*") if path.is_dir()):
            self._disk.sync(inner)
        self._disk.sync(folder)
        self._disk.write(folder / COMMITTED, f"{digest}\n".encode())
        self._disk.sync(folder)
        return digest

    def _best(self) -> dict[str, Any] | None:
        file = self.folder / BEST
        return json.loads(file.read_text()) if file.exists() else None

    def _point_to(self, step: int, name: str, score: float) -> None:
        pointer = to_json({"step": step, "folder": name, "score": score})
        write_atomic(self.folder / BEST, pointer, self._disk)

    def _prune(self) -> None:
        kept = {folder.name for folder in self.folders()[-self._keep_last :]} | {self.best()}
        for folder in self.folders():
            if folder.name not in kept:
                self._set_aside(folder)
                append_rows(self.folder / INDEX, [{"folder": folder.name, "status": "pruned"}], self._disk)
        for remains in [*self.folder.glob(".step_*.old"), *self.folder.glob(".step_*.tmp")]:
            self._disk.remove(remains)

    def _set_aside(self, folder: Path) -> None:
        """Renames a checkpoint: a crash amid its removal must not leave what looks like one."""
        aside = self.folder / f".{folder.name}.old"
        self._clear(aside)
        self._disk.rename(folder, aside)

    def _clear(self, folder: Path) -> None:
        if folder.exists():
            self._disk.remove(folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Verifies a checkpoint byte for byte and returns it.

    Raises:
        CorruptCheckpointError: A file is missing, foreign or changed, or the format is a newer one.
    """
    manifest = _read_manifest(folder)
    if manifest.get("format") != FORMAT:
        raise CorruptCheckpointError(
            f"{folder} has format {manifest.get('format')}, this version reads {FORMAT}"
        )
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected: dict[str, Any] = manifest["files"]
    if extra := sorted(present - expected.keys() - {MANIFEST, COMMITTED}):
        raise CorruptCheckpointError(
            f"{folder} has files that its manifest does not name: {', '.join(extra)}"
        )
    for name, entry in expected.items():
        if name not in present:
            raise CorruptCheckpointError(f"{folder / name} is missing; use an older checkpoint")
        if _entry(folder / name) != entry:
            raise CorruptCheckpointError(f"{folder / name} is not what was written; use an older checkpoint")
    return Checkpoint(folder, int(manifest["step"]), json.loads((folder / STATE).read_text()))


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        marker = (folder / COMMITTED).read_text().strip()
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise CorruptCheckpointError(f"{folder} is incomplete: no {Path(error.filename).name}") from None
    if blake3(data).hexdigest() != marker:
        raise CorruptCheckpointError(f"{folder / MANIFEST} is not what {COMMITTED} vouches for")
    manifest: dict[str, Any] = json.loads(data)
    return manifest


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _entry(file: Path) -> dict[str, Any]:
    hasher = blake3()
    hasher.update_mmap(file)
    return {"bytes": file.stat().st_size, "blake3": hasher.hexdigest()}
