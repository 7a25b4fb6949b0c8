"""Checkpoints that are complete or are not used.

A checkpoint is written beside the others under a temporary name: files, ``MANIFEST.json`` with a BLAKE3 digest of
each, ``COMMITTED`` with the manifest's own digest last; every file and folder is synced before the rename that makes
it visible. Reading verifies all digests; a broken checkpoint is skipped with a warning and the one before it is used.
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
        target = self.folder / f"step_{step:08d}"
        staged = self.folder / f".step_{step:08d}.tmp"
        self._clear(staged)
        staged.mkdir()
        write(staged)
        self._disk.write(staged / STATE, to_json(dict(state)))
        digest = self._seal(staged, step)
        if target.exists():  # taken before a resume from an older one; the new one replaces it
            self._clear(self.folder / f".{target.name}.old")
            self._disk.rename(target, self.folder / f".{target.name}.old")
        self._disk.rename(staged, target)
        row = {"step": step, "folder": target.name, "digest": digest, "score": score, "status": "saved"}
        append_rows(self.folder / INDEX, [row], self._disk)
        self._point_to_best(step, target.name, score)
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
        file = self.folder / BEST
        return str(json.loads(file.read_text())["folder"]) if file.exists() else None

    def forget_after(self, step: int) -> None:
        """Drops what is known of steps above ``step``: a resume takes them again."""
        file = self.folder / BEST
        if not file.exists() or json.loads(file.read_text())["step"] <= step:
            return
        present = {folder.name for folder in self.folders()}
        rows = [
            row
            for row in read_rows(self.folder / INDEX)
            if row["status"] == "saved" and row["step"] <= step and row["score"] is not None
        ]
        rows = [row for row in rows if row["folder"] in present]
        file.unlink()
        if rows:
            best = max(rows, key=lambda row: (row["score"], row["step"]))
            self._write_best(best["step"], best["folder"], best["score"])

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

    def _point_to_best(self, step: int, name: str, score: float | None) -> None:
        if score is None:
            return
        file = self.folder / BEST
        if not file.exists() or score > json.loads(file.read_text())["score"]:
            self._write_best(step, name, score)

    def _write_best(self, step: int, name: str, score: float) -> None:
        pointer = to_json({"step": step, "folder": name, "score": score})
        write_atomic(self.folder / BEST, pointer, self._disk)

    def _prune(self) -> None:
        kept = {folder.name for folder in self.folders()[-self._keep_last :]} | {self.best()}
        for folder in self.folders():
            if folder.name not in kept:
                # Renamed first: a crash amid the removal must not leave a folder that looks like a checkpoint.
                self._disk.rename(folder, self.folder / f".{folder.name}.old")
                append_rows(self.folder / INDEX, [{"folder": folder.name, "status": "pruned"}], self._disk)
        for remains in [*self.folder.glob(".step_*.old"), *self.folder.glob(".step_*.tmp")]:
            self._disk.remove(remains)

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


def _entry(file: Path) -> dict[str, Any]:
    hasher = blake3()
    hasher.update_mmap(file)
    return {"bytes": file.stat().st_size, "blake3": hasher.hexdigest()}
