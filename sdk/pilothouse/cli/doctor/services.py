"""Looks at the running stack, and calls every service once."""

from collections.abc import Iterator
from pathlib import Path

from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.cli.doctor.tls import explain
from pilothouse.cli.probe import probe_all
from pilothouse.local.state import StackState, read_state
from pilothouse.tls import Tls


def running_stack(folder: Path) -> StackState | None:
    """Returns the stack that runs in ``folder``."""
    state = read_state(folder)
    return state if state is not None and state.is_alive else None


def check_services(folder: Path, tls: Tls | None = None) -> Iterator[Finding]:
    """Calls every service of the stack once.

    Args:
        folder: State folder of the stack.
        tls: This process's identity.
    """
    state = read_state(folder)
    if state is None:
        yield ok("stack", f"not running in {folder}")
        return
    if not state.is_alive:
        if state.failure:
            yield Finding("stack", "warning", f"the last start failed: {state.failure}", "pilothouse up")
        else:
            mend = "pilothouse up"
            yield Finding("stack", "warning", f"its supervisor (pid {state.pid}) was killed", mend)
        return
    yield ok("stack", f"running in {folder}, supervisor pid {state.pid}")
    for service, answer in zip(state.services, probe_all(state.services), strict=True):
        check = f"service {service.name}"
        if service.state != "serving":
            yield Finding(check, "error", f"{service.state}: {service.detail}", f"see {service.log}")
            continue
        if answer.error:
            detail, mend = explain(service.targets[service.name], tls)
            detail, mend = detail or answer.error, mend or "`pilothouse down`, then `up`"
            yield Finding(check, "error", detail, f"see {service.log}; {mend}")
        else:
            milliseconds = answer.round_trip_seconds * 1000
            detail = f"{answer.model} ({answer.version}), round trip {milliseconds:.0f} ms"
            if service.restarts:
                mend = f"see {service.log} for why it was lost"
                yield Finding(check, "warning", f"{detail}, restarted {service.restarts} times", mend)
            else:
                yield ok(check, detail)
