"""Shows an online PPO run as it goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pilothouse.trainer.display import Line
from pilothouse.trainer.loop import Observer
from pilothouse.trainer.samples import Sample

METRICS = ("objective/scores", "objective/kl", "response/length")
"""Metrics that people watch."""


class PpoLine(Observer):
    """Moves one line with every step."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._total = 0

    def on_start(self, step: int, total_steps: int, resumed: bool, redone: int) -> None:
        """Shows where the run goes on."""
        self._total = total_steps
        if resumed:
            self._line.show(step, total_steps, f"resumed after step {step}, {redone} steps redone")

    def on_step(self, step: int, metrics: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Shows score, KL and length."""
        self._line(
            step, self._total, {name.split("/")[1]: metrics[name] for name in METRICS if name in metrics}
        )

    def on_wait(self, service: str, seconds_left: float) -> None:
        """Shows who is missing."""
        self._line.say(f"waiting for {service}, {seconds_left:.0f} s left")

    def on_checkpoint(self, folder: Path, step: int) -> None:
        """Says nothing: the next step follows soon."""
