"""A bench side as a process of its own: JSON requests on standard input, JSON answers on standard output.

Both sides stay loaded and take turns, so that drift of the machine's speed meets both alike. This module is
imported in every environment and uses the standard library only.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def serve(commands: dict[str, Callable[..., Any]]) -> None:
    """Answers requests until standard input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        result = commands[request.pop("command")](**request)
        answers.write(json.dumps(result) + "\n")


class Worker:
    """Handle on one side's process; ``with Worker(...) as side: side.call("run", ...)``."""

    def __init__(
        self, module: str, *arguments: str, python: Path | str = sys.executable, threads: int = 2
    ) -> None:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            [str(python), "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._collect_errors, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def call(self, command: str, **arguments: Any) -> Any:
        """Sends one request and waits for its answer.

        Raises:
            RuntimeError: The process ended; the text holds the end of its standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._reader.join(timeout=5)
            raise RuntimeError(f"{self._process.args} ended:\n{''.join(self._errors[-30:])}")
        return json.loads(answer)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _collect_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line)
            del self._errors[:-200]
