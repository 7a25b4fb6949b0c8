"""Where the services are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilothouse.errors import UnavailableError
from pilothouse.local.child import reachable
from pilothouse.local.services import SERVERS
from pilothouse.local.state import StackState, read_state
from pilothouse.local.supervisor import state_folder
from pilothouse.sections import check_names, load_section


def find(
    name: str, given: str | None, file: Path | None, overrides: Sequence[str], *, server: str | None = None
) -> str:
    """Returns a service's address: the given one, else the running stack's, else the configured one.

    Args:
        name: ``policy``, ``reward`` or ``reference``.
        given: What the user named.
        file: Configuration file.
        overrides: ``section.key=value`` settings.
        server: Which of its servers; None for the one that is named like the service.

    Raises:
        UnavailableError: None of the three is known.
        ConfigError: A setting is unknown or out of range, also where the address does not come from it.
    """
    mentioned = check_names(file, overrides)
    section: Any = load_section(name, file=file, overrides=overrides) if name in mentioned else None
    if given:
        return given
    folder = state_folder(file, overrides)
    state = read_state(folder)
    if state is not None and state.is_alive:
        for service in state.services:
            if (server or name) in service.targets:
                return service.targets[server or name]
    if section is not None and (settings := getattr(section, SERVERS[name][server or name])).port:
        return f"{reachable(settings.host)}:{settings.port}"
    raise UnavailableError(
        f"no {server or name} service is known: {_missing(name, state, folder)}, or give its address with "
        "--target HOST:PORT"
    )


def _missing(name: str, state: StackState | None, folder: Path) -> str:
    if state is None or not state.is_alive:
        return f"no stack is running in {folder}; start one with `pilothouse up`"
    if any(service.name == name for service in state.services):
        return (
            f"the {name} service in {folder} has this port closed; `pilothouse config show` has the settings "
            "that open it, such as reward.models_folder"
        )
    running = ", ".join(service.name for service in state.services) or "no service yet"
    return (
        f"the stack in {folder} runs {running} and no {name}; add '{name}' to local.services and call "
        "`pilothouse down` and `pilothouse up`"
    )
