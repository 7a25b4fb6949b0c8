"""Real processes that meet over gloo on loopback."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class Ranks:
    """Processes that run a program of this folder, each as one rank."""

    def __init__(self, program: str, size: int, **options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self._environment = os.environ | shared | {"OMP_NUM_THREADS": "1"} | options
        self._program = f"tests.trainer.ranks.{program}".split()
        self.processes = [self._start(rank) for rank in range(size)]

    def again(self, rank: int) -> "subprocess.Popen[str]":
        """Starts a rank once more."""
        self.processes.append(self._start(rank))
        return self.processes[-1]

    def _start(self, rank: int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", *self._program],
            cwd=ROOT,
            env=self._environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, rank: int, words: str) -> None:
        """Returns when a rank has said a line with these words."""
        stream = self.processes[rank].stdout
        assert stream is not None
        said = []
        for line in stream:
            said.append(line)
            if words in line:
                return
        raise AssertionError("".join(said))

    def outputs(self) -> list[str]:
        """Waits for all to end and returns what each has said since."""
        return [process.communicate()[0] for process in self.processes]

    @property
    def statuses(self) -> list[int]:
        """Exit status of each."""
        return [process.returncode for process in self.processes]


@pytest.fixture
def run_ranks() -> Iterator[Callable[..., Ranks]]:
    """``run_ranks(program and arguments, size, **environment)``."""
    begun: list[Ranks] = []

    def start(program: str, size: int, **options: str) -> Ranks:
        begun.append(Ranks(program, size, **options))
        return begun[-1]

    yield start
    for process in (process for ranks in begun for process in ranks.processes):
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
