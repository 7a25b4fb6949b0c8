"""Where the feedback service is, for its commands."""

from pathlib import Path

from pilothouse.cli.targets import find
from pilothouse.client import FeedbackClient


def connect(
    target: str | None, timeout: float, config: Path | None, overrides: list[str] | None
) -> FeedbackClient:
    """Returns a client of the given service, else of the one that `up` started.

    Raises:
        UnavailableError: No feedback service is known.
    """
    return FeedbackClient(find("feedback", target, config, overrides or []), timeout_seconds=timeout)
