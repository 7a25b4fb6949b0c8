"""The one identity of a process, known from where its configuration is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from pilothouse.config import load_optional
from pilothouse.tls.config import Tls
from pilothouse.tls.files import Certificates


class Source(TypedDict, total=False):
    """Where section ``tls`` may stand; see `pilothouse.config.load`."""

    file: Path | None
    overrides: Sequence[str]
    environment: Mapping[str, str] | None


_source: Source = {}
_read = False
_own: Tls | None = None


def configured(**source: Unpack[Source]) -> None:
    """Says where this process's configuration is; what is not given stays. Nothing is read before ``own``."""
    global _read
    _source.update(source)
    _read = False


def adopt(
    file: Path | None = None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Tls | None:
    """Takes section ``[tls]`` up now, so that what is wrong with it is told when the process starts.

    Args:
        file: Configuration file.
        overrides: ``section.key=value`` settings.
        environment: Defaults to the process's own.

    Raises:
        ConfigError: A key is wrong or missing, or the files cannot be used; see `Certificates`.
    """
    configured(file=file, overrides=overrides, environment=environment)
    tls = own()
    if tls is not None:
        Certificates(tls)
    return tls


def own() -> Tls | None:
    """Returns the identity of every server and client of this process that is not given another.

    It is read once, from where ``configured`` or ``adopt`` have said, else from the environment; None, and
    plaintext, where nobody mentions the section.

    Raises:
        ConfigError: A key is wrong or missing.
    """
    global _own, _read
    if not _read:
        _own = load_optional(Tls, "tls", **_source)
        _read = True
    return _own
