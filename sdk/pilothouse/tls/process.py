"""The one identity of a process, taken up when it starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pilothouse.config import load_optional
from pilothouse.tls.config import Tls
from pilothouse.tls.files import Certificates

_own: Tls | None = None


def adopt(
    file: Path | None = None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Tls | None:
    """Makes section ``[tls]`` the identity of this process; None, and plaintext, where nobody mentions it.

    Every server and client that is made from now on has it, unless it is given another.

    Args:
        file: Configuration file.
        overrides: ``section.key=value`` settings.
        environment: Defaults to the process's own.

    Raises:
        ConfigError: A key is wrong or missing, or the files cannot be used; see `Certificates`.
    """
    global _own
    found = load_optional(Tls, "tls", file=file, overrides=overrides, environment=environment)
    if found is not None:
        Certificates(found)
    _own = found
    return found


def own() -> Tls | None:
    """Returns the identity that this process has adopted."""
    return _own
