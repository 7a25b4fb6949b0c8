"""``up``, ``down`` and ``status``: the services on this machine."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from pilothouse.cli.exits import Exit
from pilothouse.cli.options import ConfigFile, Json, Overrides
from pilothouse.cli.output import console, notices, progress, state_text, table, write_json
from pilothouse.cli.probe import Probe, probe_all
from pilothouse.local import detached
from pilothouse.local.events import ServiceStatus, StackEvent
from pilothouse.local.state import StackState, read_state
from pilothouse.local.supervisor import Supervisor, state_folder
from pilothouse.sections import check_names

Services = Annotated[
    list[str] | None,
    typer.Option("--service", metavar="NAME", help="Start only this service; may be repeated."),
]
Foreground = Annotated[
    bool, typer.Option("--foreground", help="Stay, show what happens, and stop the services on Ctrl-C.")
]
_VERSION_WIDTH = 22

Grace = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="Time to finish before everything is killed."),
]


def up(
    config: ConfigFile = None,
    overrides: Overrides = None,
    services: Services = None,
    foreground: Foreground = False,
    json: Json = False,
) -> None:
    """Starts the services on this machine.

    They run in the background, watched by a supervisor that restarts what dies, until `pilothouse down`.
    """
    settings = overrides or []
    check_names(config, settings)
    if foreground:
        Supervisor(config, settings, services, _tell).run()
        return
    with progress("starting") as tell:
        state = detached.start(config, settings, services, lambda news: tell(_summary(news.services)))
    if json:
        write_json(_document(state, str(state_folder(config, settings)), []))
    else:
        _show(state, [Probe() for _ in state.services])


def down(
    config: ConfigFile = None, overrides: Overrides = None, timeout: Grace = None, json: Json = False
) -> None:
    """Stops the services that `up` started.

    Running calls get time to finish; what does not end then is killed.
    """
    settings = overrides or []
    with progress("stopping"):
        state = detached.stop(config, settings, timeout)
    names = [service.name for service in state.services]
    if json:
        write_json({"stopped": names})
    else:
        console().print(Text(f"stopped {', '.join(names)}"))


def status(config: ConfigFile = None, overrides: Overrides = None, json: Json = False) -> None:
    """Shows the services that `up` started.

    Asks every one which model it serves. Exit status 1 if none runs or one of them is not serving.
    """
    settings = overrides or []
    folder = state_folder(config, settings)
    state = read_state(folder)
    if state is None or not state.is_alive:
        if json:
            write_json({"running": False, "folder": str(folder), "services": []})
        else:
            console().print(Text(f"no stack is running in {folder}; start one with `pilothouse up`"))
        raise typer.Exit(Exit.FAILED)
    probes = probe_all(state.services)
    if json:
        write_json(_document(state, str(folder), probes))
    else:
        _show(state, probes)
    if not state.is_serving or any(each.error for each in probes):
        raise typer.Exit(Exit.FAILED)


def _tell(event: StackEvent) -> None:
    notices().print(Text(event.text))


def _summary(services: Sequence[ServiceStatus]) -> str:
    return ", ".join(f"{service.name} {service.state}" for service in services) or "starting"


def _document(state: StackState, folder: str, probes: Sequence[Probe]) -> dict[str, Any]:
    services = [asdict(service) for service in state.services]
    for service, answer in zip(services, probes, strict=False):
        service.update(asdict(answer))
    return {"running": True, "folder": folder, "supervisor_pid": state.pid, "services": services}


def _show(state: StackState, probes: Sequence[Probe]) -> None:
    rows = table("service", "state", "pid", "address", "model", "version", "restarts")
    for service, answer in zip(state.services, probes, strict=True):
        rows.add_row(
            service.name,
            state_text("no answer" if answer.error else service.state),
            str(service.pid or "-"),
            Text("\n".join(f"{name} {target}" for name, target in service.targets.items())),
            Text(answer.model or answer.error or "-"),
            Text(_short(answer.version) or "-"),
            str(service.restarts),
        )
    console().print(rows)


def _short(version: str) -> str:
    """Cuts a digest for people; --json has all of it."""
    return version if len(version) <= _VERSION_WIDTH else f"{version[:_VERSION_WIDTH]}…"
