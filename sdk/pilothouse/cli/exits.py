"""Exit statuses of every command."""

from enum import IntEnum

from pilothouse.errors import (
    ConfigError,
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    ModelNotFoundError,
    PilothouseError,
    QueueFullError,
    UnavailableError,
    UnsafeModelError,
    UnsupportedArchitectureError,
)


class Exit(IntEnum):
    """What a script can rely on."""

    OK = 0
    """Done, and what was asked about holds."""
    FAILED = 1
    """A condition failed: not running, not healthy, a gate ended the run, an internal error."""
    USAGE = 2
    """The command line, the configuration, the data or the model is wrong; trying again will not help."""
    UNAVAILABLE = 75
    """A service cannot be reached or is overloaded (EX_TEMPFAIL); trying again may help."""
    INTERRUPTED = 130
    """Ctrl-C, a signal, or a caller who stopped the run: what there is was saved, the run is not done."""


_USAGE = (
    ConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    UnsafeModelError,
    UnsupportedArchitectureError,
)
_UNAVAILABLE = (UnavailableError, DrainingError, QueueFullError, DeadlineExceededError)


def exit_of(error: PilothouseError) -> Exit:
    """Returns the status with which a command ends on ``error``."""
    if isinstance(error, _USAGE):
        return Exit.USAGE
    return Exit.UNAVAILABLE if isinstance(error, _UNAVAILABLE) else Exit.FAILED
