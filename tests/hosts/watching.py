"""What `watch.py` sees, as tests ask for it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Version = tuple[int, int]
LONGEST_SECONDS = 120


class Watch:
    """A process beside the policy that asks it all the time what it serves."""

    def __init__(self, on: Sequence[str], grpc: str, http: str) -> None:
        script = str(Path(__file__).with_name("watch.py"))
        self._process = subprocess.Popen([*on, sys.executable, script, grpc, http], stdout=subprocess.PIPE)
        self._changed = threading.Condition()
        self._now: dict[str, Any] = {}
        self._digests: dict[Version, set[str]] = {}
        self._probes: dict[Version, set[str]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_until(lambda now: True)

    @property
    def version(self) -> Version:
        """What serves now."""
        with self._changed:
            return _version(self._now["version"])

    def forget(self) -> None:
        """Forgets what has been seen so far, but for what serves now."""
        with self._changed:
            self._digests, self._probes = {}, {}
            self._note()

    def seen(self, epoch: int) -> dict[int, tuple[set[str], set[str]]]:
        """Returns all digests of weights, and of what they compute, by version of an epoch."""
        with self._changed:
            versions = sorted(self._digests.keys() | self._probes.keys())
            return {
                version: (self._digests.get((of, version), set()), self._probes.get((of, version), set()))
                for of, version in versions
                if of == epoch
            }

    def epochs(self) -> set[int]:
        """Returns the epochs of everything that has been seen."""
        with self._changed:
            return {epoch for epoch, _ in self._digests.keys() | self._probes.keys()}

    def wait_until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Returns when what is seen fulfils a condition."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: self._ended or (self._now and holds(self._now)), timeout=LONGEST_SECONDS
            )
        assert found, f"not seen within {LONGEST_SECONDS} s; the policy shows {self._now}"
        self.check()

    def check(self) -> None:
        """Makes sure that it has watched all the time."""
        assert self._process.poll() is None, "the watch ended: the policy did not answer beside it"

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._now = json.loads(line)
                self._note()
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _note(self) -> None:
        now = self._now
        self._digests.setdefault(_version(now["version"]), set()).add(now["digest"])
        self._probes.setdefault(_version(now["probe_version"]), set()).add(now["probe"])


def _version(pair: Sequence[int]) -> Version:
    epoch, version = pair
    return epoch, version
