"""The run directory: where everything that a run leaves lies, owned by one process at a time.

::

    config.json        the effective configuration
    metrics.jsonl      one row per step, TRL's names
    samples.jsonl      a few samples per step
    ledger.jsonl       the life of every sample
    tensorboard/       event files
    checkpoints/       step_XXXXXXXX/, checkpoints.jsonl, best.json
    epoch.json         the fencing epoch last taken
    published.json     what the policy is to serve, and the newest weights on disk
    run.lock           held by the process that writes here

SFT and reward-model runs have neither samples, ledger nor epoch, and their result in ``model/``.
"""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pilothouse.config import Config
from pilothouse.errors import RunInUseError
from pilothouse.published import FILE, Published
from pilothouse.trainer.durable import to_json, write_atomic


class RunDir:
    """Paths of a run, and the lock that keeps a second trainer out."""

    def __init__(self, folder: Path) -> None:
        """Creates the folder if needed and takes its lock, which the kernel frees however the process ends.

        Raises:
            RunInUseError: Another process writes here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config_file = folder / "config.json"
        self.metrics_file = folder / "metrics.jsonl"
        self.samples_file = folder / "samples.jsonl"
        self.ledger_file = folder / "ledger.jsonl"
        self.tensorboard_folder = folder / "tensorboard"
        self.checkpoints_folder = folder / "checkpoints"
        self._epoch_file = folder / "epoch.json"
        self._lock = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._take_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._lock)

    def relative(self, path: Path) -> str:
        """Returns a path inside the run directory as status and clients name it."""
        return path.relative_to(self.folder).as_posix()

    def write_config(self, config: Config) -> None:
        """Writes the effective configuration."""
        write_atomic(self.config_file, to_json(config.model_dump(mode="json")))

    def write_published(self, published: Published) -> None:
        """Leaves a note for policies that start, see `pilothouse.published`."""
        write_atomic(self.folder / FILE, published.to_json())

    def take_epoch(self, above: int) -> int:
        """Returns a fencing epoch above every one of this run and ``above``, durable before it is used."""
        known = int(json.loads(self._epoch_file.read_text())["epoch"]) if self._epoch_file.exists() else 0
        epoch = max(known, above) + 1
        write_atomic(self._epoch_file, to_json({"epoch": epoch}))
        return epoch

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise RunInUseError(
                f"{self.folder} is being written by process {owner}; stop that run or name another folder"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
