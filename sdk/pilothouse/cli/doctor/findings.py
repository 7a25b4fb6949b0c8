"""What the doctor says about one thing."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What was looked at, for example ``port policy.server.port``."""
    level: Level
    """``error``: something will not work. ``warning``: it may matter."""
    detail: str
    """What was found."""
    mend: str = ""
    """What mends it; empty where nothing is wrong."""


def ok(check: str, detail: str) -> Finding:
    """Returns a finding without complaint."""
    return Finding(check, "ok", detail)
