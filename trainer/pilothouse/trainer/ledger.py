"""The sample ledger: the life of every drawn prompt, exactly once, in an append-only JSONL file.

Rows are written as things happen: ``drawn``, ``generated``, ``scored``, ``referenced``, then ``trained`` or
``dropped``. A ``step`` row commits a step and is synced before the step's checkpoint can exist. After a crash
or an abandoned step a ``rewind`` row says from which step and draw the run goes on; what came after that is
superseded: it never reached the weights that the run now has, and it is drawn again under the same ids.
"""

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from blake3 import blake3

from pilothouse.trainer.durable import cut_torn_line
from pilothouse.trainer.prompts import Draw

Span = tuple[int, int, int]
"""(epoch, version, tokens): so many tokens in a row come from that weight version."""


class Ledger:
    """Appends to a run's ledger. Any thread may; the run directory's lock keeps other processes out."""

    def __init__(self, file: Path) -> None:
        cut_torn_line(file)
        self._stream = file.open("ab")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *, run: str, mode: str, max_staleness: int, samples_per_prompt: int) -> None:
        """Notes what the run is, before anything else; a resumed run notes it again."""
        self._write(
            {
                "event": "run", "run": run, "mode": mode, "max_staleness": max_staleness,
                "samples_per_prompt": samples_per_prompt,
            }
        )  # fmt: skip

    def rewind(self, *, step: int, next_draw: int, epoch: int, why: str) -> None:
        """Notes that the run goes on after ``step`` with draw ``next_draw``; anything later is superseded."""
        self._write({"event": "rewind", "step": step, "next_draw": next_draw, "epoch": epoch, "why": why})
        self._sync()

    def drawn(self, draws: Sequence[Draw]) -> None:
        """Notes prompts taken from the data."""
        rows = [[draw.number, draw.prompt.id, draw.seed] for draw in draws]
        self._write({"event": "drawn", "draws": rows})

    def generated(self, samples: Mapping[str, Sequence[Span]]) -> None:
        """Notes finished samples by id, with the weight version of every token."""
        self._write({"event": "generated", "samples": {key: list(spans) for key, spans in samples.items()}})

    def scored(self, samples: Iterable[str], reward_version: str) -> None:
        """Notes which reward model scored which samples."""
        self._write({"event": "scored", "reward_version": reward_version, "samples": list(samples)})

    def referenced(self, samples: Iterable[str], reference_digest: str) -> None:
        """Notes which reference model gave log-probs to which samples."""
        self._write({"event": "referenced", "reference_digest": reference_digest, "samples": list(samples)})

    def dropped(self, samples: Iterable[str], reason: str) -> None:
        """Notes samples that no step will train on, and why."""
        self._write({"event": "dropped", "reason": reason, "samples": list(samples)})

    def trained(self, step: int, samples: Sequence[str], *, version: int, digest: str) -> None:
        """Notes the samples of a step, after its optimiser has moved.

        Args:
            step: The step, from 1.
            samples: Their ids.
            version: The trainer's weight version before the step.
            digest: Of the batch, see `batch_digest`; a repeated step can be compared by it.
        """
        self._write(
            {"event": "trained", "step": step, "version": version, "digest": digest, "samples": list(samples)}
        )

    def commit(self, step: int, *, epoch: int, version: int, next_draw: int) -> None:
        """Ends a step; durable when this returns.

        Args:
            step: The step, from 1.
            epoch: Fencing epoch.
            version: Version of the weights that the step made.
            next_draw: First draw that no committed step has used.
        """
        self._write(
            {"event": "step", "step": step, "epoch": epoch, "version": version, "next_draw": next_draw}
        )
        self._sync()

    def close(self) -> None:
        """Ends writing."""
        self._stream.close()

    def _write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n"
        with self._lock:
            self._stream.write(line.encode())
            self._stream.flush()

    def _sync(self) -> None:
        with self._lock:
            os.fsync(self._stream.fileno())


def batch_digest(arrays: Iterable[np.ndarray[Any, Any]]) -> str:
    """Returns a BLAKE3 digest, lower-case hex, of arrays in order: equal digests mean equal bits."""
    hasher = blake3()
    for array in arrays:
        hasher.update(str((array.dtype.str, array.shape)).encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
