"""Where the services are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilothouse.errors import UnavailableError
from pilothouse.local.services import SERVERS
from pilothouse.local.state import read_state
from pilothouse.local.supervisor import state_folder
from pilothouse.sections import load_section


def find(name: str, given: str | None, file: Path | None, overrides: Sequence[str]) -> str:
    """Returns a service's address: the given one, else the running stack's, else the configured one.

    Args:
        name: ``policy``, ``reward`` or ``reference``.
        given: What the user named.
        file: Configuration file.
        overrides: ``section.key=value`` settings.

    Raises:
        UnavailableError: None of the three is known.
    """
    if given:
        return given
    folder = state_folder(file, overrides)
    state = read_state(folder)
    if state is not None and state.is_alive:
        for service in state.services:
            if name in service.targets:
                return service.targets[name]
    section: Any = load_section(name, file=file, overrides=overrides)
    server = getattr(section, SERVERS[name][name])
    if server.port:
        return f"{server.host}:{server.port}"
    raise UnavailableError(
        f"no {name} service is known: no stack is running in {folder}; start one with `pilothouse up`, "
        "or give its address with --target HOST:PORT"
    )
