"""Settings of embedded mode."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pilothouse.config import Config

ServiceName = Literal["policy", "reward", "reference", "feedback"]


class LocalConfig(Config):
    """Which services run as child processes, and how they are looked after."""

    services: tuple[ServiceName, ...] = ("policy", "reward", "reference")
    """Services to start; ``feedback`` is the one with the page where people rank."""
    state_dir: Path = Path(".pilothouse")
    """Folder of the state file and the logs of `pilothouse up`; two stacks need two folders."""
    start_timeout_seconds: float = Field(default=300.0, gt=0)
    """Longest wait until every service has loaded its model and is serving. A service that is started again
    and takes longer is killed and started once more."""
    stop_timeout_seconds: float = Field(default=10.0, ge=0)
    """Time a service has to finish running calls after SIGTERM before it is killed."""
    backoff_seconds: float = Field(default=0.25, gt=0)
    """Wait before the first restart of a lost service; doubles with every further loss."""
    max_backoff_seconds: float = Field(default=15.0, gt=0)
    """Longest wait before a restart."""
    healthy_seconds: float = Field(default=60.0, gt=0)
    """A service that has been serving for so long starts again with the first backoff."""
    health_interval_seconds: float = Field(default=1.0, ge=0)
    """Time between two health checks of a serving service; 0 checks only that the process lives."""
    frozen_after_seconds: float = Field(default=3.0, gt=0)
    """A health check that takes longer counts as no answer."""
    restart_frozen_after_seconds: float = Field(default=0.0, ge=0)
    """A service without an answer for so long is killed and started again; 0 never."""

    @model_validator(mode="after")
    def _each_service_once(self) -> Self:
        if not self.services or len(set(self.services)) != len(self.services):
            raise ValueError("name at least one service, and each of them once")
        if self.max_backoff_seconds < self.backoff_seconds:
            raise ValueError("max_backoff_seconds is below backoff_seconds")
        return self
