"""Asks a policy, beside it and all the time, what it serves; and what tests want to know of the answers.

Run as a script, ``watch.py GRPC HTTP``, it writes a line whenever something has changed: the model's version
and digest, a digest of the log-probs that the weights give one sequence, with the version of these, and how
many completions run.
"""

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.request import urlopen

from pilothouse.client import PolicyClient

PROBE = list(range(1, 33))
PAUSE_SECONDS = 0.03
LONGEST_SECONDS = 240

Version = tuple[int, int]
"""(epoch, version)."""


class Watch:
    """The script as a process of its own, and everything that it has seen."""

    def __init__(self, on: Sequence[str], grpc: str, http: str) -> None:
        """Starts it; ``on`` goes before the command, so that it runs on another host."""
        self._process = subprocess.Popen([*on, sys.executable, __file__, grpc, http], stdout=subprocess.PIPE)
        self._changed = threading.Condition()
        self._now: dict[str, Any] = {}
        self._digests: dict[Version, set[str]] = {}
        self._probes: dict[Version, set[str]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._wait_until(lambda: bool(self._now))

    @property
    def version(self) -> Version:
        """What serves now."""
        with self._changed:
            return _version(self._now["version"])

    def wait_for_version(self, version: int) -> None:
        """Returns when this version, of whichever epoch, serves."""
        self._wait_until(lambda: self._now["version"][1] == version)

    def wait_for_answers_to(self, version: int) -> None:
        """Returns when this version serves and completions run."""
        self._wait_until(lambda: self._now["version"][1] == version and self._now["running"] > 0)

    def forget(self) -> None:
        """Forgets what it has seen, but for what serves now."""
        with self._changed:
            self._digests, self._probes = {}, {}
            self._note()

    def digests(self) -> dict[Version, set[str]]:
        """Returns the digests that every version had."""
        with self._changed:
            return dict(self._digests)

    def probes(self) -> dict[Version, set[str]]:
        """Returns what every version made of the same sequence: more than one thing if it was torn."""
        with self._changed:
            return dict(self._probes)

    def check(self) -> None:
        """Makes sure that it has always been answered."""
        assert self._process.poll() is None, "the policy did not answer beside it"

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
        self._reader.join()

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            found = self._changed.wait_for(lambda: self._ended or holds(), timeout=LONGEST_SECONDS)
        self.check()
        assert found, f"not within {LONGEST_SECONDS} s; now the policy shows {self._now}"

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
        self._digests.setdefault(_version(self._now["version"]), set()).add(self._now["digest"])
        self._probes.setdefault(_version(self._now["probe_version"]), set()).add(self._now["probe"])


def _version(pair: Sequence[int]) -> Version:
    epoch, version = pair
    return epoch, version


def observations(grpc: str, http: str) -> Iterator[dict[str, Any]]:
    """Yields what the policy shows, for ever."""
    with PolicyClient(grpc) as policy:
        policy.wait_ready(LONGEST_SECONDS)
        while True:
            model, probe = policy.model(), policy.logprobs([PROBE], [1])
            with urlopen(f"http://{http}/metrics") as page:
                running = _value("pilothouse_policy_running", page.read().decode())
            yield {
                "version": (model.epoch, model.version),
                "digest": model.digest,
                "probe_version": (probe.epoch, probe.version),
                "probe": hashlib.sha256(probe.rows[0].tobytes()).hexdigest(),
                "running": running,
            }
            time.sleep(PAUSE_SECONDS)


def _value(name: str, page: str) -> float:
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


if __name__ == "__main__":
    last: dict[str, Any] = {}
    for now in observations(*sys.argv[1:]):
        if now != last:
            print(json.dumps(now), flush=True)
            last = now
