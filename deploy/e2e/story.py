"""Steps with a name, a time and a verdict, kept as JSON from the first on."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Step:
    """One step of the run."""

    name: str
    seconds: float = 0.0
    verdict: str = "running"
    found: dict[str, Any] = field(default_factory=dict)
    """What was measured."""


class Story:
    """Writes ``summary.json`` whenever a step begins or ends."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._began = time.monotonic()
        self.steps: list[Step] = []
        self.facts: dict[str, Any] = {}
        """What holds for the whole run."""

    @property
    def passed(self) -> bool:
        """Whether every step so far has."""
        return all(step.verdict == "passed" for step in self.steps)

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Times what is inside, which may note what it finds; an exception is the verdict, and goes on."""
        step, began = Step(name), time.monotonic()
        self.steps.append(step)
        self._write()
        sys.stdout.write(f"{name} ... ")
        sys.stdout.flush()
        try:
            yield step.found
            step.verdict = "passed"
        except BaseException as error:
            step.verdict = f"failed: {error or type(error).__name__}"
            raise
        finally:
            step.seconds = round(time.monotonic() - began, 1)
            self._write()
            sys.stdout.write(f"{step.verdict}, {step.seconds} s{_shown(step.found)}\n")

    def _write(self) -> None:
        content = {
            "passed": self.passed,
            "seconds": round(time.monotonic() - self._began, 1),
            **self.facts,
            "steps": [asdict(step) for step in self.steps],
        }
        self._file.write_text(json.dumps(content, indent=2) + "\n")


def _shown(found: dict[str, Any]) -> str:
    return "".join(f"\n    {name}: {value}" for name, value in found.items())
