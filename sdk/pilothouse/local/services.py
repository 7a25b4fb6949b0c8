"""What embedded mode knows of a service: its module and the servers in its configuration."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.errors import ConfigError
from pilothouse.sections import load_section


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server of a service."""

    name: str
    """Name in `LocalStack.targets`, for example ``weights``."""
    key: str
    """Where its ``ServerConfig`` stands in the configuration, for example ``policy.weights_server``."""
    host: str = "127.0.0.1"
    """Address it listens on."""
    port: int = 0
    """gRPC port that the configuration asks for; 0 lets the stack choose."""
    http_port: int = -1
    """HTTP port that the configuration asks for; 0 lets the stack choose, -1 is none."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process to start."""

    name: str
    """Name for people and files."""
    command: tuple[str, ...]
    """Program and arguments; ``--set key=value`` for the ports is added behind."""
    endpoints: tuple[Endpoint, ...]
    """Its gRPC servers."""


SERVERS: Mapping[str, Mapping[str, str]] = {
    "policy": {"policy": "server", "weights": "weights_server"},
    "reward": {"reward": "server", "reward-models": "models_server"},
    "reference": {"reference": "server"},
    "feedback": {"feedback": "server"},
}
"""Service → name of the target → key of its server in the service's section."""


def configured(name: str, *, file: Path | None = None, overrides: Sequence[str] = ()) -> Service:
    """Returns a service as the configuration describes it; checks its section before anything is started.

    Raises:
        ConfigError: The section has an error, or the service's package misses a library.
    """
    if name not in SERVERS:
        raise ConfigError(f"there is no service '{name}'; services are {', '.join(SERVERS)}")
    try:
        section: Any = load_section(name, file=file, overrides=overrides)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name} needs {error.name}; pip install 'pilothouse[{name}]'") from None
    command = [sys.executable, "-m", f"pilothouse.{name}"]
    if file is not None:
        command += ["--config", str(file.resolve())]
    for override in overrides:
        command += ["--set", override]
    endpoints = []
    for target, key in SERVERS[name].items():
        if key in getattr(section, "closed_servers", ()):
            continue
        server = getattr(section, key)
        endpoints.append(Endpoint(target, f"{name}.{key}", server.host, server.port, server.http_port))
    return Service(name, tuple(command), tuple(endpoints))
