"""What happens in an embedded stack, for people and for the trainer."""

from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal["starting", "serving", "lost", "frozen", "answering", "failed", "stopped"]
"""``lost``: the process ended and will be started again. ``frozen``: it lives but does not answer;
``answering``: it does again. ``failed``: it ended before it ever served, and will not be started again."""

State = Literal["starting", "serving", "frozen", "waiting", "failed", "stopped"]
"""State of a service; ``waiting`` is the pause before a restart."""


@dataclass(frozen=True, slots=True)
class StackEvent:
    """One change in the life of a service."""

    service: str
    """Which one."""
    kind: EventKind
    """What happened."""
    text: str
    """The same as a line for people, for example "policy lost (signal 9), restart 1 in 0.25 s"."""
    unix_seconds: float
    """When."""
    pid: int | None = None
    """Process concerned."""
    restarts: int = 0
    """How often the service was started again so far."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service as its supervisor sees it."""

    name: str
    """Which one."""
    state: State
    """Where it is in its life."""
    pid: int | None
    """Process id; None while there is none."""
    restarts: int
    """How often it was started again."""
    targets: dict[str, str] = field(default_factory=dict)
    """Name of each of its servers → ``host:port``."""
    http: str | None = None
    """``host:port`` of its health and metrics port."""
    log: str = ""
    """Log file."""
    detail: str = ""
    """What happened last, as a line for people."""
