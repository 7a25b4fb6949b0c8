"""Settings of a run over several ranks."""

from pydantic import Field

from pilothouse.config import Config


class RanksConfig(Config):
    """How ranks wait for each other; read only where the environment names more than one."""

    start_seconds: float = Field(default=600.0, gt=0)
    """How long ranks wait at the start until all have come."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """How long a rank waits for another that neither answers nor hangs up before it counts as lost; longer
    than the ranks' times for a minibatch differ."""
