"""What a long job tells while it runs."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Hears of every step."""

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Takes note.

        Args:
            done: Steps done.
            total: Steps planned.
            metrics: Of the last step.
        """


def silent(done: int, total: int, metrics: Mapping[str, float]) -> None:
    """A `Progress` that says nothing."""
